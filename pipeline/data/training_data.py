"""The training split in the layout that the settings ask for: streams or documents, with or without a word count."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.data.document_pools import begin_of_documents
from pipeline.data.documents import Documents
from pipeline.data.shards import PreparedCorpus
from pipeline.data.streams import Streams
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.windows import TrainingData
from pipeline.data.word_counts import WordBegins
from pipeline.errors import UserError


def training_data(config: Config, corpus: PreparedCorpus, *, rank: int, world_size: int) -> TrainingData:
    """Open this rank's part of the training split, in the layout that ``config`` asks for.

    Raises:
        UserError: it is too short for a window, or for this many ranks; or its words should be counted and cannot be.
    """
    tokens, tokenizer = corpus.splits["train"], corpus.tokenizer
    how: dict[str, Any] = {"rank": rank, "world_size": world_size, "word_begins": word_begins_of(config, tokenizer)}
    if config.data.layout == "streams":
        return Streams.of(tokens, config.train, **how)
    return Documents.of(tokens, config.data, config.train, begin_id=begin_of_documents(tokenizer), **how)


def word_begins_of(config: Config, tokenizer: Tokenizer) -> WordBegins | None:
    """What counts the words of tokens, if ``config`` asks for that. Raises ``UserError`` if they cannot be counted."""
    if not config.train.counts_words:
        return None
    name = "max_words" if config.train.max_words is not None else "checkpoint_at_words"
    try:
        return WordBegins(tokenizer)
    except UserError as error:
        raise UserError(f"train.{name}: {error}") from None
