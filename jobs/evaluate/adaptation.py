"""Score a text with a model that keeps learning from it: ``jobs.evaluate --cache`` and ``--dynamic``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from typing import Any

from torch import Tensor

from jobs.evaluate.measures import figures, scored_of
from jobs.terminal.progress import Count
from pipeline import metrics, run
from pipeline.data.scoring import ScoringStreams
from pipeline.data.streams import ResetRule
from pipeline.errors import UserError
from pipeline.evaluate import Breakdown, HeldOut, Score, Scored, Total, counted, scored_windows, split_held_out, total
from pipeline.evaluate.cache import tune_cache, with_cache
from pipeline.evaluate.dynamic import follow, gradient_rms, tune_dynamic
from pipeline.options import Adaptive, CacheSettings, DynamicSettings
from pipeline.training.checkpoint import Loaded

# inputs at a time if the weights do not change; tokens of the validation text on which --tune tries dynamic evaluation
WINDOW_TOKENS, TUNING_TOKENS = 256, 10_000


def check_layout(loaded: Loaded, option: str) -> None:
    """Raise ``UserError`` if the run's texts are independent of each other; ``option`` needs running text."""
    if loaded.config.data.layout == "documents":
        raise UserError(f"--{option}: continues from one text to the next, but this run reads data.layout=documents")


def check_corpus(loaded: Loaded, arguments: argparse.Namespace) -> None:
    """Raise ``UserError`` if the prepared corpus, which --tune and the rule rms read, is gone or has no such split."""
    if not arguments.tune and arguments.dynamic != "rms":
        return
    if "valid" not in run.corpus_of(loaded).splits and arguments.tune:
        raise UserError("--tune: the prepared corpus has no valid split (corpus.valid, corpus.valid_fraction)")


def adapted(loaded: Loaded, arguments: argparse.Namespace, settings: Adaptive, text: HeldOut) -> dict[str, Any]:
    """Measure perplexity on one stream: of the unchanged model, then with a cache, dynamic evaluation or both."""
    name = arguments.text or f"the {arguments.split} split"

    def show(plain: Score) -> None:
        figure = metrics.shown(plain.perplexity)
        print(f"{loaded.title} on {name}: {scored_of(plain, text)} in one stream: perplexity {figure}")

    cache, dynamic = settings
    plain = None
    if dynamic is not None:
        plain, _ = Adaptation(loaded, None, None).score(text)
        show(plain)
    job = Adaptation(loaded, None if arguments.tune else cache, dynamic)
    job.measure_rms()
    if arguments.tune:
        job.tune(cache=arguments.cache)
    used = {"dynamic": job.dynamic, "cache": job.cache}
    for title, found in (("dynamic evaluation", job.dynamic), ("cache", job.cache)):
        if found is not None:
            print(f"{title}: {', '.join(f'{name} {value}' for name, value in asdict(found).items())}")
    sums = Breakdown(text.tokens, loaded.tokenizer.vocab_size)
    score, without_cache = job.score(text, sums)
    if plain is None:  # a cache does not change the model
        plain = without_cache
        show(plain)
    result = figures(loaded, text, score, sums, seed=arguments.seed)
    result |= {"plain_perplexity": plain.perplexity}
    return result | {key: None if found is None else asdict(found) for key, found in used.items()}


@dataclass
class Adaptation:
    """A model and the settings with which it is scored."""

    loaded: Loaded
    cache: CacheSettings | None
    dynamic: DynamicSettings | None
    rms: list[Tensor] | None = None

    def measure_rms(self) -> None:
        """Measure gradients on the training text for the rule ``rms``. Raises ``UserError`` if the text is gone."""
        if self.dynamic is not None and self.dynamic.rule == "rms":
            config, segment = self.loaded.config, self.dynamic.segment
            tokens = run.corpus_of(self.loaded).splits["train"]
            training = ScoringStreams(tokens, num_streams=config.train.batch_size, bptt=segment, reset=self.reset)
            self.rms = gradient_rms(self.loaded.model, training)

    def tune(self, *, cache: bool) -> None:
        """Find the best settings on the validation split."""
        text = split_held_out(run.corpus_of(self.loaded), "valid")
        if self.dynamic is not None:

            def nats_of(settings: DynamicSettings) -> float:
                self.dynamic = settings
                with Count(f"tried lr {settings.lr:g} on", TUNING_TOKENS, "tokens") as progress:
                    windows = takewhile(lambda part: part.window.position < TUNING_TOKENS, self.windows(text))
                    return total(counted(windows, progress.add))[0]

            self.dynamic = tune_dynamic(nats_of, self.dynamic)
        if cache:
            with Count("tried caches on", len(text.tokens), "tokens") as progress:
                windows = counted(self.windows(text), progress.add)
                self.cache = tune_cache(windows, is_by_document=self.reset.at_documents)

    @property
    def reset(self) -> ResetRule:
        return ResetRule.of(self.loaded.config.train)

    def windows(self, text: HeldOut, without_cache: Total | None = None) -> Iterator[Scored]:
        """Score the windows of ``text`` on one stream with the current settings.

        Args:
            without_cache: sums the scores before the cache is mixed in.
        """
        model, length = self.loaded.model, self.dynamic.segment if self.dynamic else WINDOW_TOKENS
        parts = ScoringStreams(text.tokens, num_streams=1, bptt=length, reset=self.reset)
        plain = scored_windows(model, parts.windows())
        scored = follow(model, parts, self.dynamic, self.rms) if self.dynamic else plain
        if without_cache is not None:
            scored = without_cache.along(scored)
        return with_cache(scored, self.cache, is_by_document=self.reset.at_documents) if self.cache else scored

    def score(self, text: HeldOut, sums: Breakdown | None = None) -> tuple[Score, Score]:
        """Score ``text`` with the current settings; return that score and the one without the cache."""
        without_cache = Total()
        with Count("scored", len(text.tokens), "tokens") as progress:
            nats, tokens = total(counted(self.windows(text, without_cache), progress.add), sums)
        scored = Score(nats, tokens, 1, num_bytes=text.num_bytes, why_not=text.why_not)
        return scored, replace(scored, nats=float(without_cache.nats))
