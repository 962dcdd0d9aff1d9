"""Sentences about where recurrent variants are better than one that attends, and where they are not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from pipeline.compare.findings import GroupFindings, Row
from pipeline.compare.significance import Difference
from pipeline.compare.speed import Timing
from pipeline.compare.wording import factor, figure, p_of
from pipeline.evaluate import Group

# costs within this factor of each other are called alike
ALIKE = 1.05
MEGA = 1e6
# parts of the text with fewer tokens are not mentioned
LEAST_TOKENS = 500
# parts of the held-out text, and how sentences name them
PARTS = (("depths", "after {} tokens of context"), ("frequencies", "on tokens seen {} times in training"))


def where_wins(found: GroupFindings, other: Row) -> Iterator[str]:
    """Where recurrent variants are better than ``other``, which attends."""
    yield from (better(found.pairs, row, other, "at equal tokens") for row in winners(found.pairs, found, other))
    yield from (
        better(found.time_pairs, row, other, "at equal time") for row in winners(found.time_pairs, found, other)
    )
    yield from cheaper(found, other, is_won=True)
    for name, what in PARTS:
        yield from by_part(found, other, name, what)


def where_not(found: GroupFindings, other: Row) -> Iterator[str]:
    """Where ``other`` is better than every recurrent variant, or than some."""
    for pairs, how in ((found.pairs, "at equal tokens"), (found.time_pairs, "at equal time")):
        beaten = [pair for pair in pairs if pair.first == other.name and pair.is_significant]
        if beaten:
            named = ", ".join(f"{pair.second} by {pair.nats:.4f}" for pair in reversed(beaten))
            yield f"{other.name} is significantly better {how} than {named} nats a token."
    yield from cheaper(found, other, is_won=False)
    for name, what in PARTS:
        yield from parts_of_other(found, other, name, what)


def winners(pairs: Sequence[Difference], found: GroupFindings, other: Row) -> list[Row]:
    """Recurrent variants that are significantly better than ``other``, the best first."""
    names = {pair.first for pair in pairs if pair.second == other.name and pair.is_significant}
    return [row for row in found.rows if row.is_recurrent and row.name in names]


def better(pairs: Sequence[Difference], row: Row, other: Row, how: str) -> str:
    pair = next(pair for pair in pairs if (pair.first, pair.second) == (row.name, other.name))
    return (
        f"{row.name} is {pair.nats:.4f} nats a token better than {other.name} {how} (95 %: {pair.low:.4f} to "
        f"{pair.high:.4f}), a perplexity {1 - math.exp(-pair.nats):.1%} lower; {p_of(pair)}."
    )


def cheaper(found: GroupFindings, other: Row, *, is_won: bool) -> Iterator[str]:
    """Costs in which recurrent variants are below ``other`` (``is_won``) or above it: by ``ALIKE`` at least, and in
    every round."""
    for what, unit, scale, costs in costs_of(found.rows):
        base = costs.get(other.name)
        if base is None or not base.median:
            continue
        own = {row.name: costs.get(row.name) for row in found.rows if row.is_recurrent}
        ratios = {name: cost.median / base.median for name, cost in own.items() if cost and are_apart(cost, base)}
        chosen = {name: r for name, r in ratios.items() if r and (r < 1 / ALIKE if is_won else r > ALIKE)}
        if chosen:
            named = ", ".join(
                f"{name} {figure(ratio * base.median * scale)} ({factor(ratio)})"
                for name, ratio in sorted(chosen.items(), key=lambda item: item[1], reverse=not is_won)
            )
            yield f"{what}, {unit}: {named}, against {figure(base.median * scale)} for {other.name}."


def are_apart(one: Timing, other: Timing) -> bool:
    """Whether the slowest round of one was quicker than the quickest of the other."""
    return one.high < other.low or other.high < one.low


def costs_of(rows: Sequence[Row]) -> Iterator[tuple[str, str, float, dict[str, Timing | None]]]:
    """Each cost, the less the better: its name, its unit, the factor that converts figures to it, the figures."""
    yield "Training time of 1,000 tokens", "ms", 1e6, {row.name: row.cost.training for row in rows}
    length = max(rows[0].cost.peaks)
    peaks = {row.name: None if (peak := row.cost.peaks.get(length)) is None else Timing.of([peak]) for row in rows}
    yield f"Peak memory of training with windows of {length:,} tokens", "MB", 1 / MEGA, peaks
    contexts = sorted(rows[0].cost.contexts)
    for context in dict.fromkeys((contexts[0], contexts[-1])):
        after = {row.name: row.cost.contexts[context] for row in rows}
        times: dict[str, Timing | None] = {name: cost.timing for name, cost in after.items()}
        yield f"Time of one more token after {context:,}", "ms", 1e3, times
    state: dict[str, Timing | None] = {name: Timing.of([cost.state_bytes]) for name, cost in after.items()}
    yield f"State that holds {contexts[-1]:,} tokens of context", "kB", 1e-3, state


def by_part(found: GroupFindings, other: Row, name: str, what: str) -> Iterator[str]:
    """Parts of the text in which a recurrent variant has the lowest loss of all. These are not tested."""
    best: dict[str, dict[str, float]] = {}
    for part, losses in losses_by_part(found, name):
        first = min(losses, key=lambda key: losses[key])
        if found.row(first).is_recurrent:
            best.setdefault(first, {})[part.name] = losses[other.name] - losses[first]
    for first, gains in best.items():
        yield lowest_in_parts(first, gains, what, than=other.name)


def parts_of_other(found: GroupFindings, other: Row, name: str, what: str) -> Iterator[str]:
    """Parts of the text in which ``other`` has the lowest loss of all, and its gain over the best recurrent one."""
    gains = {
        part.name: min(losses[row.name] for row in found.rows if row.is_recurrent) - losses[other.name]
        for part, losses in losses_by_part(found, name)
        if min(losses, key=lambda key: losses[key]) == other.name
    }
    if gains:
        yield lowest_in_parts(other.name, gains, what, than="the best recurrent variant there")


def lowest_in_parts(name: str, gains: Mapping[str, float], what: str, *, than: str) -> str:
    """``gru has the lowest loss after 1 (0.5 nats below lstm), 2 to 3 (0.1) tokens of context; not tested.``"""
    parts = [f"{part} ({gain:.3f})" for part, gain in gains.items()]
    parts[0] = f"{parts[0][:-1]} nats below {than})"
    return f"{name} has the lowest loss {what.format(', '.join(parts))}; not tested."


def losses_by_part(found: GroupFindings, name: str) -> Iterator[tuple[Group, dict[str, float]]]:
    """Each of the ``frequencies`` or ``depths`` with enough tokens, and the loss of every variant in it."""
    several = {row.name: row.parts(name) for row in found.rows}
    for index, part in enumerate(next(iter(several.values()))):
        if part.tokens < LEAST_TOKENS:
            continue
        yield part, {variant: mean_of(parts[index]) for variant, parts in several.items()}


def mean_of(part: Group) -> float:
    return part.nats / part.tokens
