"""The tokenizer of a corpus: its vocabulary counted, or its merges learnt, from the training documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer.base import EOS, UNK, Tokenizer
from pipeline.data.tokenizer.bpe import train_bpe
from pipeline.data.tokenizer.byte import ByteTokenizer
from pipeline.data.tokenizer.char import CharTokenizer
from pipeline.data.tokenizer.characters import END
from pipeline.data.tokenizer.files import read_existing
from pipeline.data.tokenizer.pieces import groups_of
from pipeline.data.tokenizer.word import WordTokenizer, split_words
from pipeline.errors import UserError


def train_tokenizer(config: TokenizerConfig, documents: Iterable[str], *, num_documents: int) -> Tokenizer:
    """The tokenizer of the training ``documents``, or that of ``tokenizer.path``, which reads none of them.

    Raises:
        UserError: settings that do not go together.
    """
    eos = resolve_eos(config, num_documents=num_documents)
    if config.path is None and config.kind in ("char", "word"):
        return from_counts(config, count(config.kind, documents), eos=eos)
    if config.path is None and config.kind == "byte":
        if config.vocab_size is not None:
            raise UserError("tokenizer.vocab_size: bytes have a vocabulary of their own; leave it null")
        return ByteTokenizer(eos)
    return train_bpe(config, eos, documents) if config.path is None else read_existing(config, eos=eos)


def resolve_eos(config: TokenizerConfig, *, num_documents: int) -> str:
    """Where ``<eos>`` stands. Raises ``UserError`` for lines where tokens are not words."""
    eos = config.eos
    if eos == "auto":
        eos = "line" if config.kind == "word" else "document" if num_documents > 1 else "none"
    if eos == "line" and config.kind != "word":
        raise UserError(f"tokenizer.eos: line is for words; with tokenizer.kind={config.kind} line ends are tokens")
    return eos


def count(kind: str, documents: Iterable[str]) -> Counter[str]:
    """How often each character or word comes; counts of parts of a corpus add up to those of the whole."""
    counts: Counter[str] = Counter()
    count_group = _count_characters if kind == "char" else _count_words
    for group in groups_of(documents):
        counts.update(count_group([piece.characters for piece in group]))
    return counts


def _count_characters(texts: list[str]) -> dict[str, int]:
    points = np.frombuffer("".join(texts).encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
    numbers = np.bincount(points)
    return {chr(point): int(numbers[point]) for point in np.flatnonzero(numbers)}


def _count_words(texts: list[str]) -> dict[str, int]:
    found = split_words(END.join(text.encode() for text in texts), lines=False).value_counts()
    pairs = zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True)
    return {word.decode(): number for word, number in pairs if word != END}


def from_counts(config: TokenizerConfig, counts: Mapping[str, int], *, eos: str) -> Tokenizer:
    """The types of a corpus by falling count, equal ones in the order of their characters."""
    special = [UNK] if eos == "none" else [UNK, EOS]
    common = sorted((-number, text) for text, number in counts.items() if number >= config.min_count)
    types = special + [text for _, text in common if text not in special]
    kind = CharTokenizer if config.kind == "char" else WordTokenizer
    return kind(eos, types[: config.vocab_size])
