"""Held-out tokens scored a second: ``python benchmarks/evaluation.py --run DIR [--tokens N] [--repeat R]``.

The first N validation tokens, in turn: fed one by one as in a plain loop, exactly on one stream, and on 20 streams
with a burn-in. Medians, with the perplexities; the first two must agree to a relative 1e-4, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable

import torch

from pipeline import run
from pipeline.data.streams import ResetRule
from pipeline.data.windows import ArrayTokens
from pipeline.evaluate import HeldOut, evaluate, split_held_out
from pipeline.model.language_model import LanguageModel
from pipeline.training import checkpoint

TOLERANCE = 1e-4  # of the perplexities, relative


@torch.inference_mode()
def token_by_token(model: LanguageModel, text: HeldOut) -> float:
    """Perplexity from a loop over single tokens, without resets."""
    ids = torch.from_numpy(text.tokens[0 : len(text.tokens)].astype("int64"))
    state, nats = model.initial_state(1), 0.0
    for current, following in itertools.pairwise(ids.tolist()):
        hidden, state = model(torch.tensor([[current]]), state)
        nats += float(model.head.loss(hidden, torch.tensor([[following]])))
    return math.exp(nats / (len(ids) - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    loaded = checkpoint.load_model(checkpoint.find(arguments.run))
    settings = loaded.config.train
    whole = split_held_out(run.corpus_of(loaded), "valid").tokens
    text = HeldOut(ArrayTokens(whole[0 : min(arguments.tokens, len(whole))]), None)

    def streams(number: int, burn_in: int = 0) -> Callable[[], float]:
        return lambda: (
            evaluate(
                loaded.model, text, streams=number, bptt=settings.bptt, burn_in=burn_in, reset=ResetRule()
            ).perplexity
        )

    variants: dict[str, Callable[[], float]] = {
        "token by token": lambda: token_by_token(loaded.model, text),
        "one stream": streams(1),
        "20 streams": streams(20),
        "20 streams, burn-in 64": streams(20, 64),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    found: dict[str, float] = {}
    for _ in range(arguments.repeat):
        for name, variant in variants.items():
            start = time.perf_counter()
            found[name] = variant()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{len(text.tokens) - 1:,} tokens, {torch.get_num_threads()} threads, medians of {arguments.repeat}")
    print("| | tokens/s | times token by token | perplexity | off the exact |\n|---|---|---|---|---|")
    for name, value in medians.items():
        off = 100 * (found[name] / found["one stream"] - 1)
        ratio = medians["token by token"] / value
        print(f"| {name} | {(len(text.tokens) - 1) / value:,.0f} | {ratio:.2f} | {found[name]:.3f} | {off:+.3f} % |")
    if not abs(found["one stream"] / found["token by token"] - 1) < TOLERANCE:
        raise SystemExit("one stream has another perplexity than token by token: the two do not compute the same")


if __name__ == "__main__":
    main()
