"""The training text in, its tokenizer out: counted by tasks, learnt here, or taken from a file."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import TokenizerConfig
from pipeline.data.corpus import Slice, texts_of
from pipeline.data.corpus.slices import group, sample
from pipeline.data.tasks import CountTask, MapTasks
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.data.tokenizer.training import Counts, from_counts, resolve_eos

# enough text for byte-pair merges: more of it hardly changes them
BPE_SAMPLE_BYTES = 40 << 20
COUNT_BYTES = 64 << 20


def tokenizer_of(slices: Sequence[Slice], config: TokenizerConfig, map_tasks: MapTasks) -> Tokenizer:
    """The tokenizer of the training text, learnt from it or from a sample of it, or read from a file.

    Args:
        map_tasks: does each task somewhere and yields the results, in any order.

    Raises:
        UserError: settings that do not go together, or a file that is not a tokenizer.
    """
    num_documents = num_documents_of(slices)
    is_learnt = config.path is None and config.kind != "byte"
    num_bytes = config.sample_bytes or (BPE_SAMPLE_BYTES if config.kind == "bpe" else None)
    if is_learnt and num_bytes is not None:
        slices = sample(slices, num_bytes)
    if is_learnt and config.kind in ("char", "word"):
        counts = Counts.sum_of([])
        for found in map_tasks([CountTask(tuple(part), config.kind) for part in group(slices, COUNT_BYTES)]):
            counts = Counts.sum_of([counts, found])
        return from_counts(config, counts, eos=resolve_eos(config, num_documents=num_documents))
    return train_tokenizer(config, texts_of(slices) if is_learnt else [], num_documents=num_documents)


def num_documents_of(slices: Sequence[Slice]) -> int:
    """The number of documents in ``slices`` if each is one, else 2: whether there are several is all that matters."""
    return len(slices) if all(item.reader.is_one_document for item in slices) else 2
