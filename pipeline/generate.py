"""A model and a prompt in, text out, one token at a time in constant memory.

prompt → ids → state → logits → temperature, top-k, top-p → one token → text as soon as its bytes are whole → state …
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.data.tokenizer import Ids, Tokenizer
from pipeline.model.language_model import LanguageModel

# tokens of the prompt read at a time
PROMPT_WINDOW = 512


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn; checked on creation.

    Raises:
        ValueError: naming the option, its value and what it must be.
    """

    temperature: float = 1.0  # 0: always the likeliest token
    top_k: int | None = None  # only the k likeliest tokens
    top_p: float | None = None  # only the likeliest tokens that together have at least this probability

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"--temperature: {self.temperature} is below 0")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"--top-k: {self.top_k} is below 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"--top-p: {self.top_p} is not in (0, 1]")


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """(V,) logits → (V,) probabilities in float64 under ``sampling`` (top-p: Holtzman et al. 2020)."""
    logits = logits.double()
    if sampling.temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).double()
    logits = logits / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < len(logits):
        lowest = logits.topk(sampling.top_k).values[-1]
        logits = logits.masked_fill(logits < lowest, -torch.inf)
    result = logits.softmax(0)
    if sampling.top_p is not None and sampling.top_p < 1:
        ordered, indices = result.sort(descending=True, stable=True)
        before = ordered.cumsum(0) - ordered
        result = result.index_fill(0, indices[before >= sampling.top_p], 0)
        result = result / result.sum()
    return result


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> Ids:
    """The ids that the model reads first. Without a prompt it begins as after the end of a line or document.

    Raises:
        ValueError: a prompt with characters that a character tokenizer has never seen.
    """
    if tokenizer.kind == "char" and (unseen := sorted(tokenizer.unknown_in(prompt))):
        raise ValueError(f"--prompt: the model's text has none of these characters: {' '.join(map(repr, unseen))}")
    ids = tokenizer.encode(prompt)
    if tokenizer.eos == "line" and len(ids) and not prompt.endswith("\n"):
        ids = ids[:-1]  # the line goes on
    if len(ids):
        return ids
    return np.array([tokenizer.eos_id]) if tokenizer.eos_id is not None else tokenizer.encode("\n ")[:1]


def sample_tokens(model: LanguageModel, ids: Ids, *, num_tokens: int, seed: int, sampling: Sampling) -> Iterator[int]:
    """``num_tokens`` tokens that follow ``ids``, each from one uniform number of a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    state = model.initial_state(1)
    tokens = torch.from_numpy(ids.astype(np.int64)).to(model.device).unsqueeze(1)  # (T, 1)
    was_training = model.training
    model.eval()
    try:
        for _ in range(num_tokens):
            with torch.inference_mode():
                for window in tokens.split(PROMPT_WINDOW):
                    hidden, state = model(window, state)
                logits = model.head.logits(hidden[-1, 0]).cpu()  # (V,)
            cumulative = probabilities(logits, sampling).cumsum(0)
            drawn = torch.rand((), generator=generator, dtype=torch.float64) * cumulative[-1]
            token = int(torch.searchsorted(cumulative, drawn, right=True).clamp(max=len(logits) - 1))
            yield token
            tokens = torch.full((1, 1), token, device=model.device)
    finally:
        model.train(was_training)


def text_of(tokenizer: Tokenizer, tokens: Iterator[int], *, after: str = "") -> Iterator[str]:
    """Pieces of text as they become final: whole characters only, words spaced to go on from ``after``."""
    if tokenizer.kind == "word":
        yield from _spaced(tokenizer, tokens, after=after)
        return
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        # <eos> of a document stands for no text of its own: an empty line shows where the next one begins
        piece = "\n\n" if token == tokenizer.eos_id else decoder.decode(tokenizer.decode_bytes(token))
        if piece:
            yield piece
    if rest := decoder.decode(b"", final=True):
        yield rest


def _spaced(tokenizer: Tokenizer, tokens: Iterator[int], *, after: str) -> Iterator[str]:
    at_start = not after or after[-1].isspace()
    for token in tokens:
        if token == tokenizer.eos_id:
            yield "\n"
            at_start = True
        else:
            yield tokenizer.decode([token]) if at_start else " " + tokenizer.decode([token])
            at_start = False


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    num_tokens: int,
    seed: int,
    sampling: Sampling = Sampling(),
) -> Iterator[str]:
    """The text that follows ``prompt``, piece by piece; ``"".join`` gives the whole.

    The same seed gives the same text; torch's global generator is not touched. Raises ``ValueError`` as ``prompt_ids``.
    """
    ids = prompt_ids(tokenizer, prompt)
    tokens = sample_tokens(model, ids, num_tokens=num_tokens, seed=seed, sampling=sampling)
    return text_of(tokenizer, tokens, after=prompt)
