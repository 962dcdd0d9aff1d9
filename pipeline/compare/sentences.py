"""The results of a comparison, in sentences that are made from its figures and say nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.compare.advantages import where_not, where_wins
from pipeline.compare.findings import Findings, GroupFindings
from pipeline.compare.plan import is_number
from pipeline.compare.scaling_law import Law
from pipeline.compare.searched import Searched
from pipeline.compare.significance import LEVEL
from pipeline.compare.wording import listed, p_of, seconds_of, setting_figure

# if a search tried more values than this, only their range is given
MOST_LISTED = 8
ROUNDING = 1e-9
# if the slowest round of training takes this many times the quickest, the machine was too busy for exact times
SCATTER = 1.5


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
        asked = min(findings.asked, key=lambda number: abs(number - group.target))
        yield f"{asked:,} parameters were asked for; {group.target:,} is the nearest number that all variants can have."
    yield from how_chosen(findings)
    if findings.no_bits:
        yield f"There are no bits per byte of the {findings.split} split: {findings.no_bits}."
    for left, reason in findings.left_out.items():
        yield f"{left.target:,} parameters on {left.tokens:,} tokens are left out: {reason}."
    for name, reason in found.lost.items():
        yield f"{name} is left out: {reason}."
    for row in found.rows:
        for seed, reason in row.lost.items():
            yield f"{row.name} has no score with seed {seed}: {reason}."
    yield from passed_over(found)
    yield from at_end(found)


def how_chosen(findings: Findings) -> Iterator[str]:
    """What each variant's search tried, and what the text that all are scored on has chosen."""
    searched = findings.searched
    if searched is not None:
        tried = "; ".join(f"{path}: {listed_values(searched, path)}" for path in searched.paths)
        yield (
            f"Each variant has the best of {len(searched.draws)} draws ({tried}), by the validation loss of one run "
            f"each on {searched.tokens:,} tokens, with a seed that is compared nowhere. No interval allows for "
            f"another such run choosing differently."
        )
        yield from finals(findings.main, searched)
    if findings.split == "valid":
        settings = " and each variant's settings" if searched is not None else ""
        yield (
            f"The same split chose each run's best checkpoint{settings}: on other text, perplexities may be a little "
            f"higher."
        )


def finals(found: GroupFindings, searched: Searched) -> Iterator[str]:
    """Whether whole runs decided between the best draws of a search, and what they changed."""
    if searched.num_finalists > 1:
        yield (
            f"The best {searched.num_finalists} of these draws were trained on {searched.final_tokens:,} tokens with "
            f"seed {searched.final_seed}; the best of them is compared, and that run is one of those compared."
        )
        for row in found.rows:
            if row.overtaken:
                draws = listed([settings_of(draw) for draw in row.overtaken])
                yield f"{row.name} has {settings_of(row.own)}, better there than {draws}, which its search preferred."
    elif searched.tokens < found.group.tokens:
        yield (
            f"The runs that chose had {searched.tokens:,} of these {found.group.tokens:,} tokens: what is best in "
            f"them, a high learning rate above all, may not be the best in a whole run."
        )


def passed_over(found: GroupFindings) -> Iterator[str]:
    """The settings that were better in a search, but with which a compared run diverged."""
    for row in found.rows:
        if row.passed_over:
            draws = listed([settings_of(draw) for draw in row.passed_over])
            yield f"A compared run of {row.name} diverged with {draws}: it has {settings_of(row.own)}."


def settings_of(draw: Mapping[str, Any]) -> str:
    return ", ".join(f"{path} {setting_figure(value)}" for path, value in draw.items())


def at_end(found: GroupFindings) -> Iterator[str]:
    """Settings that a search found at an end of the range it tried, so that the best may lie beyond it."""
    named: dict[tuple[str, str], list[str]] = {}
    for row in found.rows:
        for path, end in row.at_end.items():
            named.setdefault((path, end), []).append(f"{row.name} ({setting_figure(row.own[path])})")
    for (path, end), rows in named.items():
        beyond = "above" if end == "highest" else "below"
        yield f"The {end} {path} that was tried is the best for {listed(rows)}: a better one may lie {beyond} it."


def at_equal_tokens(found: GroupFindings) -> Iterator[str]:
    """Who is best, and the next."""
    first, second = found.rows[:2]
    low, high = first.text_interval
    of_seeds = first.confirmed
    over_seeds = "" if of_seeds.low is None else f"over seeds: {of_seeds.low:.3f} to {of_seeds.high:.3f}, "
    yield (
        f"The lowest perplexity is that of {first.name}, {of_seeds.perplexity:.3f} (95 % {over_seeds}for other text: "
        f"{low:.3f} to {high:.3f}), followed by {second.name} with {second.confirmed.perplexity:.3f}."
    )
    beaten = [pair.second for pair in found.pairs if pair.first == first.name and pair.is_significant]
    if beaten:
        yield f"{first.name} is significantly better than {listed(in_order(found, beaten))}{of_one_seed(found)}."
    else:
        yield f"No variant is significantly worse than {first.name}{of_one_seed(found)}."


def of_one_seed(found: GroupFindings) -> str:
    """What a sentence about a test adds if nothing is known of other seeds."""
    return "" if any(len(row.losses) > 1 for row in found.rows) else " as far as a single seed can say"


def at_equal_time(found: GroupFindings) -> Iterator[str]:
    """Who is best after the same training time."""
    order = sorted(found.at_time, key=lambda name: found.at_time[name])
    if not order:
        yield f"No variant was validated within {seconds_of(found.seconds)} of training."
        return
    named = ", ".join(f"{name} {math.exp(found.at_time[name]):.3f}" for name in order)
    yield f"After {seconds_of(found.seconds)} of training each, the validation perplexities are: {named}."
    longer = [row.name for row in found.rows if row.training_seconds > found.seconds * (1 + ROUNDING)]
    if longer:
        yield f"For {listed(longer)} that is in the middle of the runs, at the learning rate of that moment."
    if late := [row.name for row in found.rows if row.name not in found.at_time]:
        yield f"{listed(late)} had not been validated by then."
    ended = [row for row in found.rows if row.training_seconds < found.seconds * (1 - ROUNDING)]
    if ended:
        named = listed([f"{row.name} (after {seconds_of(row.training_seconds)})" for row in ended])
        yield f"By then all {found.group.tokens:,} tokens had been done by {named}: these figures are for less time."
    beaten = [pair.second for pair in found.time_pairs if pair.first == order[0] and pair.is_significant]
    if beaten:
        yield f"At that time {order[0]} is significantly better than {listed(beaten)}."
    elif any(pair.is_tested for pair in found.time_pairs):
        yield f"At that time no variant is significantly worse than {order[0]}."
    times = {row.name: row.cost.training for row in found.rows}
    name = max(times, key=lambda name: times[name].high / times[name].low)
    if (scatter := times[name].high / times[name].low) > SCATTER:
        yield (
            f"The time of a training step, which equal time is based on, varied over rounds by a factor of "
            f"{scatter:.2g} ({name}): no test allows for that."
        )


def not_significant(found: GroupFindings) -> Iterator[str]:
    """Pairs for which it is not certain which one is better."""
    for pairs, how in ((found.pairs, "At equal tokens"), (found.time_pairs, "At equal time")):
        unsure = [pair for pair in pairs if pair.is_tested and not pair.is_significant]
        number = f"{len(pairs)} pair{'s' if len(pairs) != 1 else ''}"
        if unsure:
            named = "; ".join(f"{pair.first} and {pair.second} ({pair.nats:.4f} nats, {p_of(pair)})" for pair in unsure)
            yield f"{how}, of {number}, these are not significant at {LEVEL:g} with Holm's correction: {named}."
        elif any(pair.is_tested for pair in pairs):
            all_of_them = "the one pair" if len(pairs) == 1 else f"every one of {number}"
            yield f"{how} {all_of_them} is significant at {LEVEL:g} with Holm's correction."
        elif pairs:
            yield f"{how} no pair is tested: with a single seed each there is nothing to test."
    single = [row.name for row in found.rows if len(row.losses) < 2]
    if len(single) == len(found.rows):
        yield "With a single seed nothing is known of other seeds: the tests are over the text alone."
    elif single:
        yield (
            f"For {listed(single)} there is only one seed: how much another would differ is estimated from the other "
            f"variants."
        )


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
        f"{name}: L(N, D) = {c['E']:.3f} + {c['A']:.4g}/N^{c['alpha']:.3f} + {c['B']:.4g}/D^{c['beta']:.3f}, from "
        f"{law.num_runs} runs (95 %: {spans})."
    )


def listed_values(searched: Searched, path: str) -> str:
    """The values of ``path`` that were tried; of many, only their number, the least and the greatest."""
    values = list({str(draw[path]): draw[path] for draw in searched.draws if path in draw}.values())
    if all(is_number(value) for value in values):
        values.sort()
        if len(values) > MOST_LISTED:
            return f"{len(values)} from {setting_figure(values[0])} to {setting_figure(values[-1])}"
    return listed([setting_figure(value) for value in values])


def in_order(found: GroupFindings, names: Sequence[str]) -> list[str]:
    """``names`` in the order of the rows."""
    return [row.name for row in found.rows if row.name in names]
