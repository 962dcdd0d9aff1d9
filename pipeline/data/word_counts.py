"""How many words of the source a run has read: counted from its tokens, without decoding them.

A word is what stands between white space, as in ``str.split``, and counts where it begins: in the token that has its
first character. ``WordBegins`` says how many words begin in each token, from a table of types; ``WordCounts`` sums them
up to any place in an epoch. Nothing depends on the number of ranks. Letters: N tokens, V types, L positions of an
epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pipeline.data.tokenizer import Ids, Tokenizer
from pipeline.data.tokenizer.word import CLASSES_OF, WORD
from pipeline.data.windows import Tokens
from pipeline.errors import UserError

# texts whose words must be counted correctly before a tokenizer is trusted with a budget
PROBES = ("it isn't  over, he said;\n\nno-one (3.5%) knows\twhy\n", "one two", "“A” b: c")
# tokens read on either side of a part: they contain the rest of a character that is cut into several tokens
CONTEXT_TOKENS = 4
MOST_OWN = 4  # words, and marks, of the tokenizer's own that are probed


class Edges(NamedTuple):
    """For each of some tokens: whether it begins with part of a word, whether it ends with white space, and how many
    words begin in it after its first character."""

    begins_with_word: Ids
    ends_with_space: Ids
    within: Ids


class WordBegins:
    """Tokens → how many words begin in each.

    Raises:
        UserError: the tokenizer does not keep the white space between words, so that they cannot be counted.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.vocab_size = tokenizer.vocab_size
        self.bytes_of = [_bytes_of(tokenizer, token) for token in range(self.vocab_size)]
        self.is_part = np.zeros(self.vocab_size, dtype=bool)  # begins or ends within a character of several bytes
        self.is_empty = np.array([not data for data in self.bytes_of])
        self.table = Edges(*(np.zeros(self.vocab_size, dtype=kind) for kind in (bool, bool, np.int32)))
        for token, data in enumerate(self.bytes_of):
            try:
                text = data.decode()
            except UnicodeDecodeError:
                self.is_part[token] = True
                continue
            is_word = [not character.isspace() for character in text] or [False]
            self.table.begins_with_word[token] = is_word[0]
            self.table.ends_with_space[token] = not is_word[-1]
            self.table.within[token] = sum(b and not a for a, b in pairwise(is_word))
        if tokenizer.kind == "word":  # each type is a word, without its white space
            self.table.ends_with_space[:] = True
        if tokenizer.eos_id is not None:  # what ends a text or a line ends its last word
            self.is_empty[tokenizer.eos_id] = False
            self.table.ends_with_space[tokenizer.eos_id] = True
        self._check(tokenizer)

    def _check(self, tokenizer: Tokenizer) -> None:
        for text in (*PROBES, *self._own_probes()):
            known = tokenizer.known_of(text)
            ids = tokenizer.encode_document(known)
            # several unknown characters may have become one type, whose words cannot be counted
            if tokenizer.kind != "word" and tokenizer.unk_id is not None and tokenizer.unk_id in ids:
                continue
            found, wanted = int(self(ids, np.zeros(1, dtype=np.int64)).sum()), len(known.split())
            if found != wanted:
                raise UserError(
                    f"the tokenizer does not keep the white space between words, so they cannot be counted: in "
                    f"{known!r} it finds {found} words, not {wanted}"
                )

    def _own_probes(self) -> Iterator[str]:
        """Texts of words and marks that the tokenizer has types for, in case it knows few others."""
        texts = [data.decode(errors="replace").strip() for data in self.bytes_of]
        words = sorted((text for text in texts if text.isalpha() and text.isascii()), key=len, reverse=True)
        marks = [text for text in texts if text in (",", ".", "'", "-")]
        for word in words[:MOST_OWN]:
            yield from (f"{word} {word}", *(f"{word}{mark} {word}" for mark in marks[:MOST_OWN]))

    def __call__(self, ids: Ids, starts: Ids) -> Ids:
        """(N,) words that begin in each of ``ids``, the first of which is taken to follow white space.

        Args:
            starts: where in ``ids`` documents begin, which separates words as white space does.
        """
        edges = Edges(*(part[ids] for part in self.table))
        if self.is_part.any() and (parts := np.flatnonzero(self.is_part[ids])).size:
            for whole, part in zip(edges, self._edges_of_parts(ids[parts]), strict=True):
                whole[parts] = part
        after_space = np.ones(len(ids), dtype=bool)
        after_space[1:] = edges.ends_with_space[:-1]
        if self.is_empty.any() and self.is_empty[ids].any():  # such a token has no text: what is before it counts
            last = np.maximum.accumulate(np.where(self.is_empty[ids], -1, np.arange(len(ids))))
            after_space[1:] = np.where(last[:-1] < 0, True, edges.ends_with_space[last[:-1]])
        after_space[starts] = True
        return edges.within + (edges.begins_with_word & after_space)

    def _edges_of_parts(self, ids: Ids) -> Edges:
        """The same for types that are not whole characters, from the characters that they form together."""
        parts = [self.bytes_of[token] for token in ids.tolist()]
        lengths = np.array([len(part) for part in parts])
        # zeros after a character that is cut at the end; it belongs to neighbouring tokens, which are not asked for
        is_word = CLASSES_OF(b"".join(parts) + bytes(CONTEXT_TOKENS))[: lengths.sum()] == WORD
        first = np.cumsum(lengths) - lengths
        begins = is_word.copy()
        begins[1:] &= ~is_word[:-1]
        begins[first] = False
        return Edges(is_word[first], ~is_word[first + lengths - 1], np.add.reduceat(begins.astype(np.int32), first))

    def of_part(self, tokens: Tokens, start: int, stop: int) -> Ids:
        """The same for tokens ``start`` to ``stop`` of a sequence, with a look at their neighbours."""
        first, last = max(0, start - CONTEXT_TOKENS), min(len(tokens), stop + CONTEXT_TOKENS)
        found = self(np.asarray(tokens[first:last]), tokens.document_starts(first, last) - first)
        return found[start - first : stop - first]


class WordCounts:
    """Words that a run has read, over all ranks, at any place: a word counts again in every epoch.

    Args:
        reached: (L + 1,) words of an epoch before each of its positions.
        epochs_differ: whether words come in another order in each epoch; their number is the same in all.
    """

    def __init__(self, reached: Callable[[int], Ids], *, epochs_differ: bool) -> None:
        self._reached, self.epochs_differ = reached, epochs_differ
        self._epoch, self._found = 0, reached(0)
        self.per_epoch = int(self._found[-1])

    def reached(self, epoch: int) -> Ids:
        """(L + 1,) words of ``epoch`` before each of its positions."""
        if self.epochs_differ and epoch != self._epoch:
            self._epoch, self._found = epoch, self._reached(epoch)
        return self._found

    def after(self, epoch: int, position: int) -> int:
        """Words read by a run that is at ``position`` of ``epoch``."""
        return epoch * self.per_epoch + (int(self.reached(epoch)[position]) if position else 0)


def _bytes_of(tokenizer: Tokenizer, token: int) -> bytes:
    """The bytes that ``token`` stands for; an unknown word or character counts as one that is not white space."""
    if token == tokenizer.eos_id:
        return b""
    if token == tokenizer.unk_id:
        return b"?"
    return tokenizer.decode_bytes(token)
