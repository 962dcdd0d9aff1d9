"""Context use compared with plain scoring: ``python benchmarks/context.py --model words|characters [--rounds R]``.

In turns: one scoring of 50,000 tokens on 20 streams; context use of 1,000 targets at 12 contexts up to 300 (dropped,
shuffled, replaced; each includes the whole context of every target); and one run for each target and context, measured
on a few targets and scaled up. Weights and text are random, which does not matter to the time. Medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from turns import cpu_name

from pipeline.config import ModelConfig
from pipeline.context_use import measure
from pipeline.context_use.places import choose_targets, usual_contexts
from pipeline.data.windows import ArrayTokens
from pipeline.evaluate import HeldOut, evaluate
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel

MODELS = {"words": (650, 10_000), "characters": (256, 100)}
NUM_TOKENS, STREAMS, BPTT = 50_001, 20, 100
TARGETS, LONGEST, FEW = 1000, 300, 5


def one_by_one(model: LanguageModel, tokens: ArrayTokens, contexts: list[int]) -> None:
    """Score a few targets with a run for each context."""
    ids = torch.from_numpy(tokens.array)
    places = choose_targets(len(tokens), TARGETS, before=LONGEST).places
    with evaluating(model):
        for place in places[:: len(places) // FEW][:FEW].tolist():
            for context in contexts:
                hidden, _ = model(ids[place - context : place, None], model.initial_state(1))
                model.head.token_nats(hidden[-1:], ids[place : place + 1, None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=list(MODELS), required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip", nargs="*", default=[], help="names to leave out")
    arguments = parser.parse_args()
    size, vocab_size = MODELS[arguments.model]
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(cell="lstm", hidden_size=size, num_layers=2), vocab_size)
    tokens = ArrayTokens(np.random.default_rng(1).integers(vocab_size, size=NUM_TOKENS))
    contexts = usual_contexts(LONGEST)

    def use(change: str, *, within: float = 0.1) -> Callable[[], object]:
        return lambda: measure(model, tokens, contexts=contexts, changes=[change], num_targets=TARGETS, within=within)

    variants: dict[str, Callable[[], object]] = {
        "scoring": lambda: evaluate(model, HeldOut(tokens, None), streams=STREAMS, bptt=BPTT),
        "dropped": use("dropped"),
        "dropped, k exactly": use("dropped", within=0),
        "shuffled": use("shuffled"),
        "replaced": use("replaced"),
        "one by one": lambda: one_by_one(model, tokens, contexts),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants if name not in arguments.skip}
    for _ in range(arguments.rounds):
        for name in seconds:
            start = time.perf_counter()
            variants[name]()
            passed = time.perf_counter() - start
            seconds[name].append(passed * TARGETS / FEW if name == "one by one" else passed)
    print(f"LSTM 2×{size}, {vocab_size:,} types, {torch.get_num_threads()} threads of {cpu_name()}, {contexts}")
    print("| | s, median | times one scoring |\n|---|---|---|")
    scoring = seconds["scoring"]
    for name, values in seconds.items():
        ratio = statistics.median(value / base for value, base in zip(values, scoring, strict=True))
        print(f"| {name} | {statistics.median(values):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
