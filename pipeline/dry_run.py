"""Work out what a run would be, without writing anything: parameters, tokens, steps, an estimate of memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.config import Config, changes
from pipeline.data.counting import Counts, count_tokens
from pipeline.data.document_pools import begin_of_documents
from pipeline.data.documents import Documents
from pipeline.data.streams import Streams
from pipeline.data.training_data import training_data
from pipeline.data.windows import ArrayTokens, TrainingData
from pipeline.training.horizon import Horizon, tokens_after, total_steps, total_tokens
from pipeline.training.memory import num_parameters, number_bytes, parameter_bytes

NOT_COUNTED = "counted once the corpus is prepared (jobs.prepare); until then, steps are those without train.max_words"


def dry_run(config: Config, counts: Counts | None = None) -> dict[str, Any]:
    """Return the parameters, tokens and steps of a run of ``config``, and an estimate of its memory.

    Args:
        counts: of its corpus; None: they are made now.

    Raises:
        UserError: no text, or too little of it for a window.
    """
    counts = counts or count_tokens(config)
    vocab_size = counts.vocab_size
    number = num_parameters(config, vocab_size)
    data = counted_data(config, counts)
    words: dict[str, Any] = {}
    if config.train.counts_words:
        words["words_per_epoch"] = NOT_COUNTED if data.words is None else data.words.per_epoch
    tokens_per_step = config.train.batch_size * max(part.train.bptt for _, part in changes.stretches(config))
    activations = tokens_per_step * (vocab_size + 12 * sum(config.model.layer_sizes))
    return {
        "parameters": number,
        "vocab_size": vocab_size,
        "tokens": counts.tokens["train"],
        "tokens_per_split": counts.tokens,
        "tokens_are": "counted" if counts.is_exact else "estimated at 4 bytes a token",
        **words,
        "tokens_per_epoch": data.tokens_per_epoch,
        "steps_per_epoch": data.num_windows(),
        "steps": Horizon.of(config, lambda part: counted_data(part, counts)).total_steps,
        "total_tokens": total_tokens(config.train, data),
        "unused": data.unused,
        "memory_bytes": parameter_bytes(config, number) + number_bytes(config) * activations,
        **(
            {"changes": told_changes(config, tokens_after(total_steps(config.train, data), data))}
            if config.train.changes
            else {}
        ),
    }


def told_changes(config: Config, end: int) -> list[str]:
    """Return a sentence for each change of settings and when it happens in a run that ends after ``end`` tokens."""
    parts = list(changes.stretches(config))
    return [
        f"at {tokens:,} tokens{'' if tokens < end else f' (never: the run ends after {end:,})'}: "
        f"{changes.in_words(before, after)}"
        for (_, before), (tokens, after) in pairwise(parts)
    ]


def counted_data(config: Config, counts: Counts) -> TrainingData:
    """Return the training split of a single rank, with placeholder tokens if only their number matters.

    Raises:
        UserError: as ``dry_run``.
    """
    if config.train.counts_words and counts.prepared is not None:
        return training_data(config, counts.prepared, rank=0, world_size=1)
    if counts.lengths is None:
        return Streams.of(ArrayTokens(np.empty(counts.tokens["train"], dtype=np.uint8)), config.train)
    ends = np.cumsum(counts.lengths)
    tokens = ArrayTokens(np.empty(ends[-1], dtype=np.uint8), starts=ends - counts.lengths)
    begin_id = 0 if counts.tokenizer is None else begin_of_documents(counts.tokenizer)
    return Documents.of(tokens, config.data, config.train, begin_id=begin_id)
