"""The neural cache (Grave et al. 2017): tokens seen lately, found again by the hidden vectors before them.

p(w) = (1 − λ) p_model(w) + λ p_cache(w), p_cache(w) ∝ Σ exp(θ hₜ·hᵢ) over the i among the last ``window`` places
before t whose next token is w. Constant memory: that many vectors. Letters: T time, K remembered places, H hidden.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pipeline.options import CacheSettings
from pipeline.scoring import Scored

THETAS = (0.05, 0.1, 0.2, 0.4, 0.8)
WEIGHTS = (0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3)
WINDOWS = (100, 500, 2000)


class Memory:
    """The hidden vectors of the last ``size`` places of one stream and the tokens that followed them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.hidden: Tensor | None = None  # (K, H)
        self.tokens: Tensor | None = None  # (K,)
        self.texts: Tensor | None = None  # (K,): what is of another document is not looked at
        self.num_texts = 0

    def log_probabilities(
        self, part: Scored, options: Sequence[tuple[float, int]], *, is_by_document: bool
    ) -> tuple[Tensor, Tensor]:
        """log p_cache of the targets of a window for each (θ, window), (options, T), and where nothing is remembered.

        The window is remembered afterwards.
        """
        hidden = part.hidden[:, 0]  # (T, H)
        device, num_steps = hidden.device, len(hidden)
        targets = torch.from_numpy(part.window.targets[:, 0].copy()).to(device)  # (T,)
        texts = torch.full((num_steps,), self.num_texts, device=device)
        if is_by_document and part.window.resets is not None:
            texts += torch.from_numpy(part.window.resets[:, 0].cumsum()).to(device)
            self.num_texts = int(texts[-1])
        num_before = 0
        if self.hidden is not None and self.tokens is not None and self.texts is not None:
            num_before = len(self.hidden)
            keys, tokens = torch.cat([self.hidden, hidden]), torch.cat([self.tokens, targets])
            text_of_key = torch.cat([self.texts, texts])
        else:
            keys, tokens, text_of_key = hidden, targets, texts
        age = num_before + torch.arange(num_steps, device=device)[:, None] - torch.arange(len(keys), device=device)
        is_before = (age > 0) & (texts[:, None] == text_of_key)  # (T, K)
        is_target = tokens == targets[:, None]  # (T, K)
        products = hidden @ keys.t()  # (T, K)
        found, empty = [], []
        for theta, window in options:
            logits = (theta * products).masked_fill(~is_before | (age > window), -torch.inf)
            everything = logits.logsumexp(1).double()
            chosen = logits.masked_fill(~is_target, -torch.inf).logsumexp(1).double()
            empty.append(everything == -torch.inf)
            found.append((chosen - everything).masked_fill(empty[-1], -torch.inf))
        self.hidden, self.tokens, self.texts = keys[-self.size :], tokens[-self.size :], text_of_key[-self.size :]
        return torch.stack(found), torch.stack(empty)


def mixed(nats: Tensor, log_cache: Tensor, is_empty: Tensor, weight: float) -> Tensor:
    """Return the nats of the mixture in float64; those of the model alone where nothing is remembered."""
    if weight == 0:
        return nats.double()
    both = torch.logaddexp(math.log1p(-weight) - nats.double(), math.log(weight) + log_cache)
    return torch.where(is_empty, nats.double(), -both)


def with_cache(parts: Iterable[Scored], settings: CacheSettings, *, is_by_document: bool = False) -> Iterator[Scored]:
    """Score ``parts`` of one stream with a cache as well; ``is_by_document``: it is cleared where states are."""
    memory = Memory(settings.window)
    for part in parts:
        log_cache, is_empty = memory.log_probabilities(
            part, [(settings.theta, settings.window)], is_by_document=is_by_document
        )
        yield replace(part, nats=mixed(part.nats[:, 0], log_cache[0], is_empty[0], settings.weight)[:, None])


def tune_cache(parts: Iterable[Scored], *, is_by_document: bool = False) -> CacheSettings:
    """Return the best of a grid of settings on ``parts`` of one stream, all tried in one pass over them."""
    options = list(itertools.product(THETAS, WINDOWS))
    nats = torch.zeros(len(options), len(WEIGHTS), dtype=torch.float64)
    memory = Memory(max(WINDOWS))
    for part in parts:
        log_cache, is_empty = memory.log_probabilities(part, options, is_by_document=is_by_document)
        for column, weight in enumerate(WEIGHTS):
            nats[:, column] += mixed(part.nats[:, 0], log_cache, is_empty, weight).sum(1).cpu()
    option, column = divmod(int(nats.argmin()), len(WEIGHTS))
    theta, window = options[option]
    return CacheSettings(theta, WEIGHTS[column], window)
