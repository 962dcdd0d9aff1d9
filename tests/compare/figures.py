"""Made-up findings of a comparison in which every figure is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.compare.costs import Cost
from pipeline.compare.findings import Findings, Row, group_findings
from pipeline.compare.plan import Comparison, Group
from pipeline.compare.scores import Scored
from pipeline.compare.speed import AfterContext, Timing
from pipeline.compare.variants import Variant
from pipeline.compare.widths import Size, Sized
from pipeline.config import CompareConfig
from pipeline.evaluate import Group as Part

NUM_UNITS, UNIT_TOKENS = 30, 100.0
GROUP = Group(1_000_000, 5_000_000)


def scored(loss: float, *, noise: int = 0, first: float | None = None) -> Scored:
    """A score with ``loss`` nats per token; ``first``: the loss of tokens after a single one."""
    unit = np.random.default_rng(noise).normal(0.0, 2.0, NUM_UNITS)
    nats = (loss * UNIT_TOKENS + unit - unit.mean()).tolist()
    total = NUM_UNITS * UNIT_TOKENS
    parts = [Part(1, 1, 1_000 * (first or loss + 1), 1_000), Part(2, 3, 2_000 * loss, 2_000)]
    return Scored(
        "step-00000001", loss * total, int(total), int(total), "30 stretches of 100 tokens", nats,
        [UNIT_TOKENS] * NUM_UNITS, [Part(1, 9, 400 * loss, 400)], parts,
    )  # fmt: skip


def cost(*, seconds: float, peak: int = 1_000_000, late: float = 1e-3, state: int = 1_000) -> Cost:
    """``seconds``: the time of a token in training; ``late``: of one after 10,000 tokens of context."""
    contexts = {
        10: AfterContext(Timing(1e-3, 1e-3, 1e-3), state),
        10_000: AfterContext(Timing(late, late, late), state),
    }
    return Cost(Timing(seconds, seconds * 0.9, seconds * 1.1), {32: peak // 2, 256: peak}, contexts)


def row(
    name: str, losses: Sequence[float], costs: Cost, *, cell: str = "lstm", parameters: int = 1_000_000,
    group: Group = GROUP, first: float | None = None,
) -> Row:  # fmt: skip
    variant = Variant(name, {"model.cell": cell})
    curve = [(group.tokens // 2, losses[0] + 0.2), (group.tokens, losses[0])]
    scores = {seed: scored(loss, noise=seed, first=first) for seed, loss in enumerate(losses, 1)}
    return Row(group, Sized(variant, group.target, 100, Size(parameters, 800_000)), {}, scores,
               dict.fromkeys(scores, curve), costs, cell)  # fmt: skip


def findings(
    rows: Sequence[Row], *, seconds: float | None = None, no_laws: Mapping[str, str] | None = None
) -> Findings:
    compare = CompareConfig(seeds=list(range(1, 1 + max(len(row.losses) for row in rows))), seconds=seconds)
    comparison = Comparison(compare, [row.sized for row in rows], [GROUP.tokens], None, [], "lstm")
    found = group_findings(comparison, GROUP, rows)
    return Findings([found], {}, no_laws or {}, "valid", "30 stretches of 100 tokens", "2 threads of a CPU", "all",
                    len(compare.seeds), "made up")  # fmt: skip


def three_rows() -> list[Row]:
    """An LSTM and a GRU that are equally good, and a Transformer that is worse, with more memory and slower tokens."""
    return [
        row("lstm", [1.500, 1.501, 1.499], cost(seconds=2e-5)),
        row("gru", [1.5005, 1.4995, 1.5015], cost(seconds=1e-5, peak=900_000), cell="gru", parameters=995_000),
        row("attends", [1.600, 1.601, 1.599], cost(seconds=2e-5, peak=4_000_000, late=8e-3, state=2_000_000),
            cell="transformer", parameters=1_004_000, first=2.0),
    ]  # fmt: skip
