"""Where the documents of a token sequence begin, pools of them that are read together, and rows made of them.

Letters: T time, B documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.windows import IGNORED, Tokens
from pipeline.errors import UserError

if TYPE_CHECKING:  # as in streams
    from pipeline.data.tokenizer import Ids, Tokenizer

# tokens of a pool, and tokens that no window needs but that are read as well, to read a pool in one piece
POOL_TOKENS, MOST_READ_ALONG = 1 << 22, 1 << 16


def begin_of_documents(tokenizer: Tokenizer) -> int:
    """What the model reads before a document's first token. Raises ``UserError`` if documents have no ``<eos>``."""
    eos_id = tokenizer.eos_id
    check_ends("none" if eos_id is None else tokenizer.eos)
    assert eos_id is not None
    return eos_id


def check_ends(eos: str) -> None:
    """Raise ``UserError`` unless ``<eos>`` is put after each document; ``eos``: as in ``Tokenizer``."""
    if eos != "document":
        raise UserError(
            "data.layout: documents begin and end with <eos>, but the corpus was prepared with "
            f"tokenizer.eos={eos} (auto is none if the training text is one document: corpus.document)"
        )


def document_starts(tokens: Tokens) -> Ids:
    """Where every document begins; if a split begins within a document, its part of that counts as one, too."""
    starts = tokens.document_starts(0, len(tokens))
    return starts if not len(tokens) or (len(starts) and not starts[0]) else np.insert(starts, 0, 0)


def document_lengths(tokens: Tokens) -> Ids:
    """Number of tokens of every document."""
    return np.diff(document_starts(tokens), append=len(tokens))


class DocumentPools:
    """Where the documents of a token sequence begin: 8 bytes of memory for each."""

    def __init__(self, tokens: Tokens, *, num_rows: int, most_tokens: int | None = None) -> None:
        """
        Args:
            num_rows: documents in a window; all pools but the last hold a multiple of it.
            most_tokens: the length to which documents are truncated; None: they are not.
        """
        self.tokens = tokens
        self.most_tokens = most_tokens
        self.starts = document_starts(tokens)
        pools = np.flatnonzero(np.diff(self.starts[::num_rows] // POOL_TOKENS, prepend=-1)) * num_rows
        self.bounds = np.append(pools, len(self.starts))  # the first document of each pool, and the end

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def num_documents(self) -> int:
        return len(self.starts)

    def lengths(self, pool: int) -> Ids:
        """Number of tokens used of each document of ``pool``."""
        whole = np.diff(self.places(pool), append=self._end(pool))
        return whole if self.most_tokens is None else np.minimum(whole, self.most_tokens)

    def read(self, pool: int) -> tuple[Ids, Ids]:
        """The tokens of ``pool``, and where in them each of its documents begins."""
        starts = self.places(pool)
        ends = starts + self.lengths(pool)
        # in one piece, but skipping the rest of documents that are much longer than what is used of them
        first = np.append(0, 1 + np.flatnonzero(starts[1:] - ends[:-1] > MOST_READ_ALONG))
        last = np.append(first[1:], len(starts)) - 1
        parts = [self.tokens[a:b] for a, b in zip(starts[first].tolist(), ends[last].tolist(), strict=True)]
        offsets = np.cumsum([0, *(len(part) for part in parts)])[:-1] - starts[first]
        return np.concatenate(parts), starts + np.repeat(offsets, last - first + 1)

    def places(self, pool: int) -> Ids:
        """Where in the whole sequence each document of ``pool`` begins."""
        return self.starts[self.bounds[pool] : self.bounds[pool + 1]]

    def _end(self, pool: int) -> int:
        following = int(self.bounds[pool + 1])
        return int(self.starts[following]) if following < len(self.starts) else len(self.tokens)


def block(tokens: Ids, starts: Ids, lengths: Ids, *, begin_id: int, begin: int, end: int) -> tuple[Ids, Ids]:
    """(end − begin, B) inputs and targets number ``begin`` to ``end`` of documents, filled at once.

    ``starts`` are their first tokens in ``tokens``, ``lengths`` their numbers of tokens; 0 makes a row of padding.
    """
    steps = np.arange(begin - 1, end)[:, None]
    found = tokens[np.clip(starts + steps, 0, len(tokens) - 1)].astype(np.int64)  # (end − begin + 1, B)
    is_token = steps[1:] < lengths
    inputs = np.where(is_token, found[:-1], begin_id)
    if begin == 0:
        inputs[0] = begin_id
    return inputs, np.where(is_token, found[1:], IGNORED)


def padded_with(rows: Ids, lengths: Ids) -> Ids:
    """``lengths`` of the documents ``rows``, 0 where a row is −1."""
    return np.where(rows >= 0, lengths[rows], 0)
