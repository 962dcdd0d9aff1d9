"""A split of a prepared corpus in, sentences of words out, as an n-gram model counts them.

With a word tokenizer a word is a token; else it is what stands between white space, as in ``str.split``, by which the
words that a model is asked about are split too; one of which the tokenizer does not know all is ``<unk>``. A sentence
ends with ``<eos>``, or with its document if the tokenizer has none. Nothing here loops over tokens in Python.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.data.document_pools import document_starts
from pipeline.data.tokenizer import Ids, Tokenizer
from pipeline.data.windows import Tokens
from pipeline.ngram.model import BEGIN, BEGIN_ID, END, END_ID, SPECIAL, UNKNOWN, UNKNOWN_ID

# mark the end of a sentence, and what the tokenizer does not know; these bytes never occur in UTF-8
END_MARK, UNKNOWN_MARK = b"\xff", b"\xfe"
IS_SPACE = np.array([byte < 128 and chr(byte).isspace() for byte in range(256)])
# white space beyond ASCII, in UTF-8; all of it lies in the first plane of Unicode
WIDE_SPACE = re.compile(b"|".join(chr(c).encode() for c in range(128, 1 << 16) if chr(c).isspace()))


@dataclass(frozen=True)
class TrainingText:
    """Sentences of words, as numbers."""

    words: list[str]  # <unk>, <s>, </s>, then all others
    ids: Ids  # (N,) int64: <s> before each sentence, </s> after it

    def counts(self) -> dict[str, int]:
        """Return how often each word occurs; the count of ``</s>`` is the number of sentences."""
        return dict(zip(self.words, np.bincount(self.ids, minlength=len(self.words)).tolist(), strict=True))


def training_text(tokens: Tokens, tokenizer: Tokenizer) -> TrainingText:
    """Return all of ``tokens`` as sentences of words."""
    ids = with_ends(np.asarray(tokens[0 : len(tokens)]), document_starts(tokens), tokenizer)
    if tokenizer.kind == "word":
        words, of_type = _known_words([tokenizer.decode_bytes(i) for i in range(tokenizer.vocab_size)])
        special = {tokenizer.vocab_size: END_ID, tokenizer.eos_id: END_ID, tokenizer.unk_id: UNKNOWN_ID}
        of_type = np.append(of_type, END_ID)
        for token, word in special.items():
            if token is not None:
                of_type[token] = word
        return TrainingText(words, with_begins(of_type[ids]))
    found = words_between_space(ids, tokenizer).dictionary_encode()
    words, of_value = _known_words(found.dictionary.to_pylist())
    return TrainingText(words, with_begins(of_value[np.asarray(found.indices)]))


def with_ends(ids: Ids, starts: Ids, tokenizer: Tokenizer) -> Ids:
    """Return (N,) int64 ``ids``, with ``vocab_size`` inserted after each document that does not end with ``<eos>``."""
    ids = ids.astype(np.int64)
    ends = np.append(starts[starts > 0], len(ids))
    ends = ends[ends > 0]
    is_open = ids[ends - 1] != (-1 if tokenizer.eos_id is None else tokenizer.eos_id)
    return np.insert(ids, ends[is_open], tokenizer.vocab_size)


def words_between_space(ids: Ids, tokenizer: Tokenizer) -> pa.Array:
    """Return the words that ``ids`` spell, as bytes, with ``UNKNOWN_MARK`` for ``<unk>``.

    ``END_MARK`` stands for ``<eos>`` and for the number ``vocab_size``.
    """
    pieces = [tokenizer.decode_bytes(i) for i in range(tokenizer.vocab_size)]
    if tokenizer.unk_id is not None:  # with the white space that it is shown with
        shown = unknown_in(tokenizer).encode()
        pieces[tokenizer.unk_id] = pieces[tokenizer.unk_id].replace(shown, UNKNOWN_MARK) if shown else UNKNOWN_MARK
    end = b" " + END_MARK + b" "
    if tokenizer.eos_id is not None:
        pieces[tokenizer.eos_id] = end
    text = pa.array([*pieces, end], pa.large_binary()).take(pa.array(ids))
    _, offsets, data = text.buffers()
    num_bytes = int(np.frombuffer(offsets, dtype=np.int64)[len(text)]) if len(text) else 0
    values = np.frombuffer(WIDE_SPACE.sub(b" ", memoryview(data)[:num_bytes]) if num_bytes else b"", dtype=np.uint8)
    is_word = ~IS_SPACE[values]
    starts = is_word.copy()
    starts[1:] &= ~is_word[:-1]
    places = np.append(np.flatnonzero(starts[is_word]), np.count_nonzero(is_word))
    buffers = [None, pa.py_buffer(places.astype(np.int64)), pa.py_buffer(values[is_word])]
    return pa.Array.from_buffers(pa.large_binary(), len(places) - 1, buffers)


def unknown_in(tokenizer: Tokenizer) -> str:
    """Return what stands in a word for a part of it that ``tokenizer`` does not know; empty if that is nothing."""
    return "" if tokenizer.unk_id is None else tokenizer.decode_bytes(tokenizer.unk_id).decode().strip()


def with_begins(words: Ids) -> Ids:
    """Return (N,) the words of sentences that end with ``</s>``, with ``<s>`` inserted before each sentence."""
    ends = np.flatnonzero(words == END_ID)
    return np.insert(words, np.append(0, ends[:-1] + 1), BEGIN_ID)


def _known_words(values: list[bytes]) -> tuple[list[str], Ids]:
    """Return the special words and then all distinct words of ``values``, and the index of each value among them."""
    index = {word: i for i, word in enumerate(SPECIAL)}
    found = np.empty(len(values), dtype=np.int64)
    for i, value in enumerate(values):
        word = END if value == END_MARK else value.decode(errors="replace")
        # what is not known whole, only looks like a mark, or cannot be written to an ARPA file, counts as <unk>
        is_whole = UNKNOWN_MARK not in value and word not in (BEGIN, END) and word.split() == [word]
        is_word = value == END_MARK or is_whole
        found[i] = index.setdefault(word if is_word else UNKNOWN, len(index))
    return list(index), found
