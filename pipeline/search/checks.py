"""What a search needs before it starts, and which settings no trial can have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline import config as configuration
from pipeline import run
from pipeline.config import Config
from pipeline.data.shards import PreparedCorpus
from pipeline.errors import UserError
from pipeline.model.shapes import shapes_of
from pipeline.search.corpora import of_trial
from pipeline.search.first import first_settings

__all__ = ["first_settings", "why_not"]


def why_not(config: Config, corpus: PreparedCorpus, *, num_workers: int) -> Callable[[Mapping[str, Any]], str]:
    """Return a function: the settings of a trial → why no trial can have them; empty if one can.

    Args:
        config: that of a trial before its own settings are applied.
    """

    def reason(settings: Mapping[str, Any]) -> str:
        try:
            trial = of_trial(config, settings)
            vocab_size = corpus.vocab_size
            if trial.data.directory == config.data.directory:
                run.training_data(trial, corpus, rank=0, world_size=num_workers)
            else:  # its corpus may not be prepared yet
                vocab_size = trial.tokenizer.vocab_size or vocab_size
            configuration.check_accumulation(trial.train, num_workers)
            model = shapes_of(trial.model, vocab_size)
        except UserError as error:
            return "; ".join(str(error).splitlines())
        most = config.search.max_parameters
        number = sum(parameter.numel() for parameter in model.parameters())
        if most is not None and number > most:
            return f"a model of {number:,} parameters is larger than search.max_parameters={most:,}"
        return ""

    return reason
