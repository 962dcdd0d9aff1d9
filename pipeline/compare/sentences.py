"""What a comparison came to, in sentences that are made of its figures and say nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipeline.compare.findings import Findings, GroupFindings, Row
from pipeline.compare.scaling_law import Law
from pipeline.compare.significance import LEVEL, Difference
from pipeline.evaluate import Group

# costs that are nearer to each other than that are called alike
ALIKE = 1.05
MEGA = 1e6


def sentences(findings: Findings) -> dict[str, list[str]]:
    """Sentences under their headings, about the largest models and longest runs."""
    found = findings.main
    against = [row for row in found.rows if not row.is_recurrent]
    parts = {
        "What was compared": [*what(findings)],
        "At equal tokens": [*at_equal_tokens(found)],
        "At equal time": [*at_equal_time(found)],
    }
    if against and len(against) < len(found.rows):
        parts["Where a recurrent model wins here"] = [*where_wins(found, against[0])]
        parts["Where it does not"] = [*where_not(found, against[0])]
    parts["What was not significant"] = [*not_significant(found)]
    parts["Loss over size and tokens"] = [*laws(findings)]
    return {heading: lines for heading, lines in parts.items() if lines}


def what(findings: Findings) -> Iterator[str]:
    """The runs, and how equal their parameters are."""
    found = findings.main
    group, counts = found.group, [row.sized.size.counted(findings.count) for row in found.rows]
    off = max(abs(count - group.target) / group.target for count in counts)
    which = "" if findings.count == "all" else " outside embedding and head"
    seeds = f"{findings.num_seeds} seed{'s' if findings.num_seeds > 1 else ''}"
    yield (
        f"{len(found.rows)} variants of {group.target:,} parameters{which} (from {min(counts):,} to {max(counts):,}, "
        f"at most {off:.1%} off) were trained on {group.tokens:,} tokens each, with {seeds}, and scored on the "
        f"{findings.split} split."
    )
    if findings.asked and group.target not in findings.asked:
        numbers = listed([f"{number:,}" for number in findings.asked])
        yield f"Of {numbers} parameters, which were asked for, this is the nearest that all variants can have."
    for left, reason in findings.left_out.items():
        yield f"{left.target:,} parameters on {left.tokens:,} tokens are left out: {reason}."
    for name, reason in found.lost.items():
        yield f"{name} is left out: {reason}."
    for row in found.rows:
        for seed, reason in row.lost.items():
            yield f"{row.name} has no score with seed {seed}: {reason}."
    yield from at_end(found)


def at_end(found: GroupFindings) -> Iterator[str]:
    """What a search found at an end of what it tried, so that the best may lie beyond it."""
    named: dict[tuple[str, str], list[str]] = {}
    for row in found.rows:
        for path, end in row.at_end.items():
            named.setdefault((path, end), []).append(f"{row.name} ({row.own[path]:.3g})")
    for (path, end), rows in named.items():
        beyond = "above" if end == "highest" else "below"
        yield f"The {end} {path} that was tried is the best of {listed(rows)}: a better one may lie {beyond} it."


def at_equal_tokens(found: GroupFindings) -> Iterator[str]:
    """Who is best, and the next."""
    first, second = found.rows[:2]
    low, high = first.text_interval
    yield (
        f"The lowest perplexity is that of {first.name}, {first.confirmed.perplexity:.3f} (95 % for other text: "
        f"{low:.3f} to {high:.3f}), then {second.name} with {second.confirmed.perplexity:.3f}."
    )
    beaten = [pair.second for pair in found.pairs if pair.first == first.name and pair.is_significant]
    if beaten:
        yield f"{first.name} is significantly better than {listed(in_order(found, beaten))}."
    else:
        yield f"No variant is significantly worse than {first.name}."


def at_equal_time(found: GroupFindings) -> Iterator[str]:
    """Who is best after the same training time."""
    order = sorted(found.at_time, key=lambda name: found.at_time[name])
    if not order:
        yield f"No variant was validated within {found.seconds:,.0f} s of training."
        return
    named = ", ".join(f"{name} {math.exp(found.at_time[name]):.3f}" for name in order)
    yield f"After {seconds_of(found.seconds)} of training each, the validation perplexities are: {named}."
    beaten = [pair.second for pair in found.time_pairs if pair.first == order[0] and pair.is_significant]
    if beaten:
        yield f"There {order[0]} is significantly better than {listed(beaten)}."
    if late := [row.name for row in found.rows if row.name not in found.at_time]:
        yield f"{listed(late)} had not been validated by then."


def where_wins(found: GroupFindings, other: Row) -> Iterator[str]:
    """In what recurrent variants are better than ``other``, which attends."""
    yield from (better(found.pairs, row, other, "at equal tokens") for row in winners(found.pairs, found, other))
    yield from (
        better(found.time_pairs, row, other, "at equal time") for row in winners(found.time_pairs, found, other)
    )
    yield from cheaper(found, other, is_won=True)
    for name, what in (
        ("depths", "after {} tokens of context"),
        ("frequencies", "on tokens seen {} times in training"),
    ):
        yield from by_part(found, other, name, what)


def where_not(found: GroupFindings, other: Row) -> Iterator[str]:
    """In what ``other`` is better than every recurrent variant, or than some."""
    for pairs, how in ((found.pairs, "at equal tokens"), (found.time_pairs, "at equal time")):
        beaten = [pair for pair in pairs if pair.first == other.name and pair.is_significant]
        if beaten:
            named = ", ".join(f"{pair.second} by {pair.nats:.4f}" for pair in reversed(beaten))
            yield f"{other.name} is significantly better {how}, in nats a token, than {named}."
    yield from cheaper(found, other, is_won=False)


def winners(pairs: Sequence[Difference], found: GroupFindings, other: Row) -> list[Row]:
    """Recurrent variants that are significantly better than ``other``, the best first."""
    names = {pair.first for pair in pairs if pair.second == other.name and pair.is_significant}
    return [row for row in found.rows if row.is_recurrent and row.name in names]


def better(pairs: Sequence[Difference], row: Row, other: Row, how: str) -> str:
    pair = next(pair for pair in pairs if (pair.first, pair.second) == (row.name, other.name))
    return (
        f"{row.name} needs {pair.nats:.4f} nats a token fewer than {other.name} {how} (95 %: {pair.low:.4f} to "
        f"{pair.high:.4f}), a perplexity {1 - math.exp(-pair.nats):.1%} lower; {p_of(pair)}."
    )


def cheaper(found: GroupFindings, other: Row, *, is_won: bool) -> Iterator[str]:
    """Costs in which recurrent variants are below ``other`` (``is_won``) or above it, by ``ALIKE`` at least."""
    for what, unit, scale, costs in costs_of(found.rows):
        base = costs.get(other.name)
        if not base:
            continue
        own = {row.name: costs.get(row.name) for row in found.rows if row.is_recurrent}
        ratios = {name: cost / base for name, cost in own.items() if cost}
        chosen = {name: r for name, r in ratios.items() if (r < 1 / ALIKE if is_won else r > ALIKE)}
        if chosen:
            named = ", ".join(
                f"{name} {figure(ratio * base * scale)} ({factor(ratio)})"
                for name, ratio in sorted(chosen.items(), key=lambda item: item[1], reverse=not is_won)
            )
            yield f"{what}, {unit}: {named}, against {figure(base * scale)} of {other.name}."


def costs_of(rows: Sequence[Row]) -> Iterator[tuple[str, str, float, dict[str, float | None]]]:
    """Each cost, the less the better: what, unit, by what its figures are multiplied for that, the figures."""
    yield "Training time of 1,000 tokens", "ms", 1e6, {row.name: row.cost.training.median for row in rows}
    length = max(rows[0].cost.peaks)
    peaks = {row.name: None if (peak := row.cost.peaks.get(length)) is None else float(peak) for row in rows}
    yield f"Peak memory of training with windows of {length:,} tokens", "MB", 1 / MEGA, peaks
    contexts = sorted(rows[0].cost.contexts)
    for context in dict.fromkeys((contexts[0], contexts[-1])):
        after = {row.name: row.cost.contexts[context] for row in rows}
        times: dict[str, float | None] = {name: cost.timing.median for name, cost in after.items()}
        yield f"Time of one more token after {context:,}", "ms", 1e3, times
    state: dict[str, float | None] = {name: float(cost.state_bytes) for name, cost in after.items()}
    yield f"State that holds {contexts[-1]:,} tokens of context", "kB", 1e-3, state


def by_part(found: GroupFindings, other: Row, name: str, what: str) -> Iterator[str]:
    """Parts of the text in which a recurrent variant has the lowest loss of all. These are not tested."""
    best: dict[str, list[str]] = {}
    for index, part in enumerate(other.parts(name)):
        losses = {row.name: mean_of(row.parts(name)[index]) for row in found.rows}
        first = min(losses, key=lambda key: losses[key])
        if first != other.name:
            gain = losses[other.name] - losses[first]
            best.setdefault(first, []).append(f"{part.name} ({gain:.3f} nats)")
    for first, parts in best.items():
        lowest = f"{first} has the lowest loss {what.format(', '.join(parts))}"
        yield f"{lowest}; the gains are over {other.name}, not tested."


def not_significant(found: GroupFindings) -> Iterator[str]:
    """Pairs of which it cannot be said which one is better."""
    for pairs, how in ((found.pairs, "At equal tokens"), (found.time_pairs, "At equal time")):
        unsure = [pair for pair in pairs if not pair.is_significant]
        number = f"{len(pairs)} pair{'s' if len(pairs) != 1 else ''}"
        if unsure:
            named = "; ".join(f"{pair.first} and {pair.second} ({pair.nats:.4f} nats, {p_of(pair)})" for pair in unsure)
            yield f"{how}, of {number}, not significant at {LEVEL:g} with Holm's correction: {named}."
        elif pairs:
            yield f"{how} every one of {number} is significant at {LEVEL:g} with Holm's correction."
    if any(len(row.losses) < 2 for row in found.rows):
        yield "With a single seed nothing is known of other seeds: the tests are over the text alone."


def laws(findings: Findings) -> Iterator[str]:
    """L(N, D) of each variant, or why there is none."""
    for name, law in findings.laws.items():
        yield law_in_words(name, law)
    reasons: dict[str, list[str]] = {}
    for name, reason in findings.no_laws.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        whom = "all variants" if len(names) == len(findings.no_laws) and not findings.laws else listed(names)
        yield f"L(N, D) is left out for {whom}: {reason}."


def law_in_words(name: str, law: Law) -> str:
    c = law.constants
    spans = ", ".join(f"{key} {low:.3g} to {high:.3g}" for key, (low, high) in law.intervals.items())
    return (
        f"{name}: L(N, D) = {c['E']:.3f} + {c['A']:.4g}/N^{c['alpha']:.3f} + {c['B']:.4g}/D^{c['beta']:.3f}, of "
        f"{law.num_runs} runs (95 %: {spans})."
    )


def p_of(pair: Difference) -> str:
    return f"p = {pair.p_holm:.2g}" if pair.p_holm >= 1e-4 else "p < 0.0001"


def mean_of(part: Group) -> float:
    return part.nats / part.tokens


def factor(ratio: float) -> str:
    """``2.1 times less`` or ``1.3 times as much``."""
    return f"{figure(1 / ratio)} times less" if ratio < 1 else f"{figure(ratio)} times as much"


def figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def seconds_of(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def in_order(found: GroupFindings, names: Sequence[str]) -> list[str]:
    """``names`` in the order of the rows."""
    return [row.name for row in found.rows if row.name in names]


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
