"""Runs, scores and costs → the results of a comparison: a row for each variant in each group, tests, fits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np

from pipeline import metrics
from pipeline.compare.costs import Cost, Costs
from pipeline.compare.plan import Comparison, Group
from pipeline.compare.scaling_law import Law, Run, fit_law
from pipeline.compare.scores import Scored
from pipeline.compare.searched import Searched, searched_of
from pipeline.compare.significance import Difference, Sample, differences, mean_over_seeds
from pipeline.compare.widths import Sized
from pipeline.errors import UserError
from pipeline.evaluate import perplexity_interval
from pipeline.evaluate.breakdown import Group as Part
from pipeline.search.confirm import Confirmed, summary
from pipeline.search.naming import TRIALS
from pipeline.search.standing import DONE, Standing, Trial

Curve = list[tuple[int, float]]  # tokens, validation loss
ATTENDING = "transformer"  # the cell that is not recurrent
# parts of the reasons why runs ended that are of no use to a reader elsewhere
CHECKPOINT = re.compile(r" \((?:the last (?:good )?checkpoint is |there is no checkpoint yet).*\)$")
FOLDERS = re.compile(rf"\S*/{TRIALS}/")


@dataclass(frozen=True)
class Row:
    """One variant in one group: the results of its runs, and what they cost."""

    group: Group
    sized: Sized
    own: Mapping[str, Any]  # what its search found
    scores: Mapping[int, Scored]  # by seed, of runs that trained well
    curves: Mapping[int, Curve]
    cost: Cost
    cell: str
    lost: Mapping[int, str] = field(default_factory=dict)  # seed → why there is no score
    at_end: Mapping[str, str] = field(default_factory=dict)  # settings at the highest or lowest value tried
    passed_over: Sequence[Mapping[str, Any]] = ()  # better draws of its search, with which a compared run diverged
    overtaken: Sequence[Mapping[str, Any]] = ()  # better draws of its search, but worse as whole runs

    @property
    def name(self) -> str:
        return self.sized.name

    @property
    def is_recurrent(self) -> bool:
        return self.cell != ATTENDING

    @property
    def losses(self) -> list[float]:
        """Nats per token on the held-out text, by seed."""
        return [score.loss for score in self.scores.values()]

    @cached_property
    def confirmed(self) -> Confirmed:
        """Its perplexity over seeds, and the interval of the mean."""
        return summary(self.losses)

    @cached_property
    def text_interval(self) -> tuple[float, float]:
        """The interval of its perplexity for other text of the same kind."""
        return perplexity_interval(self.unit_nats, self.unit_tokens)

    @cached_property
    def unit_nats(self) -> Any:
        return mean_over_seeds([score.unit_nats for score in self.scores.values()])

    @property
    def unit_tokens(self) -> Any:
        return np.array(next(iter(self.scores.values())).unit_tokens)

    @property
    def bits_per_byte(self) -> float | None:
        """The mean over seeds; None if bits per byte are not defined."""
        scores = list(self.scores.values())
        if any(score.num_bytes is None for score in scores):
            return None
        return fmean(metrics.bits_per_byte(score.nats, score.num_bytes or 1) for score in scores)

    @property
    def trained_tokens(self) -> int:
        """The tokens of its runs: those of the group, up to the end of a window."""
        return max((curve[-1][0] for curve in self.curves.values() if curve), default=self.group.tokens)

    @property
    def training_seconds(self) -> float:
        """Its tokens times the measured time of one."""
        return self.trained_tokens * self.cost.training.median

    def losses_at(self, seconds: float) -> list[float]:
        """Validation loss of each run after ``seconds`` of training; nan before its first validation."""
        return [loss_at(curve, seconds / self.cost.training.median) for curve in self.curves.values()]

    def parts(self, name: str) -> list[Part]:
        """Its ``frequencies`` or ``depths``, the nats averaged over seeds."""
        each = [getattr(score, name) for score in self.scores.values()]
        return [
            Part(one[0].first, one[0].last, fmean(part.nats for part in one), one[0].tokens)
            for one in zip(*each, strict=True)
        ]


@dataclass(frozen=True)
class GroupFindings:
    """The variants at one number of parameters and tokens: rows, the best first, and tests of every pair."""

    group: Group
    rows: Sequence[Row]
    pairs: Sequence[Difference]  # at equal tokens
    seconds: float  # of equal time
    at_time: Mapping[str, float]  # mean validation loss after ``seconds``, of variants that have one
    time_pairs: Sequence[Difference]
    lost: Mapping[str, str] = field(default_factory=dict)  # variants without any run that trained well

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True)
class Findings:
    """The results of a comparison."""

    groups: Sequence[GroupFindings]
    laws: Mapping[str, Law]
    no_laws: Mapping[str, str]  # variant → why its L(N, D) was not fitted
    split: str
    unit: str  # the parts of the text that tests exchange
    machine: str
    count: str
    num_seeds: int
    title: str = "comparison"
    asked: Sequence[int] = ()  # numbers of parameters that were wanted; none: those of the first variant
    left_out: Mapping[Group, str] = field(default_factory=dict)  # groups in which there was nothing to compare
    searched: Searched | None = None
    no_bits: str = ""  # why there are no bits per byte

    @property
    def main(self) -> GroupFindings:
        """The group that sentences are about: the most parameters, and of these the most tokens."""
        return max(self.groups, key=lambda found: (found.group.target, found.group.tokens))


def loss_at(curve: Curve, tokens: float) -> float:
    """The lowest loss up to ``tokens``, interpolated linearly between validations; nan before the first."""
    best: Curve = []
    for place, loss in sorted(curve):
        best.append((place, min(loss, best[-1][1] if best else math.inf)))
    if not best or tokens < best[0][0] * (1 - 1e-9):
        return math.nan
    for (left, above), (right, below) in pairwise(best):
        if tokens < right:
            return above + (below - above) * max(0.0, tokens - left) / (right - left)
    return best[-1][1]


def findings_of(
    comparison: Comparison,
    standing: Standing,
    scores: Mapping[str, Scored],
    costs: Costs,
    *,
    split: str,
    title: str = "comparison",
    no_bits: str = "",
) -> Findings:
    """The results of the trials of ``standing``; ``scores`` are by the trial's name, ``no_bits`` as in ``Findings``.

    Raises:
        UserError: in no group do two variants have a run that trained well.
    """
    groups: list[GroupFindings] = []
    left_out: dict[Group, str] = {}
    for group in comparison.groups:
        rows = [
            row_of(comparison, standing, scores, costs.of(one), one, group)
            for one in comparison.sizes
            if one.target == group.target
        ]
        try:
            groups.append(group_findings(comparison, group, rows))
        except UserError as error:
            left_out[group] = str(error)
    if not groups:
        raise UserError(next(iter(left_out.values())))
    laws: dict[str, Law] = {}
    no_laws: dict[str, str] = {}
    for name in dict.fromkeys(row.name for found in groups for row in found.rows):
        try:
            laws[name] = fit_law(runs_of(groups, name, comparison.compare.count))
        except UserError as error:
            no_laws[name] = str(error)
    unit = next(iter(scores.values())).unit
    count, num_seeds = comparison.compare.count, len(comparison.compare.seeds)
    asked = comparison.compare.parameters or ()
    return Findings(
        groups, laws, no_laws, split, unit, costs.machine, count, num_seeds, title, asked, left_out,
        searched_of(comparison), no_bits,
    )  # fmt: skip


def row_of(
    comparison: Comparison, standing: Standing, scores: Mapping[str, Scored], cost: Cost, one: Sized, group: Group
) -> Row:
    """The results of one variant in one group."""
    found, curves, lost = {}, {}, {}
    own = comparison.found(one, standing)
    for seed in comparison.compare.seeds:
        trial = comparison.run_of(one, standing, tokens=group.tokens, seed=seed)
        if trial is None:
            lost[seed] = "none of the trials of its search trained well"
        elif trial.status != DONE or trial.name not in scores:
            lost[seed] = f"{trial.status}, {reason_of(trial)}"
        elif is_worse_than_guessing(scores[trial.name], comparison.vocab_size):
            perplexity = metrics.perplexity(scores[trial.name].nats, scores[trial.name].tokens)
            lost[seed] = f"perplexity {perplexity:.4g}, above that of guessing among {comparison.vocab_size:,} types"
        else:
            found[seed] = scores[trial.name]
            curves[seed] = [(report["tokens"], report["loss"]) for report in trial.reports]
    cell = one.variant.settings.get("model.cell", comparison.cell)
    overtaken, diverged = comparison.not_taken(one, standing)
    at_end = comparison.at_end(own or {})
    sized = comparison.with_own(one, own or {})
    return Row(group, sized, own or {}, found, curves, cost, cell, lost, at_end, diverged, overtaken)


def is_worse_than_guessing(score: Scored, vocab_size: int | None) -> bool:
    """Whether a run has learnt nothing, or lost what it learnt; its scatter would hide all other differences."""
    return vocab_size is not None and score.loss > math.log(vocab_size)


def reason_of(trial: Trial) -> str:
    """Why a run did not end well, without its checkpoint, and without the path of its folder on its machine."""
    if trial.end is None:
        return "it has not ended"
    return FOLDERS.sub(f"{TRIALS}/", CHECKPOINT.sub("", trial.end["reason"]))


def group_findings(comparison: Comparison, group: Group, rows: Sequence[Row]) -> GroupFindings:
    """Test the ``rows`` of one group against each other.

    Raises:
        UserError: fewer than two of them have a score.
    """
    lost = {row.name: next(iter(row.lost.values())) for row in rows if not row.scores}
    rows = sorted((row for row in rows if row.scores), key=lambda row: fmean(row.losses))
    if len(rows) < 2:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in lost.items())
        raise UserError(f"compare.variants: fewer than two variants have a run that trained well ({reasons})")
    seconds = comparison.compare.seconds or min(row.training_seconds for row in rows)
    timed = {row.name: [loss for loss in row.losses_at(seconds) if not math.isnan(loss)] for row in rows}
    timed = {name: losses for name, losses in timed.items() if losses}
    samples = {row.name: Sample(row.losses, row.unit_nats, row.unit_tokens) for row in rows}
    time_pairs = differences({name: Sample(losses) for name, losses in timed.items()})
    at_time = {name: fmean(losses) for name, losses in timed.items()}
    return GroupFindings(group, rows, differences(samples), seconds, at_time, time_pairs, lost)


def runs_of(groups: Sequence[GroupFindings], name: str, count: str) -> list[Run]:
    """All trained models of one variant."""
    return [
        Run(row.sized.size.counted(count), row.group.tokens, loss)
        for group in groups
        for row in group.rows
        if row.name == name
        for loss in row.losses
    ]
