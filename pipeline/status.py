"""Where a run stands, as its driver asks before and after its ranks: may it begin or go on, is it finished, its result.

config + prepared corpus + run directory → a refusal in words, or the figures of the run's checkpoints
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline import config as configuration
from pipeline import run
from pipeline.config import Config
from pipeline.data.shards import PreparedCorpus
from pipeline.model.language_model import LanguageModel
from pipeline.training import checkpoint
from pipeline.training.horizon import total_steps
from pipeline.training.resume import check_continues


def check(config: Config, corpus: PreparedCorpus, *, num_workers: int) -> None:
    """Find what would stop every rank before any is started.

    Raises:
        ValueError: too little text for a window, more workers than rows, a head that does not fit the vocabulary, or
            a run directory that holds another run.
    """
    run.training_data(config, corpus, rank=0, world_size=num_workers)
    configuration.check_accumulate(config.train, num_workers)
    with torch.device("meta"):
        LanguageModel(config.model, corpus.vocab_size)
    directory = str(config.run.directory)
    if config.train.initial_weights is not None:
        check_initial_weights(config, corpus)
    if checkpoint.manifests(directory):
        check_continues(checkpoint.find(directory, "last"), config, fingerprints=run.fingerprints(corpus))


def check_initial_weights(config: Config, corpus: PreparedCorpus) -> None:
    """Raise ``ValueError`` unless train.initial_weights is a model of this shape, trained with this tokenizer."""
    path = str(config.train.initial_weights)
    try:
        loaded = checkpoint.load_model(checkpoint.resolve(path))
    except ValueError as error:
        raise ValueError(f"train.initial_weights: {error}") from None
    if loaded.tokenizer.fingerprint != corpus.tokenizer.fingerprint:
        raise ValueError(f"train.initial_weights: {path} was trained with another tokenizer than the corpus has")
    untrained = run.build_model(config, corpus.vocab_size)
    shapes = [[(name, p.shape) for name, p in model.named_parameters()] for model in (loaded.model, untrained)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"train.initial_weights: {path} is a model of another shape than model.* says")


def finished(config: Config, corpus: PreparedCorpus) -> bool:
    """Whether the run directory holds a run that is already at its horizon or ended early."""
    directory = str(config.run.directory)
    if not checkpoint.manifests(directory):
        return False
    manifest = checkpoint.verify(checkpoint.find(directory, "last"))
    data = run.training_data(config, corpus, rank=0, world_size=1)
    return bool(manifest["ended_early"]) or manifest["step"] >= total_steps(config.train, data)


def result(config: Config) -> dict[str, Any]:
    """The figures of a run from its best checkpoint, its length from its last."""
    directory = str(config.run.directory)
    best, last = (checkpoint.find(directory, which) for which in ("best", "last"))
    figures, end = checkpoint.verify(best), checkpoint.verify(last)
    return {
        "perplexity": figures.get("perplexity"),
        "bits_per_byte": figures.get("bits_per_byte"),
        "tokens": end["tokens"],
        "steps": end["step"],
        "seconds": round(end["seconds"], 3),
        "checkpoint": str(best),
    }
