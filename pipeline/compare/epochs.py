"""What the text gives the variants of a comparison: tokens per epoch, and whether each has enough for a window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from pipeline.compare.plan import Comparison
from pipeline.compare.widths import Sized
from pipeline.config import Config
from pipeline.data.shards import PreparedCorpus
from pipeline.data.training_data import training_data
from pipeline.data.windows import TrainingData
from pipeline.errors import UserError
from pipeline.search.candidates import as_key

# the settings of a variant that decide how many tokens an epoch has
OF_DATA = ("train.batch_size", "train.bptt")


def fewest_tokens_per_epoch(config: Config, comparison: Comparison, corpus: PreparedCorpus) -> int:
    """Tokens that one epoch trains on, of the variant or draw that has the fewest: each cuts the text in its way."""
    configs: dict[str, Config] = {}
    for one in comparison.sizes:
        for draw in ({}, *comparison.draws):
            settings = {**one.settings, **draw}
            key = as_key({path: settings[path] for path in OF_DATA if path in settings})
            if key not in configs:
                configs[key] = one.variant.config(config, settings)
    found = []
    for each in configs.values():
        with suppress(UserError):  # a draw with too little text for one of its windows trains on nothing
            found.append(training_data(each, corpus, rank=0, world_size=1).tokens_per_epoch)
    return min(found)


def check_lengths(config: Config, sizes: Sequence[Sized], data_of: Callable[[Config], TrainingData]) -> None:
    """Raise ``UserError`` for a variant with too little text for one of its windows.

    Args:
        data_of: the configuration of a run → its training split.
    """
    for variant in dict.fromkeys(one.variant.name for one in sizes):
        one = next(one for one in sizes if one.name == variant)
        try:
            data_of(one.variant.config(config, one.settings))
        except UserError as error:
            raise UserError(f"compare.variants: {variant}: {error}") from None
