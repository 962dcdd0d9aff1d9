"""Exported models: the cost of a token by context, compared with an equal Transformer's, and surprisal in Python.

    python benchmarks/export.py             # needs the extra hf

An LSTM 2×650 and a GPT-2 from transformers, 20 million random parameters each, V 10,000, batch 1, ``generate`` with
its own cache. Variants take turns in their own processes; the figure is the median over tokens and rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from turns import serve, take_turns

from pipeline import config as configuration
from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import ByteTokenizer, train_tokenizer
from pipeline.data.windows import ArrayTokens
from pipeline.evaluate.held_out import HeldOut
from pipeline.evaluate.surprisal import surprisal_rows, write_rows
from pipeline.export.checks import offline
from pipeline.export.hugging_face import export_hugging_face
from pipeline.interface import Model
from pipeline.model.language_model import LanguageModel
from pipeline.training.checkpoint import Loaded

VOCAB_SIZE, NEW_TOKENS = 10_000, 33
GENERATING = {"lstm, 10 tokens before": 10, "lstm, 10,000": 10_000, "gpt2, 4,000": 4_000}
SCORING = ["the interface", "jobs.evaluate --surprisal"]


def lstm(folder: Path) -> Any:
    """The exported LSTM, read by transformers."""
    tokenizer = train_tokenizer(
        TokenizerConfig(kind="word"), [" ".join(map(str, range(VOCAB_SIZE - 2)))], num_documents=1
    )
    settings = {"tokenizer.kind": "word", "model.hidden_size": 650, "model.embedding_size": 650}
    config = configuration.with_values(configuration.load(), settings)
    loaded = Loaded(LanguageModel(config.model, VOCAB_SIZE).eval(), tokenizer, config, {}, folder)
    export_hugging_face(loaded, folder, num_texts=20, license_name="unknown")
    with offline() as transformers:
        return transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)


def gpt2() -> Any:
    """A Transformer with as many parameters."""
    with offline() as transformers:
        shape = {"n_embd": 384, "n_layer": 8, "n_head": 6, "n_positions": 4_096, "vocab_size": VOCAB_SIZE}
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape)).eval()


class Clock:
    """Notes when each token was written: ``generate`` asks it after each whether to stop."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return torch.zeros(len(ids), dtype=torch.bool)


def milliseconds_per_token(model: Any, num_before: int) -> float:
    """The median over the tokens after the first."""
    clock = Clock()
    ids = torch.randint(2, VOCAB_SIZE, (1, num_before), generator=torch.Generator().manual_seed(0))
    how = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "stopping_criteria": [clock]}
    model.generate(ids, max_new_tokens=NEW_TOKENS, **how)
    return 1e3 * statistics.median(b - a for a, b in zip(clock.times, clock.times[1:], strict=False))


def memory_of_the_past(model: Any, num_before: int) -> int:
    """Bytes of the state, or of the cache, after ``num_before`` tokens."""
    with torch.no_grad():
        cache = model(torch.full((1, num_before), 5), use_cache=True).cache
    parts = [
        part for layer in cache.layers for part in (layer if isinstance(layer, tuple) else (layer.keys, layer.values))
    ]
    return sum(part.numel() * part.element_size() for part in parts)


def worker(name: str) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if name in GENERATING:
            model = gpt2() if name.startswith("gpt2") else lstm(Path(folder) / "model")
            serve(lambda: milliseconds_per_token(model, GENERATING[name]))
        else:
            serve(lambda: scored(name, Path(folder)))


def scored(name: str, folder: Path) -> float:
    """The number of scored tokens of a text of bytes; the caller measures how long this takes."""
    torch.manual_seed(0)
    config = configuration.with_values(configuration.load(), {"model.hidden_size": 256, "tokenizer.kind": "byte"})
    tokenizer = ByteTokenizer("document")
    model = LanguageModel(config.model, tokenizer.vocab_size).eval()
    text = "A class is created by a class definition.\n" * 500
    if name == SCORING[0]:
        (found,) = Model(Loaded(model, tokenizer, config, {}, folder)).surprisal([text])
        return len(found.nats)
    tokens = ArrayTokens(tokenizer.encode(text), torch.zeros(1, dtype=torch.int64).numpy())
    rows = surprisal_rows(model, tokenizer, HeldOut(tokens, None))
    return write_rows(str(folder / "rows.parquet"), rows)["token"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker")
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker)
        return
    found = take_turns(__file__, [], list(GENERATING), rounds=arguments.rounds, warm_up=1)
    figures = {name: statistics.median(value for _, value in rounds) for name, rounds in found.items()}
    for name, milliseconds in figures.items():
        print(f"{name}: {milliseconds:.2f} ms a token")
    short, long, transformer = figures.values()
    print(f"10,000 tokens before, beside 10: {long / short:.3f} (at most 1.1)")
    print(f"times as fast as the Transformer after 4,000: {transformer / long:.1f} (at least 5)")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = memory_of_the_past(lstm(Path(folder) / "model"), 4_000), memory_of_the_past(gpt2(), 4_000)
    print(f"memory of the past after 4,000: {ours:,} and {theirs:,} bytes, {ours / theirs:.5f} (at most 0.1)")
    scoring = take_turns(__file__, [], SCORING, rounds=arguments.rounds, warm_up=1)
    speeds = [statistics.median(tokens / seconds for seconds, tokens in scoring[name]) for name in SCORING]
    print(f"surprisal, tokens/s: {speeds[0]:,.0f} and {speeds[1]:,.0f}, {speeds[0] / speeds[1]:.2f} (at least 0.9)")


if __name__ == "__main__":
    sys.exit(main())
