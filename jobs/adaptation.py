"""``jobs.evaluate --cache`` and ``--dynamic``: a model that goes on learning from the text it is scored on."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from torch import Tensor

from jobs.measures import figures, held_out_of
from pipeline import run
from pipeline.data.scoring import ScoringStreams
from pipeline.data.streams import ResetRule
from pipeline.errors import UserError
from pipeline.evaluate import HeldOut, Score, Scored, Tally, scored_windows, split_held_out, total
from pipeline.evaluate.cache import CacheSettings, tune_cache, with_cache
from pipeline.evaluate.dynamic import DynamicSettings, follow, gradient_rms, tune_dynamic
from pipeline.training.checkpoint import Loaded

# inputs at a time where the weights stay as they are; of the validation text on which --tune tries dynamic evaluation
WINDOW_TOKENS, TUNING_TOKENS = 256, 10_000


def adapted(loaded: Loaded, arguments: argparse.Namespace) -> dict[str, Any]:
    """Perplexity on one stream as the model is, then with a cache, dynamic evaluation or both."""
    check(arguments)
    if loaded.config.data.layout == "documents":
        raise UserError("--cache, --dynamic: go on from text to text, but this run reads data.layout=documents")
    job = Adaptation(loaded, None, None)
    text = held_out_of(loaded, arguments)
    plain = job.score(text)
    name = arguments.text or f"the {arguments.split} split"
    print(f"{loaded.path.name} ({arguments.checkpoint}) on {name}, one stream: perplexity {plain.perplexity:,.3f}")
    if arguments.dynamic is not None:
        names = ("lr", "decay", "epsilon", "segment")
        given = {name: getattr(arguments, f"dynamic_{name}") for name in names}
        job.dynamic = DynamicSettings.of(arguments.dynamic, **given)
        job.measure_rms()
    if arguments.tune:
        job.tune(cache=arguments.cache)
    elif arguments.cache:
        job.cache = CacheSettings(arguments.cache_theta, arguments.cache_weight, arguments.cache_window)
    for title, settings in (("dynamic evaluation", job.dynamic), ("cache", job.cache)):
        if settings is not None:
            print(f"{title}: {', '.join(f'{name} {value}' for name, value in asdict(settings).items())}")
    tally = Tally(text.tokens, loaded.tokenizer.vocab_size)
    result = figures(loaded, text, job.score(text, tally), tally, seed=arguments.seed)
    result |= {"plain_perplexity": plain.perplexity}
    for key, settings in (("dynamic", job.dynamic), ("cache", job.cache)):
        result[key] = None if settings is None else asdict(settings)
    return result


def check(arguments: argparse.Namespace) -> None:
    """Raises ``UserError`` for what does not go together with a single stream."""
    for name in ("streams", "burn_in", "compare"):
        if getattr(arguments, name) not in (None, 1):
            raise UserError(f"--{name.replace('_', '-')}: --cache and --dynamic score on one stream")
    if arguments.exact or arguments.breakdown:
        raise UserError("--exact, --breakdown: are not for --cache and --dynamic")


@dataclass
class Adaptation:
    """A model with the settings it is scored under."""

    loaded: Loaded
    cache: CacheSettings | None
    dynamic: DynamicSettings | None
    rms: list[Tensor] | None = None

    def measure_rms(self) -> None:
        """Read the training text, for the rule that needs its gradients. Raises ``UserError`` if it is gone."""
        if self.dynamic is not None and self.dynamic.rule == "rms":
            config, segment = self.loaded.config, self.dynamic.segment
            tokens = run.corpus_of(self.loaded).splits["train"]
            training = ScoringStreams(tokens, num_streams=config.train.batch_size, bptt=segment)
            self.rms = gradient_rms(self.loaded.model, training)

    def tune(self, *, cache: bool) -> None:
        """The best settings on the validation split."""
        text = split_held_out(run.corpus_of(self.loaded), "valid")
        if self.dynamic is not None:

            def nats_of(settings: DynamicSettings) -> float:
                self.dynamic = settings
                return total(takewhile(lambda part: part.window.position < TUNING_TOKENS, self.windows(text)))[0]

            self.dynamic = tune_dynamic(nats_of, self.dynamic)
        if cache:
            self.cache = tune_cache(self.windows(text), is_by_document=self.reset.at_documents)

    @property
    def reset(self) -> ResetRule:
        return ResetRule.of(self.loaded.config.train)

    def windows(self, text: HeldOut) -> Iterator[Scored]:
        """``text`` on one stream, as the settings so far say."""
        model, length = self.loaded.model, self.dynamic.segment if self.dynamic else WINDOW_TOKENS
        parts = ScoringStreams(text.tokens, num_streams=1, bptt=length, reset=self.reset)
        scored = follow(model, parts, self.dynamic, self.rms) if self.dynamic else scored_windows(model, parts)
        return with_cache(scored, self.cache, is_by_document=self.reset.at_documents) if self.cache else scored

    def score(self, text: HeldOut, tally: Tally | None = None) -> Score:
        nats, tokens = total(self.windows(text), tally)
        return Score(nats, tokens, 1, num_bytes=text.num_bytes, why_not=text.why_not)
