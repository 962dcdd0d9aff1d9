"""Prompts become ids; tokens become text once that is final: whole characters, spaced words, up to a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pipeline.config import Layout
from pipeline.data.document_pools import begin_of_documents
from pipeline.data.tokenizer import Ids, Tokenizer, UnknownTextError
from pipeline.data.utf8 import is_text
from pipeline.errors import UserError


def prompt_ids(tokenizer: Tokenizer, prompt: str, *, layout: Layout = "streams", argument: str = "prompt") -> Ids:
    """The ids that the model reads first. Without a prompt it begins as after the end of a line or document.

    A model of documents was trained to read <eos> before a document, so it does so here before the prompt.

    Raises:
        UserError: as in ``checked_ids``.
    """
    ids = checked_ids(tokenizer, prompt, argument=argument)
    if layout == "documents":
        return np.append(begin_of_documents(tokenizer), ids)
    return ids if len(ids) else tokenizer.start_ids


def num_before(prompt: str, layout: Layout) -> int:
    """How many of ``prompt_ids`` come before the text and are no part of it."""
    return int(layout == "documents" or not prompt)


def checked_ids(tokenizer: Tokenizer, prompt: str, *, argument: str = "prompt") -> Ids:
    """``ids_of_prompt``, of a prompt that the model can continue.

    Raises:
        UserError: the prompt has characters that a character tokenizer has never seen, has no token, has no word that
            the tokenizer knows, or is not UTF-8; ``argument`` says where it came from.
    """
    if not is_text(prompt):
        raise UserError(f"{prompt!r} is not UTF-8", argument=argument)
    prompt = tokenizer.normalized(prompt)
    if tokenizer.kind == "char" and (unseen := sorted(tokenizer.unknown_in(prompt))):
        shown = " ".join(map(repr, unseen))
        raise UserError(f"the model's text has none of these characters: {shown}", argument=argument)
    try:
        ids = ids_of_prompt(tokenizer, prompt)
    except UnknownTextError as error:
        raise UserError(str(error), argument=argument) from None
    if prompt and not len(ids):
        raise UserError(f"{prompt!r} holds no {tokenizer.unit}", argument=argument)
    if tokenizer.unk_id is not None and len(ids) and all(ids == tokenizer.unk_id):
        raise UserError(f"the model knows no {tokenizer.unit} of {prompt!r}", argument=argument)
    return ids


def ids_of_prompt(tokenizer: Tokenizer, text: str) -> Ids:
    """The ids of a text that is to be continued: without the ``<eos>`` that would end its last line."""
    ids = tokenizer.encode(tokenizer.normalized(text))
    return ids[:-1] if tokenizer.eos == "line" and len(ids) and not text.endswith("\n") else ids


def last_token(tokenizer: Tokenizer, layout: Layout) -> int | None:
    """The type that ends a text: <eos> if a text is one document; None: a text continues until it is long enough."""
    return tokenizer.eos_id if layout == "documents" else None


class Detokenizer:
    """Turns the tokens of one text, pushed one by one, into as much text as is final, always valid Unicode."""

    def __init__(self, tokenizer: Tokenizer, *, after: str = "") -> None:
        """``after``: the preceding text, which words continue."""
        self.tokenizer = tokenizer
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.at_start = not after or after[-1].isspace()

    def push(self, token: int) -> str:
        """The characters that ``token`` completes."""
        tokenizer = self.tokenizer
        if tokenizer.kind == "word":
            is_end = token == tokenizer.eos_id
            space = "" if self.at_start or is_end else " "
            self.at_start = is_end
            return "\n" if is_end else space + tokenizer.decode([token])
        # <eos> of a document stands for no text of its own: an empty line shows where the next one begins, and a
        # character that was cut off before it does not continue after it
        if token == tokenizer.eos_id:
            return self.finish() + "\n\n"
        return self.decoder.decode(tokenizer.decode_bytes(token))

    def finish(self) -> str:
        """What is left of a character that was cut off: the replacement character."""
        return self.decoder.decode(b"", final=True)


class UntilStop:
    """Passes text on up to the first of some strings; holds back only what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Raises ``UserError`` for an empty string."""
        if not all(stops):
            raise UserError("an empty string is found everywhere", argument="stop")
        self.stops = stops
        self.held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """The part of the text so far that is final and new; nothing once ``stopped``."""
        if self.stopped:
            return ""
        text = self.held + piece
        found = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self.held = True, ""
            return text[: min(found)]
        ends = (
            n for stop in self.stops for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])
        )
        num_held = max(ends, default=0)
        self.held = text[len(text) - num_held :]
        return text[: len(text) - num_held]

    def finish(self) -> str:
        """What was held back and is no stop string after all."""
        held, self.held = self.held, ""
        return held


def text_of(
    tokenizer: Tokenizer,
    tokens: Iterable[int],
    *,
    after: str = "",
    stops: Sequence[str] = (),
    last: int | None = None,
) -> Iterator[str]:
    """Pieces of text as they become final, up to the first of ``stops`` or the token ``last``.

    Words are spaced to continue ``after``.
    """
    detokenizer, until = Detokenizer(tokenizer, after=after), UntilStop(stops)
    for token in tokens:
        if token == last:
            break
        if piece := until.push(detokenizer.push(token)):
            yield piece
        if until.stopped:
            return
    if piece := until.push(detokenizer.finish()) + until.finish():
        yield piece
