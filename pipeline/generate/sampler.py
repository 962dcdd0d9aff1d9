"""A sampler continues many prompts at once, one position at a time. Letters: B prompts, V vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.data.tokenizer import Ids
from pipeline.errors import UserError
from pipeline.generate.sampling import Uniforms, draw, penalize
from pipeline.model.ends import read, without_ended
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.state import State, concatenate, select
from pipeline.model.stepper import Stepper
from pipeline.options import Sampling
from pipeline.scoring import NOT_FINITE

# tokens of a prompt read at a time
PROMPT_WINDOW = 512


def read_prompt(
    model: LanguageModel, ids: Ids, begin: State | None = None, *, position: int = 0
) -> tuple[Tensor, State]:
    """Read ``ids`` from the state ``begin`` (None: zero); returns the (1, V) logits and the state after them.

    ``position``: of the first of them in its text.
    """
    state = begin or model.initial_state(1)
    for window in torch.from_numpy(ids.astype(np.int64)).to(model.device).unsqueeze(1).split(PROMPT_WINDOW):
        hidden, state = read(model, window, state, position)  # (T, 1, H)
        position += len(window)
    return model.head.logits(hidden[-1]), state


class NotFiniteError(UserError):
    """The outputs of a model are not finite, as ``NOT_FINITE`` says."""


class Sampler:
    """Holds B prompts and their states; ``next`` draws a token for each, ``keep`` drops those that are done."""

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Ids],
        *,
        seed: int,
        sampling: Sampling,
        copies: Sequence[int] | None = None,
        num_before: Sequence[int] | None = None,
        stepper: Stepper | None = None,
        begin: State | None = None,
        begin_position: int = 0,
    ) -> None:
        """
        Args:
            copies: the number of each prompt among equal ones, from 0, which makes their texts differ.
            num_before: how many ids of each prompt come before the text; they do not count as repeated.
            begin: the state of one stream before each prompt; None: a zero state.
            begin_position: the position in its text of what is read first from there, or of the text's first token.
            stepper: the one of ``model``, if several samplers share it.
        """
        self.model, self.sampling = model, sampling
        self.uniforms = [
            Uniforms(seed, ids, copy) for ids, copy in zip(prompts, copies or [0] * len(prompts), strict=True)
        ]
        self.position = 0
        self.tokens: Tensor | None = None  # (B,), those drawn last
        num_before = num_before or [0] * len(prompts)
        begins = [begin_position - number for number in num_before]  # (B,) of prompts in their texts
        self.places = [begin + len(ids) for begin, ids in zip(begins, prompts, strict=True)]  # (B,) of texts drawn
        with evaluating(model):
            self.stepper = stepper or Stepper(model)
            found = [
                read_prompt(model, ids, begin, position=position) for ids, position in zip(prompts, begins, strict=True)
            ]
            self.logits = torch.cat([logits for logits, _ in found])  # (B, V)
            self.state = concatenate([state for _, state in found])
            self.seen: Tensor | None = None  # (B, V), for the repetition penalty
            if sampling.repetition_penalty != 1:
                self.seen = torch.zeros_like(self.logits, dtype=torch.bool)
                for row, ids, number in zip(self.seen, prompts, num_before, strict=True):
                    row[torch.from_numpy(np.unique(ids[number:]).astype(np.int64))] = True

    def next(self) -> list[int]:
        """The next token of each prompt. Raises ``NotFiniteError`` if the model's outputs are not finite."""
        with evaluating(self.model):
            if self.tokens is not None:
                self.logits, state = self.stepper(self.tokens, self.state)
                following = [place + self.position for place in self.places]
                self.state = without_ended(self.model, self.tokens, state, following)
            logits = self.logits
            if self.seen is not None:
                logits = penalize(logits, self.seen, self.sampling.repetition_penalty)
            uniforms = [row[self.position] for row in self.uniforms]
            self.tokens = draw(
                logits, torch.tensor(uniforms, dtype=torch.float64, device=logits.device), self.sampling
            )  # (B,)
            tokens: list[int] = self.tokens.tolist()
            if max(tokens, default=0) >= self.logits.shape[1]:  # of a row without probabilities
                raise NotFiniteError(NOT_FINITE)
            if self.seen is not None:
                self.seen.scatter_(1, self.tokens.unsqueeze(1), True)
        self.position += 1
        return tokens

    def keep(self, rows: Sequence[int]) -> None:
        """Continue only the prompts ``rows``, in that order."""
        assert self.tokens is not None
        index = torch.tensor(rows, device=self.tokens.device)
        self.tokens, self.state = self.tokens[index], select(self.state, index)
        self.seen = None if self.seen is None else self.seen[index]
        self.uniforms = [self.uniforms[row] for row in rows]
        self.places = [self.places[row] for row in rows]


def numbers_among_equals(prompts: Iterable[Hashable]) -> list[int]:
    """The number of each of ``prompts`` among those that equal it, from 0: the ``copies`` of a ``Sampler``."""
    times: Counter[Hashable] = Counter()
    found = []
    for prompt in prompts:
        found.append(times[prompt])
        times[prompt] += 1
    return found


def sample_tokens(
    model: LanguageModel,
    ids: Ids,
    *,
    num_tokens: int,
    seed: int,
    sampling: Sampling,
    copy: int = 0,
    num_before: int = 0,
) -> Iterator[int]:
    """Yield ``num_tokens`` tokens that follow ``ids``; ``copy`` and ``num_before``: as in ``Sampler``."""
    sampler = Sampler(model, [ids], seed=seed, sampling=sampling, copies=[copy], num_before=[num_before])
    for _ in range(num_tokens):
        yield sampler.next()[0]
