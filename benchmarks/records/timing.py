"""The training time of a token for a record and for its peer, in turns, and how many times as fast the record is.

    python benchmarks/records/timing.py ptb-100 --text penn-treebank --peer ../examples/word_language_model

Each runs in its own process and makes updates on one window of the track's text after another, without validations.
The record keeps the memory that it frees, as every command here does; a peer does so only if it is a recipe.
``--peer`` is a copy of pytorch/examples word_language_model (without it, a version written here is used) or of
salesforce/awd-lstm-lm, which is required. ``--before`` is another checkout of this project, on whose code a peer that
is a recipe runs. The tokens to the target are those of the log beside the recipe, or ``--tokens``.
Letters: T time, B streams.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tracks import FOLDER, SEEDS, Track, load_recipe, parser, read_log, recipe_of, tracks

sys.path.append(str(FOLDER.parent))  # scripts there import each other

import peers
from training_step import SETTINGS
from turns import cpu_name, in_turns, serve

from pipeline.allocator import keep_freed_memory
from pipeline.compare.speed import TrainingWindows, endless
from pipeline.config import Config, ModelConfig, load, with_values
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import PreparedCorpus, open_prepared
from pipeline.data.streams import Streams
from pipeline.errors import UserError
from pipeline.model.language_model import LanguageModel
from pipeline.paths import absolute
from pipeline.resources import Worker

RECORD, PEER = "record", "peer"
CPU = torch.device("cpu")


def ours(config: Config, corpus: PreparedCorpus, *, threads: int, windows: int) -> Callable[[], float]:
    """A round of updates of a run of this project; returns its tokens."""
    keep_freed_memory()
    step = TrainingWindows(config, corpus, Worker(CPU, num_threads=threads))
    return lambda: float(step(windows))


def peer(track: Track, config: Config, corpus: PreparedCorpus, arguments: argparse.Namespace) -> Callable[[], float]:
    """A round of updates of the track's peer; returns its tokens."""
    how = track.peer
    kind, folder = how["kind"], arguments.peer
    if kind in ("recipe", "plain_loop"):
        other = with_values(load(FOLDER / how["recipe"]), {"train.precision": "float32", **how.get("settings", {})})
        if kind == "plain_loop":
            return plain_loop(other, corpus, windows=arguments.windows)
        return ours(other, corpus, threads=arguments.threads, windows=arguments.windows)
    if kind == "awd_lstm":
        if folder is None:
            raise UserError("--peer: missing; this track's peer is a copy of salesforce/awd-lstm-lm")
        setting = SETTINGS["awd"]
        sizes = setting.config(dropout=True)
        model = LanguageModel(sizes, corpus.vocab_size)
        step = peers.awd_lstm(
            model, sizes, folder=folder, batch_size=setting.batch_size, lr=1e-9, clip_norm=setting.clip_norm,
            weight_decay=setting.weight_decay, penalties=setting.penalties, autocast=contextlib.nullcontext,
        )  # fmt: skip
        return rounds(step, corpus, batch_size=setting.batch_size, bptt=setting.bptt, windows=arguments.windows)
    sizes = ModelConfig(
        cell="lstm", hidden_size=how["hidden_size"], num_layers=2, dropout=how["dropout"], tie_weights=True
    )
    step = peers.word_language_model(
        LanguageModel(sizes, corpus.vocab_size), sizes, folder=folder, batch_size=20, lr=1e-9, clip_norm=0.25,
        optimizer="sgd", autocast=contextlib.nullcontext,
    )  # fmt: skip
    return rounds(step, corpus, batch_size=20, bptt=35, windows=arguments.windows)


def plain_loop(config: Config, corpus: PreparedCorpus, *, windows: int) -> Callable[[], float]:
    """A round of ``plain_loop.py``: nn.LSTM, cross_entropy, RMSProp, clipping by value."""
    from plain_loop import Plain, update

    sizes, train = config.model, config.train
    model = Plain(LanguageModel(sizes, corpus.vocab_size), sizes.cell, sizes.hidden_size, sizes.num_layers)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-9, alpha=config.optimizer.beta2)
    state: Any = None

    def step(inputs: torch.Tensor, targets: torch.Tensor) -> float:
        nonlocal state
        loss, state = update(model, optimizer, inputs, targets, state, clip_value=train.clip_value or 1.0)
        return float(loss.item())

    return rounds(step, corpus, batch_size=train.batch_size, bptt=train.bptt, windows=windows)


def rounds(
    step: peers.Step, corpus: PreparedCorpus, *, batch_size: int, bptt: int, windows: int
) -> Callable[[], float]:
    """Rounds of ``windows`` steps on (T, B) windows of the training split; each returns its tokens."""
    config = Config().train.model_copy(update={"batch_size": batch_size, "bptt": bptt})
    parts: Iterator[Any] = endless(Streams.of(corpus.splits["train"], config))

    def a_round() -> float:
        num_tokens = 0
        for window in islice(parts, windows):
            inputs, targets = (torch.from_numpy(ids).contiguous() for ids in (window.inputs, window.targets))  # (T, B)
            step(inputs, targets)
            num_tokens += inputs.numel()
        return float(num_tokens)

    return a_round


def main() -> None:
    command = parser(__doc__ or "", folder_of="the prepared text")
    command.add_argument("--tokens", type=int, help="that the recipe needs to reach the target, if it has no log")
    command.add_argument("--peer", metavar="DIR", help="folder of a copy of the peer")
    command.add_argument("--before", type=Path, metavar="TREE", help="checkout on whose code a peer's recipe runs")
    command.add_argument("--rounds", type=int, default=15)
    command.add_argument("--windows", type=int, default=4, help="updates in a round")
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--worker", choices=[RECORD, PEER], help=argparse.SUPPRESS)
    arguments = command.parse_args()
    track = tracks()[arguments.track]
    try:
        measure(track, arguments)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


def measure(track: Track, arguments: argparse.Namespace) -> None:
    """As a worker, serve rounds; otherwise prepare the text, ask the workers in turns, and print the result."""
    folder = str(arguments.to / f"data-{track.name}")
    recipe = arguments.recipe or recipe_of(track)
    config = absolute(load_recipe(track, recipe, arguments.text, {"data.directory": folder}))
    if config.train.changes:
        raise UserError(f"{recipe}: train.changes: a recipe whose settings change has no single time of a token")
    if arguments.worker:
        torch.set_num_threads(arguments.threads)
        corpus = open_prepared(config.data.directory)
        size = {"threads": arguments.threads, "windows": arguments.windows}
        serve(ours(config, corpus, **size) if arguments.worker == RECORD else peer(track, config, corpus, arguments))
        return
    tokens = arguments.tokens or tokens_in_log(track, recipe.with_suffix(".csv"))
    prepare_in_process(config)
    commands = {name: [sys.executable, __file__, *sys.argv[1:], "--worker", name] for name in (RECORD, PEER)}
    environments = {RECORD: dict(os.environ), PEER: environment_of_peer(track, arguments.before)}
    found = in_turns(commands, rounds=arguments.rounds, warm_up=2, environments=environments)
    each = {name: [1e3 * seconds / tokens for seconds, tokens in one] for name, one in found.items()}  # ms a token
    print(f"{cpu_name()}, torch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds in turns")
    for name, times in each.items():
        print(f"{name}: {statistics.median(times):.4f} ms a token ({min(times):.4f} to {max(times):.4f})")
    ratio = statistics.median(b / a for a, b in zip(each[RECORD], each[PEER], strict=True))
    print(f"a token of the record takes 1/{ratio:.2f} of the peer's time")
    of_peer = track.peer.get("tokens") or track.peer.get("at_least")
    if tokens and of_peer:
        least = "" if track.peer.get("tokens") else "at least "
        print(f"to the target: {tokens:,} tokens, the peer's {least}{of_peer:,}: "
              f"{least}{ratio * of_peer / tokens:.1f} times as fast")  # fmt: skip
    else:
        print(f"to the target: the tokens of the {'peer' if tokens else 'recipe'} are not known")


def environment_of_peer(track: Track, before: Path | None) -> dict[str, str]:
    """The environment of the peer's process, which imports this project from the checkout ``before`` if there is one.

    Raises:
        UserError: the peer is no recipe, or ``before`` no checkout.
    """
    if before is None:
        return dict(os.environ)
    if track.peer["kind"] != "recipe":
        raise UserError(f"--before: the peer of {track.name} is no recipe of this project")
    if not (before / "pipeline").is_dir():
        raise UserError(f"--before: {before} is no checkout of this project: it has no folder pipeline")
    return {**os.environ, "PYTHONPATH": str(before.resolve())}


def tokens_in_log(track: Track, log: Path) -> int | None:
    """The most tokens that a seed needs to the target, by the log of a recipe; None without a log.

    Raises:
        UserError: a seed of a record is missing in it or misses the target.
    """
    if not log.is_file():
        return None
    validations = read_log(log)
    needed = [track.tokens_to_target(validations, seed) for seed in SEEDS]
    if None in needed:
        raise UserError(f"{log}: seed {SEEDS[needed.index(None)]} does not reach {track.at_most} in it")
    return max(tokens for tokens in needed if tokens is not None)


if __name__ == "__main__":
    main()
