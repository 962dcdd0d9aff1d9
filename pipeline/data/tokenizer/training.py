"""The tokenizer of a corpus: its vocabulary counted, or its merges learnt, from the training documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer.base import EOS, UNK, Ids, Tokenizer, as_arrow, before_character, values_of
from pipeline.data.tokenizer.bpe import train_bpe
from pipeline.data.tokenizer.byte import ByteTokenizer
from pipeline.data.tokenizer.char import CharTokenizer
from pipeline.data.tokenizer.characters import binary_array_of
from pipeline.data.tokenizer.files import read_existing
from pipeline.data.tokenizer.pieces import groups_of
from pipeline.data.tokenizer.word import WordTokenizer, before_white_space, split_words
from pipeline.errors import UserError


def train_tokenizer(config: TokenizerConfig, documents: Iterable[str], *, num_documents: int) -> Tokenizer:
    """The tokenizer of the training ``documents``, or the one at ``tokenizer.path``, for which none of them is read.

    Raises:
        UserError: settings that do not go together.
    """
    eos = resolve_eos(config, num_documents=num_documents)
    if config.path is None and config.kind in ("char", "word"):
        return from_counts(config, count(config.kind, [[text.encode() for text in documents]]), eos=eos)
    if config.path is None and config.kind == "byte":
        if config.vocab_size is not None:
            raise UserError("tokenizer.vocab_size: bytes have a vocabulary of their own; leave it null")
        return ByteTokenizer(eos)
    return train_bpe(config, eos, documents) if config.path is None else read_existing(config, eos=eos)


def resolve_eos(config: TokenizerConfig, *, num_documents: int) -> str:
    """Where ``<eos>`` is put. Raises ``UserError`` for ``line`` if tokens are not words."""
    eos = config.eos
    if eos == "auto":
        eos = "line" if config.kind == "word" else "document" if num_documents > 1 else "none"
    if eos == "line" and config.kind != "word":
        raise UserError(f"tokenizer.eos: line is for words; with tokenizer.kind={config.kind} line ends are tokens")
    return eos


class Counts(NamedTuple):
    """How often each of some different ``texts`` (binary, UTF-8), words or characters, occurs."""

    texts: pa.BinaryArray
    numbers: Ids  # (len(texts),) int64

    @classmethod
    def sum_of(cls, parts: Iterable[Counts]) -> Counts:
        """The counts of a whole from those of its parts."""
        all_parts = [cls(binary_array_of([]), np.zeros(0, dtype=np.int64)), *parts]
        found = pa.concat_arrays([part.texts for part in all_parts]).dictionary_encode()
        numbers = np.concatenate([part.numbers for part in all_parts])
        # added as float64, which holds every whole number up to 2^53
        sums = np.bincount(values_of(found.indices), weights=numbers, minlength=len(found.dictionary))
        return cls(found.dictionary, sums.astype(np.int64))


def count(kind: str, batches: Iterable[Sequence[bytes]]) -> Counts:
    """How often each character or word occurs in texts in UTF-8; the counts of a corpus's parts add up to its own."""
    if kind == "char":
        count_group, cut = _count_characters, before_character
    else:
        count_group, cut = _count_words, before_white_space
    return Counts.sum_of(count_group(group.texts) for texts in batches for group in groups_of(texts, cut=cut))


def _count_characters(texts: list[bytes]) -> Counts:
    points = np.frombuffer(b"".join(texts).decode().encode("utf-32-le"), dtype=np.uint32)
    numbers = np.bincount(points)
    found = np.flatnonzero(numbers)
    return Counts(binary_array_of([chr(point).encode() for point in found.tolist()]), numbers[found])


def _count_words(texts: list[bytes]) -> Counts:
    found = split_words(b" ".join(texts), lines=False).dictionary_encode()
    return Counts(found.dictionary, np.bincount(values_of(found.indices), minlength=len(found.dictionary)))


def from_counts(config: TokenizerConfig, counts: Counts, *, eos: str) -> Tokenizer:
    """The tokenizer with types by falling count; ties are in the order of their characters, which UTF-8 keeps.

    Raises:
        UserError: nothing that occurs has a type of its own, so that every token would be ``<unk>``.
    """
    special = [UNK] if eos == "none" else [UNK, EOS]
    batch = pa.record_batch([as_arrow(counts.numbers), counts.texts], ["number", "text"])
    order = pc.sort_indices(batch, sort_keys=[("number", "descending"), ("text", "ascending")])
    num_common = np.count_nonzero(counts.numbers >= config.min_count)
    common = counts.texts.take(order[:num_common][: config.vocab_size]).to_pylist()
    types = special + [text for text in map(bytes.decode, common) if text not in special]
    types = types[: config.vocab_size]
    if len(counts.texts) and types == special and (config.min_count > 1 or config.vocab_size):
        name = "vocab_size" if config.vocab_size and num_common else "min_count"
        raise UserError(
            f"tokenizer.{name}: with {getattr(config, name)}, no {config.kind} of the training text has a type of its "
            "own; all would be <unk>"
        )
    return (CharTokenizer if config.kind == "char" else WordTokenizer)(eos, types)
