"""Writes texts after prompts: one as a stream of pieces, or many side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config import Layout
from pipeline.data.tokenizer import Tokenizer
from pipeline.generate.sampler import NotFiniteError, Sampler, numbers_among_equals, sample_tokens
from pipeline.generate.text import Detokenizer, UntilStop, checked_ids, last_token, num_before, prompt_ids, text_of
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.state import State
from pipeline.model.stepper import Stepper
from pipeline.options import AS_IS, Sampling

PROMPTS_AT_ONCE = 64


@dataclass(frozen=True)
class Begin:
    """Where a model is in a text: the hidden state before ``token``, its last token, which is read next.

    ``position``: of ``token`` among those of the text; −1: it is what is read before them.
    """

    parts: State
    token: int
    position: int = -1


@dataclass(frozen=True)
class Written:
    """The text after prompt number ``index`` and how many tokens were drawn for it."""

    index: int
    prompt: str
    text: str
    num_tokens: int


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    num_tokens: int,
    seed: int,
    sampling: Sampling = AS_IS,
    stops: Sequence[str] = (),
    layout: Layout = "streams",
    copy: int = 0,
    on_token: Callable[[int], None] = lambda token: None,
) -> Iterator[str]:
    """The text that follows ``prompt``, piece by piece; ``"".join`` gives the whole. A document ends with its <eos>.

    The same seed gives the same text; torch's global generator is not touched. ``copy`` numbers equal prompts whose
    texts are to differ; ``on_token`` is called with each token drawn. Raises ``UserError`` for a prompt that cannot be
    read.
    """
    ids = prompt_ids(tokenizer, prompt, layout=layout)
    how: dict[str, Any] = {"seed": seed, "sampling": sampling, "copy": copy, "num_before": num_before(prompt, layout)}

    def tokens() -> Iterator[int]:
        for token in sample_tokens(model, ids, num_tokens=num_tokens, **how):
            on_token(token)
            yield token

    return text_of(tokenizer, tokens(), after=prompt, stops=stops, last=last_token(tokenizer, layout))


def write_sample(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str, *, num_tokens: int, seed: int, layout: Layout
) -> str:
    """``num_tokens`` tokens after ``prompt``: one text, or as many documents as that takes, each beginning a new line.

    If the model has diverged, it writes no text; the reason then stands in its place.
    """
    texts: list[str] = []
    drawn: list[int] = []
    how: dict[str, Any] = {"seed": seed, "layout": layout, "on_token": drawn.append}
    while len(drawn) < num_tokens:
        pieces = generate(model, tokenizer, prompt, num_tokens=num_tokens - len(drawn), copy=len(texts), **how)
        try:
            texts.append(prompt + "".join(pieces))
        except NotFiniteError as error:
            texts.append(f"({error})")
            break
    return "\n".join(texts)


def generate_batch(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    num_tokens: int,
    seed: int,
    sampling: Sampling = AS_IS,
    stops: Sequence[str] = (),
    layout: Layout = "streams",
    at_once: int = PROMPTS_AT_ONCE,
    begin: Begin | None = None,
) -> Iterator[Written]:
    """The text after each of ``prompts`` in their order, ``at_once`` at a time.

    A prompt's text is that of ``generate``, whatever is written beside it; equal prompts give different texts.
    ``begin``: where all of them continue from, in place of a zero state.

    Raises:
        UserError: a prompt cannot be read; the message gives its number.
    """
    numbered = [(text, f"prompt {n}") for n, text in enumerate(prompts, start=1)]
    if begin is None:
        ids = [prompt_ids(tokenizer, text, layout=layout, argument=name) for text, name in numbered]
    else:
        ids = [np.append(begin.token, checked_ids(tokenizer, text, argument=name)) for text, name in numbered]
    # what a text without a prompt continues
    before = "" if begin is None else tokenizer.decode([begin.token])
    last = last_token(tokenizer, layout)
    copies = numbers_among_equals(prompts)
    with evaluating(model):
        stepper = Stepper(model)
    for start in range(0, len(prompts), at_once):
        part = range(start, min(start + at_once, len(prompts)))
        sampler = Sampler(
            model,
            [ids[i] for i in part],
            seed=seed,
            sampling=sampling,
            copies=[copies[i] for i in part],
            num_before=None if begin is not None else [num_before(prompts[i], layout) for i in part],
            stepper=stepper,
            begin=None if begin is None else begin.parts,
            begin_position=0 if begin is None else begin.position,
        )
        texts = [_Text(tokenizer, prompts[i] or before, stops, last) for i in part]
        _write(sampler, texts, num_tokens)
        for i, text in zip(part, texts, strict=True):
            yield Written(i, prompts[i], text.finish(), text.num_tokens)


class _Text:
    """One text being written."""

    def __init__(self, tokenizer: Tokenizer, after: str, stops: Sequence[str], last: int | None) -> None:
        self.last = last
        self.ended = False
        self.detokenizer = Detokenizer(tokenizer, after=after)
        self.until = UntilStop(stops)
        self.pieces: list[str] = []
        self.num_tokens = 0

    def push(self, token: int) -> None:
        self.num_tokens += 1
        self.ended = token == self.last
        if not self.ended:
            self.pieces.append(self.until.push(self.detokenizer.push(token)))
            self.ended = self.until.stopped

    def finish(self) -> str:
        return "".join(self.pieces) + self.until.push(self.detokenizer.finish()) + self.until.finish()


def _write(sampler: Sampler, texts: Sequence[_Text], num_tokens: int) -> None:
    """Draw ``num_tokens`` for each of ``texts``, fewer if a stop string or the end of the text comes up."""
    writing = list(texts)
    for _ in range(num_tokens):
        for text, token in zip(writing, sampler.next(), strict=True):
            text.push(token)
        going_on = [row for row, text in enumerate(writing) if not text.ended]
        if not going_on:
            return
        if len(going_on) < len(writing):
            sampler.keep(going_on)
            writing = [writing[row] for row in going_on]
