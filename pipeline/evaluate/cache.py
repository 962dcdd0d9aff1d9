"""The neural cache (Grave et al. 2017): recent tokens, found again through the hidden vectors before them.

p(w) = (1 − λ) p_model(w) + λ p_cache(w), p_cache(w) ∝ Σ exp(θ hₜ·hᵢ) over the i among the last ``window`` places
before t whose next token is w. Constant memory: that many vectors.

The sum over all places before t is by far most of the work. All hₜ·hᵢ of several t are one product, and the columns
within the window of each of its rows are viewed as a matrix by age, (T, W), without a copy. Places with the same token
are few, and only these are handled individually. Letters: T time, K remembered places, H hidden, W places of the
largest window, n of T rows, P pairs of a place and an earlier one with the same token; θ and ``windows`` in a shape
are the numbers of either.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.options import CacheSettings
from pipeline.scoring import Scored

THETAS = (0.05, 0.1, 0.2, 0.4, 0.8)
WEIGHTS = (0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3)
WINDOWS = (100, 500, 2000)
# similarities at a time on a CPU, so that they stay in its cache; with fewer rows a product is slow
MOST_SIMILARITIES, ROWS_AT_LEAST = 2**15, 32

Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Memory:
    """The hidden vectors of the last places of one stream and the tokens that followed them.

    Args:
        thetas: factors of the similarities; there is a set of probabilities for each.
        windows: numbers of places, likewise, in ascending order; the largest is the number that is remembered.
    """

    def __init__(self, thetas: Sequence[float], windows: Sequence[int]) -> None:
        self.thetas = thetas
        self.windows = windows
        self.hidden: Tensor | None = None  # (K, H)
        self.tokens: Tensor | None = None  # (K,)
        self.num_places = 0  # so far, of the current document

    def log_probabilities(self, part: Scored, *, is_by_document: bool) -> tuple[Tensor, Tensor]:
        """Return log p_cache of the targets of a window, (θ, windows, T), and where the cache is empty, (T,).

        Then remember the window.
        """
        hidden = part.hidden[:, 0]  # (T, H)
        tokens = torch.from_numpy(part.window.targets[:, 0].copy()).to(hidden.device)  # (T,)
        num_before = self._places_before(part, is_by_document=is_by_document)
        if self.hidden is not None and self.tokens is not None:
            hidden, tokens = torch.cat([self.hidden, hidden]), torch.cat([self.tokens, tokens])
        width = min(self.windows[-1], len(hidden))  # W
        num_before = np.minimum(num_before, width)
        everything, same = self._sums(hidden, tokens, num_before, width)
        is_empty = torch.from_numpy(num_before == 0).to(hidden.device)
        size = self.windows[-1]
        self.hidden, self.tokens = hidden[-size:], tokens[-size:]
        return (same - everything).masked_fill(is_empty, -torch.inf), is_empty

    def _places_before(self, part: Scored, *, is_by_document: bool) -> Numbers:
        """Return how many places of its document precede each place of the window, (T,), and keep counting."""
        num_steps = len(part.hidden)
        found = self.num_places + np.arange(num_steps)
        if is_by_document and part.window.resets is not None:
            (starts,) = part.window.resets[:, 0].nonzero()
            for start in starts.tolist():
                found[start:] = np.arange(num_steps - start)
        self.num_places = int(found[-1]) + 1
        return found

    def _sums(self, hidden: Tensor, tokens: Tensor, num_before: Numbers, width: int) -> tuple[Tensor, Tensor]:
        """Return ln Σ exp(θ hₜ·hᵢ) over all places in each window, and over those with the same token.

        Both are (θ, windows, T).

        Args:
            hidden: (K + T, H).
            tokens: (K + T,).
            num_before: (T,) how many of the ``width`` places before each count.
        """
        num_steps, device = len(num_before), hidden.device
        if missing := width + num_steps - len(hidden):
            hidden, tokens = F.pad(hidden, (0, 0, missing, 0)), F.pad(tokens, (missing, 0))  # (W + T, H), (W + T,)
        rows_at_once = num_steps if hidden.is_cuda else max(ROWS_AT_LEAST, MOST_SIMILARITIES // width)
        ages = torch.arange(width, 0, -1, device=device)
        bands = torch.bucketize(ages, torch.tensor(self.windows, device=device))  # the smallest window of each age
        everything = Sums(self.thetas, self.windows, num_steps, like=hidden)
        groups, similarities = [], []
        for start in range(0, num_steps, rows_at_once):
            stop = min(start + rows_at_once, num_steps)
            num_rows, own, before = stop - start, slice(width + start, width + stop), slice(start, width + stop - 1)
            products = hidden[own] @ hidden[before].t()  # (n, W + n − 1)
            by_age = products.as_strided((num_rows, width), (width + num_rows, 1))  # (n, W), the oldest first
            is_same = tokens[before].unfold(0, width, 1) == tokens[own, None]  # (n, W)
            is_out = None
            if num_before[start:stop].min() < width:
                is_out = ages > torch.from_numpy(num_before[start:stop, None]).to(device)  # (n, W)
                is_same &= ~is_out
            rows, columns = is_same.nonzero(as_tuple=True)  # (P,) each
            groups.append((start + rows) * len(self.windows) + bands[columns])
            similarities.append(by_age[rows, columns])
            everything.add(slice(start, stop), by_age, is_out)
        shape = num_steps, len(self.windows)
        return everything.logs(), log_sums_of_groups(torch.cat(similarities), torch.cat(groups), shape, self.thetas)


class Sums:
    """Σ exp(θ x) over the places in each window before each of T, kept as sums relative to the largest x.

    Args:
        like: the sums have its dtype and device.
    """

    def __init__(self, thetas: Sequence[float], windows: Sequence[int], num_steps: int, *, like: Tensor) -> None:
        self.thetas, self.windows = thetas, windows
        # for the bands between two windows, each relative to its own largest x: relative to a common one, sums could
        # underflow
        self.most = like.new_zeros(len(windows), num_steps)
        self.sums = like.new_zeros(len(thetas), len(windows), num_steps)

    def add(self, rows: slice, by_age: Tensor, is_out: Tensor | None) -> None:
        """Sum over (n, W) ``by_age``, the x of n ``rows``, except where (n, W) ``is_out``; overwrites ``by_age``."""
        width = by_age.shape[1]
        edges = [width - min(size, width) for size in (0, *self.windows)]
        for index, (end, begin) in enumerate(pairwise(edges)):
            if begin == end:
                continue
            band = by_age[:, begin:end]
            if is_out is not None:
                band.masked_fill_(is_out[:, begin:end], -torch.inf)
            most = band.amax(1, keepdim=True)
            if is_out is not None:
                most = finite(most)
            self.most[index, rows] = most[:, 0]
            band.sub_(most)
            for number, (theta, sums) in enumerate(zip(self.thetas, self.sums, strict=True), start=1):
                shares = (band.mul_(theta) if number == len(self.thetas) else band * theta).exp_()
                if is_out is not None:
                    shares.masked_fill_(is_out[:, begin:end], 0)  # also where θ is 0
                torch.sum(shares, 1, out=sums[index, rows])

    def logs(self) -> Tensor:
        """Return the logarithms of the sums over each window, (θ, windows, T) in float64."""
        return log_sums(self.sums, self.most, self.thetas).logcumsumexp(1)


def log_sums(sums: Tensor, most: Tensor, thetas: Sequence[float]) -> Tensor:
    """Return ln Σ exp(θ x) in float64 from (θ, …) sums of exp(θ (x − most)) and (…) ``most``."""
    return torch.stack([part.double().log() + theta * most.double() for part, theta in zip(sums, thetas, strict=True)])


def log_sums_of_groups(similarities: Tensor, groups: Tensor, shape: tuple[int, int], thetas: Sequence[float]) -> Tensor:
    """Return ln Σ exp(θ x) in float64 over the (P,) ``similarities`` of each place in each window, (θ, windows, T).

    Args:
        groups: (P,) the place and the smallest window that the earlier one lies in, as one number.
        shape: T, windows.
    """
    most = similarities.new_full((math.prod(shape),), -torch.inf)
    most = finite(most.scatter_reduce_(0, groups, similarities, "amax"))
    behind = similarities - most[groups]
    sums = torch.stack([torch.zeros_like(most).index_add_(0, groups, (behind * theta).exp_()) for theta in thetas])
    return log_sums(sums, most, thetas).view(-1, *shape).logcumsumexp(2).transpose(1, 2)


def finite(values: Tensor) -> Tensor:
    """Return ``values`` with 0 in place of −∞, the maximum of an empty set."""
    return values.masked_fill(values == -torch.inf, 0)


def mixed(nats: Tensor, log_cache: Tensor, is_empty: Tensor, weight: float) -> Tensor:
    """Return the nats of the mixture in float64; those of the model alone where the cache is empty."""
    if weight == 0:
        return nats.double()
    both = torch.logaddexp(math.log1p(-weight) - nats.double(), math.log(weight) + log_cache)
    return torch.where(is_empty, nats.double(), -both)


def with_cache(parts: Iterable[Scored], settings: CacheSettings, *, is_by_document: bool = False) -> Iterator[Scored]:
    """Mix a cache into the scored ``parts`` of one stream; ``is_by_document``: clear it where states are reset."""
    memory = Memory([settings.theta], [settings.window])
    for part in parts:
        log_cache, is_empty = memory.log_probabilities(part, is_by_document=is_by_document)
        yield replace(part, nats=mixed(part.nats[:, 0], log_cache[0, 0], is_empty, settings.weight)[:, None])


def tune_cache(parts: Iterable[Scored], *, is_by_document: bool = False) -> CacheSettings:
    """Return the best of a grid of settings on ``parts`` of one stream; one pass tries them all."""
    nats = torch.zeros(len(THETAS), len(WINDOWS), len(WEIGHTS), dtype=torch.float64)
    memory = Memory(THETAS, WINDOWS)
    for part in parts:
        log_cache, is_empty = memory.log_probabilities(part, is_by_document=is_by_document)
        for column, share in enumerate(WEIGHTS):
            nats[:, :, column] += mixed(part.nats[:, 0], log_cache, is_empty, share).sum(2).cpu()
    theta, window, weight = map(int, np.unravel_index(int(nats.argmin()), nats.shape))
    return CacheSettings(THETAS[theta], WEIGHTS[weight], WINDOWS[window])
