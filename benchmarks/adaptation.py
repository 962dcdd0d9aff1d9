"""Evaluation that adapts to the text compared with another commit's, in turns: times as fast, by CPU time.

    python benchmarks/adaptation.py --before CHECKOUT [NAME …]

``dynamic`` is dynamic evaluation with rms in segments of 20 tokens, ``dynamic-tied`` the same with one matrix for
embedding and head, ``rms`` the measurement of gradients before it, ``cache`` and ``cache-2000`` the cache alone,
``tune`` the search for its settings, ``plain`` one exact stream, ``table`` the way from a scored text to the table of
surprisal on disk. The model is an LSTM 2×200 of 10,000 types with random weights, the text words by rank. The figures
of both sides must agree to a relative 1e-6, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow import parquet
from turns import median_seconds, serve, take_turns, times_as_fast

NOW, BEFORE = "now", "before"
VOCAB_SIZE, HIDDEN_SIZE = 10_000, 200
# tokens of a round; for rms, of the text that gradients are measured on
TOKENS = {"dynamic": 400, "dynamic-tied": 400, "rms": 2400, "cache": 4096, "cache-2000": 4096, "tune": 2560,
          "plain": 2048, "table": 4096}  # fmt: skip
TOLERANCE = 1e-6


def text_of(num_tokens: int) -> Any:
    """Words distributed by Zipf's law."""
    shares = 1 / np.arange(1, VOCAB_SIZE + 1)
    drawn = np.random.default_rng(1).choice(VOCAB_SIZE, num_tokens, p=shares / shares.sum())
    return drawn.astype(np.uint16)


def model_of(*, tie_weights: bool = False) -> Any:
    from pipeline.config import ModelConfig
    from pipeline.model.language_model import LanguageModel

    torch.manual_seed(1)
    config = ModelConfig(hidden_size=HIDDEN_SIZE, num_layers=2, init_range=0.1, tie_weights=tie_weights)
    return LanguageModel(config, VOCAB_SIZE).eval()


def scoring(what: str) -> Callable[[], float]:
    """A round of ``plain``, ``dynamic`` or ``rms``."""
    from pipeline.data.scoring import ScoringStreams
    from pipeline.data.windows import ArrayTokens
    from pipeline.evaluate import dynamic
    from pipeline.evaluate.score import total
    from pipeline.options import DynamicSettings
    from pipeline.scoring import scored_windows

    model, text = model_of(tie_weights=what.endswith("tied")), ArrayTokens(text_of(TOKENS[what] + 1))
    if what == "plain":
        windows = ScoringStreams(text, num_streams=1, bptt=256)
        return lambda: total(scored_windows(model, windows.windows()))[0]
    segments = ScoringStreams(text, num_streams=1, bptt=20)
    if what == "rms":
        batches = ScoringStreams(text, num_streams=20, bptt=20)
        return lambda: sum(float(part.double().sum()) for part in dynamic.gradient_rms(model, batches))
    rms = dynamic.gradient_rms(model, segments)
    return lambda: total(dynamic.follow(model, segments, DynamicSettings(), rms))[0]


def remembering(what: str) -> Callable[[], float]:
    """A round of ``cache`` or ``tune``, over randomly drawn hidden vectors."""
    from pipeline.data.windows import Window
    from pipeline.evaluate.cache import tune_cache, with_cache
    from pipeline.options import CacheSettings
    from pipeline.scoring import Scored

    torch.manual_seed(1)
    parts = []
    for start, ids in enumerate(text_of(TOKENS[what]).astype(np.int64).reshape(-1, 256, 1)):
        window = Window(
            inputs=ids, targets=ids, position=256 * start, next_position=256 * start + 256, begins=start == 0
        )
        parts.append(Scored(window, 0.5 * torch.randn(256, 1, HIDDEN_SIZE).tanh(), 8 * torch.rand(256, 1)))
    if what == "tune":
        return lambda: sum(vars(tune_cache(parts)).values())
    settings = CacheSettings(window=2000 if what == "cache-2000" else 500)
    return lambda: float(sum(part.nats.sum() for part in with_cache(parts, settings)))


def table() -> Callable[[], float]:
    """A round of making and writing the rows of a scored text."""
    from pipeline.config import TokenizerConfig
    from pipeline.data.tokenizer import train_tokenizer
    from pipeline.data.windows import ArrayTokens
    from pipeline.evaluate import HeldOut
    from pipeline.evaluate.reading import Reading
    from pipeline.evaluate.surprisal import write_rows
    from pipeline.scoring import Scored

    words = [f"{rank}th" for rank in text_of(TOKENS["table"]).tolist()]
    tokenizer = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=4000), [" ".join(words)], num_documents=1)
    ids = tokenizer.encode_document(" ".join(words))[: TOKENS["table"]]
    reading = Reading(tokenizer, HeldOut(ArrayTokens(ids), None))
    torch.manual_seed(1)
    parts = []
    for window in reading.windows():
        shape = window.targets.shape
        masses = torch.rand(*shape, 3).log_softmax(-1)
        parts.append(Scored(window, torch.zeros(*shape, 1), 8 * torch.rand(shape), torch.rand(shape), masses))
    folder = tempfile.TemporaryDirectory()

    def round_of() -> float:
        path = f"{folder.name}/table.parquet"
        write_rows(path, reading.rows(parts))
        return float(np.abs(parquet.read_table(path)["nats"].to_numpy()).sum())

    return round_of


def round_of(what: str) -> Callable[[], float]:
    from pipeline.allocator import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()  # as every command does
    if what == "table":
        return table()
    return remembering(what) if what in ("cache", "cache-2000", "tune") else scoring(what)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*TOKENS, []], default=[])
    parser.add_argument("--before", required=True, type=Path, help="a checkout of another commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        sys.path.insert(0, str(arguments.before if arguments.worker == BEFORE else Path(__file__).parents[1]))
        serve(round_of(arguments.what[0]), clock=time.process_time)
        return
    print("| | now, µs a token | times as fast: medians, fastest, neighbours | figures differ by |\n|---|---|---|---|")
    for what in arguments.what or TOKENS:
        path = f"--before={arguments.before.resolve()}"
        rounds = take_turns(__file__, [what, path], [NOW, BEFORE], rounds=arguments.rounds, warm_up=1)
        figures = [rounds[name][0][1] for name in (NOW, BEFORE)]
        off = abs(figures[0] / figures[1] - 1)
        times = ", ".join(f"{ratio:.2f}" for ratio in times_as_fast(rounds[NOW], rounds[BEFORE]))
        print(f"| {what} | {1e6 * median_seconds(rounds[NOW]) / TOKENS[what]:.1f} | {times} | {off:.1e} |", flush=True)
        if not off < TOLERANCE:
            raise SystemExit(f"{what}: the two sides compute different figures: {figures}")


if __name__ == "__main__":
    main()
