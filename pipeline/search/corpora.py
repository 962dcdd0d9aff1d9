"""The corpora of a search's trials: one for each tokenizer, prepared once; such trials are compared per byte.

A trial with other tokens than the search's own has its corpus beside ``data.directory``, in a folder of its own.
Perplexities over different tokens cannot be compared, so such a search compares nats per byte of text.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.data.directory import BeingPreparedError
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import PreparedCorpus
from pipeline.errors import UserError
from pipeline.evaluate import split_held_out

TOKENS = "tokenizer."
LOOK_SECONDS = 0.5


def has_other_tokens(paths: Iterable[str]) -> bool:
    """Whether trials whose settings at ``paths`` differ may have different tokens."""
    return any(path.startswith(TOKENS) for path in paths)


def of_trial(config: Config, settings: Mapping[str, Any]) -> Config:
    """``config`` with the ``settings`` of a trial, and the directory of its corpus."""
    trial = configuration.with_values(config, settings)
    fingerprint = configuration.data_fingerprint(trial)
    if fingerprint == configuration.data_fingerprint(config):
        return trial
    return configuration.with_values(trial, {"data.directory": f"{config.data.directory}-{fingerprint[:8]}"})


def prepared(config: Config, *, say: Callable[[str], None] = lambda sentence: None) -> PreparedCorpus:
    """The corpus of ``config``, prepared now if necessary; wait for another trial that is preparing it.

    Raises:
        UserError: as ``prepare_in_process``.
    """
    while True:
        try:
            return prepare_in_process(config, say=say)
        except BeingPreparedError:
            time.sleep(LOOK_SECONDS)


def check_comparable(config: Config, corpus: PreparedCorpus) -> None:
    """Raise ``UserError`` with the reason if the validation split has no bits per byte, or ``config`` no budget.

    ``config`` is that of a trial.
    """
    check_budget(config)
    held_out = split_held_out(corpus, "valid", layout=config.data.layout)
    if held_out.num_bytes is None:
        raise UserError(
            f"search.space: tokenizers are compared by bits per byte, which {corpus.directory} does not allow: "
            f"{held_out.why_not}"
        )


def check_budget(config: Config) -> None:
    """Raise ``UserError`` if a trial of ``config``, with a tokenizer of its own, has no budget of tokens."""
    if config.train.max_tokens is None:
        raise UserError(
            "search.max_tokens: trials of different tokenizers have different numbers of tokens, so a search over "
            "tokenizer.* needs the budget of a trial"
        )


def by_bytes(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a validation with its loss in nats per byte and its perplexity per byte."""
    loss = figures["bits_per_byte"] * math.log(2)
    return {**figures, "loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}
