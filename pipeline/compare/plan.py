"""The runs of a comparison as trials of a search engine: which there are, in which order, and what each one is.

First, if ``compare.search`` is given, draws for each variant at each size, with a seed of their own, and with
``num_finalists`` the best of them once more as whole runs; then each variant at each size with the best of its draws,
on each number of tokens, with each seed. If one of these runs diverges, they are all made with the next best draw. A
run is identified by its settings, so a comparison that is given more seeds, lengths or variants keeps its runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from pipeline import config as configuration
from pipeline.compare.variants import OwnSearch, Variant
from pipeline.compare.widths import Size, Sized, drawn_key, drawn_sizes, sized
from pipeline.config import CompareConfig, Config, SearchConfig
from pipeline.search.candidates import as_key
from pipeline.search.plan import SearchPlan
from pipeline.search.space import random_settings
from pipeline.search.standing import DONE, ENDED, LOST, Standing, Trial

SEARCHED, COMPARED = "searched", "compared"  # the origin of a trial
# validations, evenly spaced in tokens, of the longest runs and of the others: a curve is interpolated between them
NUM_VALIDATIONS, NUM_OF_SHORTER = 16, 4
MOST_DRAWS = 1_000
# trials whose checkpoints are kept: they are scored at the end, and the journal may have runs of former variants, too
KEEP_ALL = 2**31


@dataclass(frozen=True)
class Group:
    """The variants that are tested against each other: those at one number of parameters and of tokens."""

    target: int
    tokens: int


@dataclass(frozen=True)
class Comparison:
    """All runs of a comparison, as the corpus and the settings determine them."""

    compare: CompareConfig
    sizes: Sequence[Sized]
    lengths: Sequence[int]  # tokens of a run, rising
    search: OwnSearch | None
    draws: Sequence[Mapping[str, Any]]  # the same for each variant
    cell: str  # of a variant that has none of its own
    vocab_size: int | None = None
    sizes_of_draws: Mapping[str, Size] = field(default_factory=dict)  # by ``drawn_key``

    @classmethod
    def of(
        cls, config: Config, variants: Sequence[Variant], search: OwnSearch | None, *, vocab_size: int, tokens: int
    ) -> Comparison:
        """``tokens``: those of a run if ``compare.tokens`` is null.

        Raises:
            UserError: a variant that cannot be brought to equal parameters, or as ``drawn_sizes``.
        """
        sizes = sized(config, variants, vocab_size)
        lengths = sorted(config.compare.tokens or [tokens])
        draws = draws_of(search) if search is not None else []
        of_draws = drawn_sizes(config, sizes, draws, vocab_size)
        return cls(config.compare, sizes, lengths, search, draws, config.model.cell, vocab_size, of_draws)

    @property
    def groups(self) -> list[Group]:
        targets = dict.fromkeys(one.target for one in self.sizes)
        return [Group(target, tokens) for target in targets for tokens in self.lengths]

    @property
    def num_finalists(self) -> int:
        """Draws of each variant that are trained as whole runs with the first seed, the one it is compared with too."""
        return min(self.search.num_finalists, len(self.draws)) if self.search is not None else 1

    @property
    def num_runs(self) -> int:
        own = len(self.draws) + self.num_finalists - 1
        return len(self.sizes) * (own + len(self.lengths) * len(self.compare.seeds))

    @property
    def total_tokens(self) -> int:
        own = len(self.draws) * self.search_tokens + (self.num_finalists - 1) * self.lengths[-1]
        return len(self.sizes) * (own + sum(self.lengths) * len(self.compare.seeds))

    @property
    def search_tokens(self) -> int:
        """Tokens of a trial of the searches."""
        own = self.search.max_tokens if self.search is not None else None
        return own or self.lengths[0]

    @property
    def milestones(self) -> list[int]:
        """Numbers of tokens at which runs validate, in addition to the ends of epochs."""
        numbers = dict.fromkeys(self.lengths, NUM_OF_SHORTER) | {self.lengths[-1]: NUM_VALIDATIONS}
        places = {tokens * k // number for tokens, number in numbers.items() for k in range(1, number + 1)}
        return sorted(place for place in places if place)

    def with_own(self, one: Sized, own: Mapping[str, Any]) -> Sized:
        """``one`` with the size that it has with the settings ``own`` of its search."""
        return replace(one, size=self.sizes_of_draws.get(drawn_key(one, own), one.size))

    def searched(self, one: Sized) -> list[dict[str, Any]]:
        """The settings of the trials of the search for one variant at one size."""
        if self.search is None:
            return []
        how = {"train.max_tokens": self.search_tokens, "train.seed": self.search.seed}
        return [{**one.settings, **draw, **how} for draw in self.draws]

    def compared(self, one: Sized, own: Mapping[str, Any], *, tokens: int, seed: int) -> dict[str, Any]:
        """The settings of a run that is compared; ``own``: what the search of the variant found."""
        return {**one.settings, **own, "train.max_tokens": tokens, "train.seed": seed}

    def finals(self, one: Sized, standing: Standing) -> list[dict[str, Any]]:
        """The best draws of one variant at one size with which no compared run has diverged; if all have, the best.

        As many as there are to be finalists, fewer if fewer trained well; empty until the search has ended.
        """
        trials, ranked = by_settings(standing), self.ranked(one, standing)
        kept = (draw for draw in ranked if not self.has_diverged(one, draw, trials))
        return list(islice(kept, self.num_finalists)) or ranked[:1]

    def final_run(self, one: Sized, draw: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of the run that decides between finalists."""
        return self.compared(one, draw, tokens=self.lengths[-1], seed=self.compare.seeds[0])

    def found(self, one: Sized, standing: Standing) -> dict[str, Any] | None:
        """What a variant at one size is compared with: the best of its finalists.

        None: its search has not ended, no trial of it trained well, or a finalist is still being trained. One that
        failed, so that it may be continued later, is taken only if all did.
        """
        if self.search is None:
            return {}
        finals = self.finals(one, standing)
        if len(finals) < 2:
            return finals[0] if finals else None
        trials = by_settings(standing)
        ended = [(run, draw) for draw in finals if (run := self.final_of(one, draw, trials)) and run.state == ENDED]
        if len(ended) < len(finals):
            return None
        return min(ended, key=lambda pair: pair[0].best_loss if pair[0].status == DONE else math.inf)[1]

    def final_of(self, one: Sized, draw: Mapping[str, Any], trials: Mapping[str, Trial]) -> Trial | None:
        return trials.get(as_key(self.final_run(one, draw)))

    def finalists(self, standing: Standing) -> list[Trial]:
        """The whole runs that decided between the best draws, those of them that trained well."""
        trials = by_settings(standing)
        runs = [self.final_of(one, draw, trials) for one in self.sizes for draw in self.finals(one, standing)]
        return [run for run in runs if run is not None and run.status == DONE]

    def not_taken(self, one: Sized, standing: Standing) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The draws that were better in the search than the one found: those that it overtook as a finalist, and those
        with which a compared run diverged. Both are empty if that holds for all draws. Finalists that failed are in
        neither.
        """
        trials, ranked, own = by_settings(standing), self.ranked(one, standing), self.found(one, standing)
        before = ranked[: ranked.index(own)] if own in ranked else []
        diverged = [draw for draw in before if self.has_diverged(one, draw, trials)]
        left = [draw for draw in before if draw not in diverged]
        runs = [self.final_of(one, draw, trials) for draw in left]
        return [draw for draw, run in zip(left, runs, strict=True) if run is not None and run.status == DONE], diverged

    def ranked(self, one: Sized, standing: Standing) -> list[dict[str, Any]]:
        """The draws that trained well in the search of one variant at one size, the best first; empty until it ends."""
        trials = by_settings(standing)
        ended = [trials.get(as_key(settings)) for settings in self.searched(one)]
        done = [trial for trial in ended if trial is not None and trial.state == ENDED]
        if len(done) < len(ended):
            return []
        pairs = [(trial.best_loss, draw) for trial, draw in zip(done, self.draws, strict=True) if trial.status == DONE]
        return [dict(draw) for loss, draw in sorted(pairs, key=lambda pair: pair[0]) if loss < math.inf]

    def has_diverged(self, one: Sized, own: Mapping[str, Any], trials: Mapping[str, Trial]) -> bool:
        """Whether a compared run with the settings ``own`` was lost, or at its best was worse than a uniform guess."""
        most = math.inf if self.vocab_size is None else math.log(self.vocab_size)
        keys = [
            as_key(self.compared(one, own, tokens=tokens, seed=seed))
            for tokens in self.lengths
            for seed in self.compare.seeds
        ]
        runs = [trials[key] for key in keys if key in trials]
        return any(run.status == LOST or (run.status == DONE and run.best_loss > most) for run in runs)

    def at_end(self, own: Mapping[str, Any]) -> dict[str, str]:
        """Of the numbers that a search found, those that are the ``highest`` or the ``lowest`` of all that it tried."""
        ends = {}
        for path, value in own.items():
            tried = [draw[path] for draw in self.draws if path in draw and is_number(draw[path])]
            if is_number(value) and tried and min(tried) < max(tried) and value in (min(tried), max(tried)):
                ends[path] = "highest" if value == max(tried) else "lowest"
        return ends

    def ready(self, standing: Standing) -> Iterator[tuple[dict[str, Any], str]]:
        """Settings and origin of every run that can begin by now, in the order in which they do."""
        for one in self.sizes:
            yield from ((settings, SEARCHED) for settings in self.searched(one))
        finals = [self.final_run(one, draw) for one in self.sizes for draw in self.finals(one, standing)]
        if self.num_finalists > 1:
            yield from ((settings, COMPARED) for settings in finals)
        own = [(one, self.found(one, standing)) for one in self.sizes]
        for seed in self.compare.seeds:
            for tokens in self.lengths:
                for one, found in own:
                    if found is not None:
                        run = self.compared(one, found, tokens=tokens, seed=seed)
                        if self.num_finalists == 1 or run not in finals:
                            yield run, COMPARED

    def run_of(self, one: Sized, standing: Standing, *, tokens: int, seed: int) -> Trial | None:
        """The trial of a run that is compared; None: it was not begun."""
        own = self.found(one, standing)
        if own is None:
            return None
        return by_settings(standing).get(as_key(self.compared(one, own, tokens=tokens, seed=seed)))

    def as_search(self, config: Config) -> SearchConfig:
        """These runs as a search: all are trained to their end, none is drawn from a space."""
        return SearchConfig(
            space={},
            scheduler="none",
            algorithm="random",
            num_trials=self.num_runs,
            max_concurrent=config.search.max_concurrent,
            keep=KEEP_ALL,
        )

    def trial_config(self, config: Config, *, tokens_per_epoch: int) -> Config:
        """The configuration of a run before its settings, with enough epochs for its tokens."""
        longest = max(*self.lengths, self.search_tokens)
        values = {"run.sample_tokens": 0, "train.epochs": max(config.train.epochs, -(-longest // tokens_per_epoch))}
        trial = configuration.with_values(config, values)
        return trial.model_copy(update={"compare": CompareConfig(), "search": self.as_search(config)})

    def search_plan(self) -> SearchPlan:
        """What is expected, as progress shows it."""
        levels = ((self.lengths[-1], float(self.num_runs)),)
        return ComparisonPlan(self.num_runs, levels, self.total_tokens, 0, all_go_to_the_end=True, comparison=self)


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan(SearchPlan):
    """The plan of runs whose different lengths are known."""

    comparison: Comparison

    def tokens_left(self, standing: Standing) -> int:
        """Tokens that runs still take, those begun and those to come, each to its own length."""
        plan, begun = self.comparison, by_settings(standing)
        left = self.total_tokens
        for settings, _ in plan.ready(standing):
            if trial := begun.get(as_key(settings)):
                left -= settings["train.max_tokens"] if trial.state == ENDED else trial.tokens
        numbers = [len(plan.finals(one, standing)) for one in plan.sizes]
        # where fewer draws trained well, there are fewer finalists
        return left - sum(plan.num_finalists - number for number in numbers if number) * plan.lengths[-1]


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def by_settings(standing: Standing) -> dict[str, Trial]:
    return {as_key(trial.settings): trial for trial in standing.drawn}


def draws_of(search: OwnSearch) -> list[dict[str, Any]]:
    """Distinct draws of a search, as many as wanted or as the space holds."""
    found: dict[str, dict[str, Any]] = {}
    for settings in islice(random_settings(search.space, seed=search.seed), MOST_DRAWS):
        found.setdefault(as_key(settings), settings)
        if len(found) == search.num_trials:
            break
    return list(found.values())
