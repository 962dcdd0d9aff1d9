"""A text as a model reads it, token by token on one stream, and the resulting rows of tokens and words.

held-out text → ids, with what is read before each part of it (``Reading``) → windows → the model's figures at each
place → rows
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Literal

import numpy as np

from pipeline.data.document_pools import document_starts
from pipeline.data.streams import NO_RESETS, ResetRule, part_of
from pipeline.data.tokenizer import EOS, Ids, Tokenizer
from pipeline.data.windows import IGNORED, ArrayTokens, Window
from pipeline.evaluate.held_out import HeldOut
from pipeline.evaluate.type_classes import places_of
from pipeline.evaluate.words import Row, WordBoundary, Words
from pipeline.scoring import Scored

WINDOW_TOKENS = 512

Unit = Literal["sentence", "document"]


class Reading:
    """A text with what is read before it, or before each document of it, which is not scored.

    One more token follows its end: what the model predicts in its place shows whether the last word is over.
    """

    def __init__(self, tokenizer: Tokenizer, text: HeldOut, *, reset: ResetRule = NO_RESETS) -> None:
        """
        Args:
            reset: as the model was trained. Documents that are read by themselves begin from a zero state in any case;
                if it is at documents or every few tokens, what is read before one only predicts its first token.
        """
        self.tokenizer = tokenizer
        self.text = text
        self.starts = document_starts(text.tokens)
        ids = text.tokens[0 : len(text.tokens)].astype(np.int64)
        every = None if reset.every_tokens is None else min(reset.every_tokens, len(ids) + 1)
        if text.begin_id is None:
            begins, begin_ids = np.zeros(1, dtype=np.int64), tokenizer.start_ids
            resets = self.starts + 1
            if every is not None:
                resets = np.arange(1, len(ids) + 1, every)
            self.reset = ResetRule(at_documents=reset != NO_RESETS)
        else:
            begins, begin_ids = self.starts, np.array([text.begin_id])
            resets = self.starts + np.arange(len(self.starts))
            if reset.type_before(tokenizer) == text.begin_id:
                resets = np.union1d(resets, resets + 1)
            elif every is not None:
                ends = np.append(resets[1:], len(ids) + len(resets))
                inner = [np.arange(begin + 1, end, every) for begin, end in zip(resets, ends, strict=True)]
                resets = np.union1d(resets, np.concatenate([resets[:0], *inner]))
            self.reset = ResetRule(at_documents=True)
        self.ids = np.append(np.insert(ids, begins, begin_ids), 0)  # (N,)
        self.places = np.append(np.insert(np.arange(len(ids)), begins, -1), -1)  # (N,) of each in the text; −1: none
        self.tokens = ArrayTokens(self.ids, resets)

    @property
    def end(self) -> int:
        """The number of inputs."""
        return len(self.ids) - 1

    def resets_before(self, place: int) -> bool:
        """Whether the state is set to zero before input ``place``."""
        return self.reset.mask(self.tokens, np.array([place]), position=place, length=1) is not None

    def windows(self, start: int = 0, stop: int | None = None) -> Iterator[Window]:
        """Yield inputs ``start`` to ``stop`` on one stream; only tokens of the text count as targets."""
        stop = self.end if stop is None else stop
        for begin in range(start, stop, WINDOW_TOKENS):
            length = min(WINDOW_TOKENS, stop - begin)
            block = self.ids[begin : begin + length + 1, None]  # (T + 1, 1)
            is_target = self.places[begin + 1 : begin + length + 1, None] >= 0
            resets = self.reset.mask(self.tokens, np.array([begin]), position=begin, length=length)
            yield Window(
                inputs=block[:-1],
                targets=np.where(is_target, block[1:], IGNORED),
                position=begin,
                next_position=begin + length,
                begins=begin == 0,
                resets=part_of(resets, 0, length),
            )

    def units(self, unit: Unit) -> Ids:
        """Return the first input of each sentence or document, the one before its first token, and the end.

        A sentence ends with ``<eos>``, with a line, or with its document.
        """
        is_first = np.isin(self.places, self.starts)  # (N,)
        if unit == "sentence":
            types = np.unique(self.ids)
            ends = [t for t in types.tolist() if t == self.tokenizer.eos_id or b"\n" in self.tokenizer.decode_bytes(t)]
            is_first[1:] |= np.isin(self.ids[:-1], ends)
        return np.append(np.flatnonzero(is_first & (self.places >= 0)) - 1, self.end)

    def inputs_of(self, tokens: Ids) -> Ids:
        """Return the input after which each of ``tokens``, places in the text, is predicted."""
        return np.flatnonzero(self.places >= 0)[tokens] - 1

    def rows(self, parts: Iterable[Scored], word_boundary: WordBoundary = "corrected") -> Iterator[Row]:
        """Yield a row for each token, and for each word after the last of its tokens, from windows that were scored."""
        words, tokenizer = Words(self.tokenizer, word_boundary), self.tokenizer
        own_texts = self.text.own_texts()
        data_of = lru_cache(maxsize=None)(
            lambda t: EOS.encode() if t == tokenizer.eos_id else tokenizer.decode_bytes(t)
        )
        for part in parts:
            targets = part.window.targets[:, 0]
            at = self.places[part.window.position + 1 :][: len(targets)]
            documents = np.searchsorted(self.starts, at, side="right") - 1
            positions = at - self.starts[documents]
            columns = (targets.tolist(), at.tolist(), documents.tolist(), positions.tolist(), places_of(part))
            for token, begin, document, position, place in zip(*columns, strict=True):
                if begin < 0:
                    yield from words.finish(place)
                    continue
                data = data_of(token)
                own = next(own_texts, None) if token == tokenizer.unk_id else None
                own_data = None if own is None else own.encode(errors="replace")
                yield from words.push(token, data, document, place, own_data)
                is_end = token == tokenizer.eos_id
                figures = (place.nats, own_data, place.entropy)
                yield Row("token", data, document, position, *figures, rank=place.rank, is_end=is_end, begin=begin)
