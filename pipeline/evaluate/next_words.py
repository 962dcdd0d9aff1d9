"""The entropy of the next word, for models whose tokens are parts of words.

Words are expanded as a tree of tokens, the likeliest beginnings first, until the complete words have a given share of
the probability. With q(b) the probability of a beginning b (what is read so far of the next word, at first nothing) and
h(b) the entropy of what comes next in it (a token that continues the word, or its end),

    H = Σ q(b) · h(b)    over all beginnings,

by the chain rule. The sum over those that were expanded is never above H, and what is missing is at most the
probability of words not yet complete, times the largest entropy that the rest of a word can have. Words are those of
``words`` under the convention ``corrected``: the end of a document is one of them, and a word that can be spelt in
several ways counts once for each.

Letters: P places, F beginnings waiting, R beginnings expanded, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.data.tokenizer import Tokenizer
from pipeline.errors import UserError
from pipeline.evaluate.type_classes import BOUNDARY, END, WITHIN, classes_of_types
from pipeline.evaluate.words import Known
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.state import State, concatenate, select

# tokens that the rest of a word can still have, in the bound on its entropy
MOST_TOKENS_LEFT = 10
# the most beginnings that are expanded at a place, and at a time
MOST_EXPANDED, ROWS_AT_ONCE = 20_000, 512
MOST_STATE_BYTES = 2**18
# beginnings less likely than this fraction of what can be left are dropped
SMALLEST_PART = 1e-6

Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class WordEntropy:
    """The entropy of the next word at one place, in nats."""

    nats: float  # a lower bound
    missing_nats: float  # how much more it can be, if no word has over ``MOST_TOKENS_LEFT`` tokens beyond those read
    mass: float  # the probability of the words that were expanded completely


@dataclass
class Beginnings:
    """Beginnings of words that are not yet expanded."""

    place: Numbers  # (F,) the place that each belongs to
    row: Numbers  # (F,) the state that it continues
    token: Numbers  # (F,) the token to be read next
    q: Numbers  # (F,) its probability
    is_open: Numbers  # (F,) whether it has more than white space, so that the word can end

    def where(self, chosen: Numbers) -> Beginnings:
        return Beginnings(*(part[chosen] for part in vars(self).values()))

    @classmethod
    def joined(cls, parts: Sequence[Beginnings]) -> Beginnings:
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


class NextWords:
    """Expands the next word after given places.

    Args:
        mass: the probability that complete words have to reach.

    Raises:
        UserError: no type of the tokenizer shows where a word ends, or the model's state is too large.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, *, mass: float = 0.9) -> None:
        state_bytes = sum(part.numel() * part.element_size() for part in model.initial_state(1))
        if state_bytes > MOST_STATE_BYTES:
            raise UserError(
                f"word-entropy: each of thousands of beginnings of words has a state of its own, of at most "
                f"{MOST_STATE_BYTES:,} bytes; this model's takes {state_bytes:,} "
                f"({model.attends or 'model.hidden_size'})"
            )
        self.model, self.mass = model, mass
        classes = classes_of_types(tokenizer)  # (V, 3)
        self.num_types = len(classes)  # the model can have more, which are never read
        data = [tokenizer.decode_bytes(i) for i in range(self.num_types)]
        self.is_within, self.is_boundary, self.is_end = (classes[:, kind] for kind in (WITHIN, BOUNDARY, END))
        self.is_over = self.is_boundary | self.is_end
        self.is_space = np.array([bool(d) and not d.strip() for d in data]) & ~self.is_end
        self.closes = np.array([bool(d.strip()) and d[-1:].isspace() for d in data]) & ~self.is_end
        if not (self.is_over | self.closes).any():
            raise UserError("word-entropy: no type of the model's tokenizer shows where a word is over")
        # of MOST_TOKENS_LEFT choices among the types that continue a word, and its end
        self.largest_nats = MOST_TOKENS_LEFT * math.log(1 + np.count_nonzero(self.is_within))

    def entropies(self, hidden: Tensor, state: State, known: Sequence[Known]) -> list[WordEntropy]:
        """Return the entropy of the next word at each of P places.

        Args:
            hidden: (P, H) for the head: after the last token before each word.
            state: after that token.
            known: what is known of the first token of each word.
        """
        with evaluating(self.model):
            return self._entropies(hidden, state, known)

    def _entropies(self, hidden: Tensor, state: State, known: Sequence[Known]) -> list[WordEntropy]:
        num_places = len(known)
        nats, whole = np.zeros(num_places), np.zeros(num_places)
        expanded = np.zeros(num_places, dtype=np.int64)
        allowed = {Known.NOTHING: self.is_over | self.is_within, Known.WITHIN: self.is_within, Known.OVER: self.is_over}
        p = self._probabilities(hidden) * np.stack([allowed[one] for one in known])  # (P, V)
        p /= np.maximum(p.sum(1, keepdims=True), np.finfo(p.dtype).tiny)
        places = np.arange(num_places)
        roots = Beginnings(places, places, places, np.ones(num_places), np.zeros(num_places, dtype=bool))
        left = self._expand(roots, p, places, nats, whole)
        while len(chosen := self._chosen(left, whole, expanded)):
            now, left = left.where(chosen), left.where(np.setdiff1d(np.arange(len(left.q)), chosen))
            tokens = torch.from_numpy(now.token).to(self.model.device)
            hidden, reached = self.model(tokens.unsqueeze(0), select(state, torch.from_numpy(now.row)))  # (1, R, H)
            rows = state[0].shape[1] + np.arange(len(now.q))
            state = concatenate([state, reached])
            expanded += np.bincount(now.place, minlength=num_places)
            children = self._expand(now, self._probabilities(hidden[0]), rows, nats, whole)
            left = Beginnings.joined([left, children])
        return [
            WordEntropy(one, max(0.0, 1 - mass) * self.largest_nats, min(mass, 1.0))
            for one, mass in zip(nats.tolist(), whole.tolist(), strict=True)
        ]

    def _probabilities(self, hidden: Tensor) -> Numbers:
        """Return (R, V) the probabilities of the tokenizer's types."""
        logits = self.model.head.logits(hidden)[:, : self.num_types]
        found: Numbers = logits.softmax(-1).double().cpu().numpy()
        return found

    def _expand(self, now: Beginnings, p: Numbers, rows: Numbers, nats: Numbers, whole: Numbers) -> Beginnings:
        """Add the contributions of ``now``, with (R, V) ``p`` after each, to the sums by place; return what continues.

        Args:
            rows: (R,) the states after ``now``, which its continuations start from.
        """
        over = np.where(now.is_open, p @ self.is_over, 0.0)  # (R,)
        # white space continues, and the end ends, only what is white space so far; with either, an open word is over
        p = np.where(now.is_open[:, None] & self.is_over, 0.0, p)
        np.add.at(nats, now.place, now.q * (_p_log_p(p).sum(1) + _p_log_p(over)))
        np.add.at(whole, now.place, now.q * (over + p @ (self.is_end | self.closes)))
        q = p * now.q[:, None] * ~(self.is_end | self.closes)
        parents, tokens = np.nonzero(q > (1 - self.mass) * SMALLEST_PART)
        is_open = now.is_open[parents] | ~self.is_space[tokens]
        return Beginnings(now.place[parents], rows[parents], tokens, q[parents, tokens], is_open)

    def _chosen(self, left: Beginnings, whole: Numbers, expanded: Numbers) -> Numbers:
        """Return which to expand now: at each place the likeliest, without which ``mass`` could not be reached."""
        order = np.lexsort((-left.q, left.place))
        place, q = left.place[order], left.q[order]
        sums = np.bincount(place, weights=q, minlength=len(expanded))
        before = np.cumsum(q) - q
        first = np.searchsorted(place, place)
        remaining = sums[place] - (before - before[first])  # of this one and all that are less likely
        may_remain = (1 - self.mass) / 2 - (1 - whole - sums)  # (P,) minus what was dropped
        is_needed = (whole < self.mass)[place] & (remaining > np.maximum(may_remain, 0)[place])
        found = order[is_needed & (expanded[place] < MOST_EXPANDED)]
        return found[np.argsort(-left.q[found], kind="stable")[:ROWS_AT_ONCE]]


def _p_log_p(p: Numbers) -> Numbers:
    """Return −p ln p, which is 0 for p = 0."""
    return -p * np.log(np.where(p > 0, p, 1.0))
