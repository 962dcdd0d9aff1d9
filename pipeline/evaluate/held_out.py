"""Held-out text, a split or any other, as tokens to be scored, with what its figures need."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from pipeline.config import CorpusConfig, Layout
from pipeline.data.corpus import Slice, find_sources, texts_of
from pipeline.data.document_pools import begin_of_documents, document_starts
from pipeline.data.planning import Range
from pipeline.data.readers import Tally
from pipeline.data.shards import PreparedCorpus
from pipeline.data.tasks import encoded
from pipeline.data.tokenizer import Ids, Tokenizer, UnknownTextError
from pipeline.data.windows import ArrayTokens, Tokens
from pipeline.errors import UserError

TOKENS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class HeldOut:
    """Held-out tokens, with what scoring their text requires."""

    tokens: Tokens
    num_bytes: int | None
    why_not: str = ""
    begin_id: int | None = None  # what is read before each document; None: the text is scored as streams
    # what the text has in place of each <unk>, in order; None if that is not known
    own_texts: Callable[[], Iterator[str | None]] = lambda: iter(())

    @property
    def layout(self) -> Layout:
        return "streams" if self.begin_id is None else "documents"


def held_out(tokenizer: Tokenizer, tokens: Tokens, first: Ids, *, num_bytes: int, num_unknown: int) -> HeldOut:
    """Return ``tokens`` of a text of ``num_bytes`` bytes; its first token, ``first``, and its bytes are not scored.

    Bits per byte are given only if the tokens encode the whole text: not with ``<unk>`` among them, nor for words,
    which do not keep white space.
    """
    if num_unknown:
        return HeldOut(tokens, None, f"{num_unknown:,} of its tokens are <unk>, so they do not reproduce the text")
    if not tokenizer.is_lossless:
        return HeldOut(tokens, None, f"{tokenizer.kind} tokens do not reproduce the text exactly")
    num_scored = num_bytes - sum(len(tokenizer.decode_bytes(int(token))) for token in first)
    if num_scored < 1:
        return HeldOut(tokens, None, "no byte of the text is scored")
    return HeldOut(tokens, num_scored)


def laid_out(
    tokenizer: Tokenizer, tokens: Tokens, begin_id: int | None, *, num_bytes: int, num_unknown: int
) -> HeldOut:
    """Return ``held_out`` of streams, or of documents, read after ``begin_id``: then the first token is scored, too."""
    first = np.asarray(tokens[:1] if begin_id is None else tokens[:0])
    found = held_out(tokenizer, tokens, first, num_bytes=num_bytes, num_unknown=num_unknown)
    return replace(found, begin_id=begin_id)


def split_held_out(corpus: PreparedCorpus, split: str, *, layout: Layout = "streams") -> HeldOut:
    """Return a split of a prepared corpus, ready to be scored. Raises ``UserError`` if there is no such split."""
    if split not in corpus.splits:
        sentence = f"the prepared corpus has no {split} split (corpus.{split}, corpus.{split}_fraction)"
        raise UserError(sentence, argument="split")
    tokens = corpus.splits[split]
    begin_id = None if layout == "streams" else begin_of_documents(corpus.tokenizer)
    return laid_out(corpus.tokenizer, tokens, begin_id, num_bytes=tokens.num_bytes, num_unknown=tokens.num_unknown)


def text_held_out(
    tokenizer: Tokenizer, path: str, config: CorpusConfig, *, layout: Layout = "streams", by_line: bool = False
) -> HeldOut:
    """Read a text, of any kind that a corpus can have, split into documents as ``config`` says.

    Args:
        by_line: each line (or record) is a document that is scored by itself, whatever the model was trained on: from
            a zero state, after what a text begins with.

    Raises:
        UserError: it is missing, not UTF-8, too short, has nothing that the tokenizer knows, or has something that it
            has no type for.
    """
    changes = {"valid": [path], "format": "auto", "min_characters": None, "max_characters": None}
    config = config.model_copy(update={**changes, "document": "line"} if by_line else changes)
    try:
        sources = find_sources("valid", config)
    except UserError as error:
        raise UserError(str(error).removeprefix("corpus.valid: "), argument="text") from None
    slices, tally = tuple(map(Slice.whole, sources)), Tally()
    ids, starts, num_tokens = [np.zeros(0, dtype=tokenizer.dtype)], [np.zeros(0, dtype=np.int64)], 0
    try:
        for part, begins in encoded(tokenizer, Range("text", "text", slices), tally):
            ids.append(part)
            starts.append(begins + num_tokens)
            num_tokens += len(part)
    except UnknownTextError as error:
        raise UserError(f"{path}: {error}", argument="text") from None
    tokens = ArrayTokens(np.concatenate(ids), np.unique(np.concatenate(starts)))
    begin_id = begin_of_documents(tokenizer) if layout == "documents" else None
    if by_line:
        begin_id = int(tokenizer.start_ids[0])
    least = 2 if begin_id is None else 1
    if len(tokens) < least:
        raise UserError(f"{path} has {len(tokens)} tokens; at least {least} are needed to score one", argument="text")
    num_unknown = 0
    if tokenizer.unk_id is not None:
        num_unknown = int((tokens.array == tokenizer.unk_id).sum())
        if not (set(np.unique(tokens.array).tolist()) - {tokenizer.unk_id, tokenizer.eos_id}):
            raise UserError(f"the model knows no {tokenizer.unit} of {path}", argument="text")
    found = laid_out(tokenizer, tokens, begin_id, num_bytes=tally.num_bytes, num_unknown=num_unknown)
    return replace(found, own_texts=lambda: _own_texts(tokenizer, slices))


def _own_texts(tokenizer: Tokenizer, slices: Iterable[Slice]) -> Iterator[str | None]:
    """Yield what the text has in place of each ``<unk>``; this reads it once more, in the same parts."""
    for text in texts_of(slices, safe_cut=tokenizer.safe_cut):
        yield from tokenizer.texts_of_unknown(text)


def count_words(tokenizer: Tokenizer, tokens: Tokens, *, layout: Layout = "streams") -> tuple[int, int]:
    """Count (words as ``str.split`` finds them, line ends) in the scored part of ``tokens``, for perplexity per word.

    All but the first token of streams are scored, and all of documents. Each ``<eos>`` counts as a line end, and no
    word continues from one document to the next.

    A line end counts as one more word to be predicted, since word models of lines have ``<eos>`` there (Mikolov et al.
    2010). Tokens that are words themselves are simply counted.
    """
    if tokenizer.kind == "word":
        return len(tokens) - (layout == "streams"), 0
    ends = {tokenizer.eos_id: b"\n"}
    starts = document_starts(tokens)[1:]
    bytes_of = lru_cache(maxsize=None)(lambda token: ends.get(token) or tokenizer.decode_bytes(token))
    num_words = num_lines = 0
    is_within = False  # a word
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may consist of several tokens
    for start in range(int(layout == "streams"), len(tokens), TOKENS_AT_ONCE):
        stop = min(start + TOKENS_AT_ONCE, len(tokens))
        parts = [bytes_of(token) for token in tokens.rows(np.array([start]), stop - start)[0].tolist()]
        for place in starts[(starts >= start) & (starts < stop)] - start:
            parts[place] = b" " + parts[place]
        text = decoder.decode(b"".join(parts), final=stop == len(tokens))
        if not text:
            continue
        num_words += len(text.split()) - (is_within and not text[:1].isspace())
        num_lines += text.count("\n")
        is_within = not text[-1:].isspace()
    return num_words, num_lines
