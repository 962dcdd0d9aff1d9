"""Many short texts scored side by side, each by itself: from a zero state, after what a text begins with.

texts → ids, each distinct sequence once → batches of about the same length, or of texts that begin alike → nats of
whole texts, or of their words.
Texts with equal ids get equal figures to the last bit, since the ids are scored once: a tie is a tie.
Letters: T time, B texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from pipeline.data.tokenizer import EOS, Ids, Tokenizer
from pipeline.errors import UserError
from pipeline.evaluate.prefix_tree import PrefixTree, pays
from pipeline.evaluate.type_classes import Place, groups_of_types, places_of
from pipeline.evaluate.windows import window_of
from pipeline.evaluate.words import Row, WordBoundary, Words
from pipeline.model.language_model import LanguageModel
from pipeline.scoring import NOT_FINITE, Scored, scored_windows

# in a batch, padding included
TOKENS_AT_ONCE = 1 << 13

Told = Callable[[int], None]


@dataclass(frozen=True)
class Encoded:
    """The distinct sequences of ids among texts, which of them each text has, and how many texts have each."""

    ids: list[Ids]  # int64, the start first
    index: list[int]
    counts: list[int]

    @classmethod
    def of(cls, tokenizer: Tokenizer, texts: Sequence[str], *, end: Sequence[int] = ()) -> Encoded:
        """Encode each text, followed by the ids ``end``. Raises ``UnknownTextError`` for what has no type."""
        number_of: dict[bytes, int] = {}
        ids: list[Ids] = []
        index, counts = [], []
        flat, lengths = tokenizer.encode_documents([tokenizer.normalized(text) for text in texts])
        for part in np.split(flat, np.cumsum(lengths)[:-1]) if texts else ():
            found = number_of.setdefault(part.tobytes(), len(ids))
            if found == len(ids):
                ids.append(np.concatenate([tokenizer.start_ids, part, np.array(end)]).astype(np.int64))
                counts.append(0)
            index.append(found)
            counts[found] += 1
        return cls(ids, index, counts)

    def batches(self) -> Iterator[list[int]]:
        """Yield the numbers of sequences of about the same length, the shortest first."""
        batch: list[int] = []
        for number in sorted(range(len(self.ids)), key=lambda number: len(self.ids[number])):
            if batch and (len(batch) + 1) * len(self.ids[number]) > TOKENS_AT_ONCE:
                yield batch
                batch = []
            batch.append(number)
        if batch:
            yield batch

    def scored(self, model: LanguageModel, groups: Tensor | None = None) -> Iterator[tuple[list[int], Scored]]:
        """Yield numbers of sequences, and these scored side by side; ``groups`` as for ``scored_windows``.

        Raises:
            UserError: the model's outputs are not finite, so that no text is likelier than another.
        """
        for batch, part in self._scored(model, groups):
            if bool(part.nats.isnan().any()):
                raise UserError(NOT_FINITE)
            yield batch, part

    def _scored(self, model: LanguageModel, groups: Tensor | None) -> Iterator[tuple[list[int], Scored]]:
        if pays(model, self.ids):
            tree = PrefixTree(model)
            for batch in tree.batches(self.ids):
                yield batch, tree.score([self.ids[number] for number in batch], groups)
            return
        batches = list(self.batches())
        # what a text begins with is then the id after which states are zero
        resets: dict[str, Any] = {"resets_first": model.reset_after is not None, "reset_every": model.reset_every}
        windows = (window_of([self.ids[number] for number in batch], **resets) for batch in batches)
        yield from zip(batches, scored_windows(model, windows, groups=groups), strict=True)


def sentence_nats(
    model: LanguageModel,
    tokenizer: Tokenizer,
    sentences: Sequence[str],
    *,
    on_sentences: Told = lambda number: None,
) -> list[float]:
    """Return the nats of each sentence, its end included.

    ``on_sentences`` is called with the number of sentences just scored.
    """
    encoded = Encoded.of(tokenizer, sentences)
    nats = [0.0] * len(encoded.ids)
    for batch, part in encoded.scored(model):
        for number, value in zip(batch, part.nats.double().sum(0).tolist(), strict=True):
            nats[number] = value
        on_sentences(sum(encoded.counts[number] for number in batch))
    return [nats[number] for number in encoded.index]


def sentence_words(
    model: LanguageModel,
    tokenizer: Tokenizer,
    sentences: Sequence[str],
    *,
    word_boundary: WordBoundary = "corrected",
    on_sentences: Told = lambda number: None,
) -> list[list[Row]]:
    """Return a row for each word of each sentence, without ``<eos>``.

    ``on_sentences`` is called with the number of sentences just scored.
    """
    # what the model predicts after the last token shows whether the last word is over
    encoded = Encoded.of(tokenizer, sentences, end=[0])
    groups = None if tokenizer.kind == "word" else groups_of_types(tokenizer, model)
    bytes_of = lru_cache(maxsize=None)(tokenizer.decode_bytes)
    places: list[list[Place]] = [[] for _ in encoded.ids]
    for batch, part in encoded.scored(model, groups):
        plain = part.nats.double().T.tolist() if groups is None else []
        for column, number in enumerate(batch):
            each = list(map(Place, plain[column])) if groups is None else places_of(part, column)
            places[number] = each[: len(encoded.ids[number]) - 1]
        on_sentences(sum(encoded.counts[number] for number in batch))
    rows = []
    for text, number in zip(sentences, encoded.index, strict=True):
        own = iter(tokenizer.texts_of_unknown(tokenizer.normalized(text)))
        words = Words(tokenizer, word_boundary)
        found: list[Row] = []
        *tokens, _ = encoded.ids[number][1:].tolist()
        for token, place in zip(tokens, places[number], strict=False):
            data = EOS.encode() if token == tokenizer.eos_id else bytes_of(token)
            unknown = next(own, None) if token == tokenizer.unk_id else None
            own_data = None if unknown is None else unknown.encode(errors="replace")
            found += words.push(token, data, 0, place, own_data)
        found += words.finish(places[number][-1])
        ends = tokenizer.eos_id is not None and tokens[-1:] == [tokenizer.eos_id]
        rows.append(found[:-1] if ends else found)
    return rows
