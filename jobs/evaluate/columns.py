"""The columns of the table of ``--surprisal``: for which models, and what is given besides surprisal."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
from torch import Tensor

from jobs.evaluate.adaptation import Adaptation
from jobs.shared.models import names_of
from pipeline import run
from pipeline.data.streams import ResetRule
from pipeline.evaluate import HeldOut
from pipeline.evaluate.adaptation import AFTER, BEFORE, adapted_rows, with_adaptation
from pipeline.evaluate.columns import (
    COLUMNS,
    NGRAM_COLUMNS,
    with_frequencies,
    with_lags,
    with_lengths,
    with_ngrams,
    with_word_entropies,
)
from pipeline.evaluate.reading import Reading
from pipeline.evaluate.several import fields_of_runs, joined_rows
from pipeline.evaluate.surprisal import SCHEMA
from pipeline.evaluate.type_classes import groups_of_types
from pipeline.evaluate.words import Row, WordBoundary
from pipeline.ngram import UNKNOWN, NGramModel, TrainingText, read_arpa, train_ngram, training_text, unknown_in
from pipeline.options import USUAL_COLUMNS, DynamicSettings
from pipeline.scoring import scored_windows
from pipeline.training.checkpoint import Loaded

# figures of a model: with several runs, each has its own
OF_MODELS = ("entropy", "rank", "word-entropy")
Fit = Callable[[Iterable[Row], Loaded], Iterable[Row]]


def as_they_are(rows: Iterable[Row], loaded: Loaded) -> Iterable[Row]:
    """Return the words of the model's tokenizer unchanged."""
    return rows


@dataclass(frozen=True)
class Columns:
    """What is asked for besides surprisal, and what is needed for it.

    Args:
        runs: the models by the names of their columns.
        dynamic: how the models learn, if they do so after each unit ``adapt``.
    """

    runs: dict[str, Loaded]
    names: tuple[str, ...]
    word_boundary: WordBoundary
    word_mass: float
    ngram: NGramModel | int | None
    adapt: str | None
    dynamic: DynamicSettings

    @classmethod
    def of(cls, loaded: Sequence[Loaded], arguments: argparse.Namespace) -> Columns:
        """Read the command line. Raises ``UserError`` if a file of n-grams or the corpus is missing or unreadable."""
        names = tuple(dict.fromkeys(arguments.columns or USUAL_COLUMNS))
        ngram: NGramModel | int | None = None
        if arguments.ngram is not None:
            is_order = arguments.ngram.isdecimal()
            ngram = int(arguments.ngram) if is_order else read_arpa(arguments.ngram, argument="ngram")
        found = cls(
            dict(zip(names_of(arguments.runs or [arguments.run], option="--runs"), loaded, strict=True)),
            names,
            arguments.word_boundary or "corrected",
            arguments.word_mass,
            ngram,
            arguments.adapt,
            dynamic_of(arguments),
        )
        if "frequency" in names or isinstance(ngram, int):
            run.corpus_of(loaded[0])
        for one in loaded if found.adapt is not None and found.dynamic.rule == "rms" else ():
            run.corpus_of(one)  # its gradients are measured there
        return found

    @property
    def fields(self) -> list[pa.Field]:
        """The columns of the table."""
        of_models = [
            SCHEMA.field("nats"),
            *(field for name in self.names if name in OF_MODELS for field in COLUMNS[name]),
        ]
        if self.adapt is not None:
            of_models += [pa.field(name, pa.float64()) for name in (BEFORE, AFTER)]
        if len(self.runs) > 1:
            of_models = fields_of_runs(of_models, list(self.runs))
        others = [field for name in self.names if name not in OF_MODELS for field in COLUMNS[name]]
        others += NGRAM_COLUMNS if self.ngram is not None else []
        before = [SCHEMA.field(name) for name in ("level", "text", "document", "position")]
        return [*before, of_models[0], SCHEMA.field("unknown"), *of_models[1:], *others]

    def rows(self, text_of: Callable[[Loaded], HeldOut], fit: Fit = as_they_are) -> Iterator[Row]:
        """Yield all rows of the text, which ``text_of`` reads with the tokenizer of a model.

        Args:
            fit: converts rows of one model to the words of the user.
        """
        streams = [self._rows_of(loaded, text_of(loaded), fit) for loaded in self.runs.values()]
        rows = streams[0]
        if len(streams) > 1:
            rows = joined_rows(list(self.runs), streams, tokens=self.have_same_tokens)
        if "lags" in self.names:
            rows = with_lags(rows)
        if "length" in self.names:
            rows = with_lengths(rows)
        if "frequency" in self.names:
            unknown = unknown_in(next(iter(self.runs.values())).tokenizer) or UNKNOWN
            rows = with_frequencies(rows, self.training_text.counts(), unknown=unknown)
        if self.ngram is not None:
            model = train_ngram(self.training_text, self.ngram) if isinstance(self.ngram, int) else self.ngram
            rows = with_ngrams(rows, model)
        return rows

    @property
    def have_same_tokens(self) -> bool:
        """Whether all models have the same tokenizer."""
        return len({loaded.tokenizer.fingerprint for loaded in self.runs.values()}) == 1

    @cached_property
    def training_text(self) -> TrainingText:
        """The training text of the first model."""
        loaded = next(iter(self.runs.values()))
        return training_text(run.corpus_of(loaded).splits["train"], loaded.tokenizer)

    def _rows_of(self, loaded: Loaded, text: HeldOut, fit: Fit) -> Iterator[Row]:
        model, tokenizer = loaded.model, loaded.tokenizer
        reading = Reading(tokenizer, text, reset=ResetRule.of(loaded.config.train))
        parts = scored_windows(
            model, reading.windows(), groups=groups_of_types(tokenizer, model), ranks="rank" in self.names
        )
        rows: Iterable[Row] = fit(reading.rows(parts, self.word_boundary), loaded)
        if self.adapt is not None:
            before, after = adapted_rows(
                model,
                reading,
                self.dynamic,
                self._rms(loaded),
                unit="sentence" if self.adapt == "sentence" else "document",
                word_boundary=self.word_boundary,
            )
            rows = with_adaptation(rows, fit(before, loaded), fit(after, loaded))
        if "word-entropy" in self.names:
            rows = with_word_entropies(rows, model, reading, mass=self.word_mass)
        return iter(rows)

    def _rms(self, loaded: Loaded) -> list[Tensor] | None:
        job = Adaptation(loaded, None, self.dynamic)
        job.measure_rms()
        return job.rms


def dynamic_of(arguments: argparse.Namespace) -> DynamicSettings:
    """Return how a model learns after each unit of ``--adapt``: plain SGD, unless ``--dynamic`` says otherwise."""
    names = ("lr", "decay", "epsilon")
    return DynamicSettings.of(arguments.dynamic or "sgd", **{n: getattr(arguments, f"dynamic_{n}") for n in names})
