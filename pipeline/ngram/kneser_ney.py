"""Counts in, probabilities out: interpolated modified Kneser-Ney (Chen & Goodman 1998, "An Empirical Study of Smoothing
Techniques for Language Modeling", TR-10-98, section 4.1.6).

    p(w | h) = (a(h w) − D(a(h w))) / Σ a(h ·)  +  γ(h) · p(w | h without its first word)
    γ(h) = Σ D(a(h ·)) / Σ a(h ·)

For an n-gram of the highest order, a is how often it occurs; for a lower one, how many different words precede it. An
n-gram at the beginning of a sentence has nothing before it and keeps its own count. Each order has three discounts D:
for an a of 1, of 2, and of more. Below single words all words but <s> are equally likely, so <unk> has its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.data.tokenizer import Ids
from pipeline.errors import UserError
from pipeline.ngram.counting import Counted, counted_ngrams
from pipeline.ngram.model import BEGIN_ID, LOG_ZERO, Level, NGramModel
from pipeline.ngram.text import TrainingText

MOST_WORDS = 5  # of an n-gram
# used if the numbers of n-grams that occur once to four times, such as 0, give no discounts
USUAL_DISCOUNTS = (0.5, 1.0, 1.5)

Numbers = np.ndarray[Any, np.dtype[np.float64]]


def train_ngram(text: TrainingText, order: int) -> NGramModel:
    """Train a model of n-grams of up to ``order`` words on ``text``.

    Raises:
        UserError: ``order`` is not from 1 to ``MOST_WORDS``, or the text has no words.
    """
    if not 1 <= order <= MOST_WORDS:
        raise UserError(f"{order} is not from 1 to {MOST_WORDS}", argument="order")
    if len(text.ids) < 3:
        raise UserError("the training text has no word to count", argument="data")
    counted = list(counted_ngrams(text.ids, order=order, vocab_size=len(text.words), begin_id=BEGIN_ID))
    levels: list[Level] = []
    discounts, usual = [], []
    for n, part in enumerate(counted, start=1):
        adjusted = adjusted_counts(part, counted[n] if n < len(counted) else None)
        if n == 1:
            adjusted[BEGIN_ID] = 0  # it follows nothing
        found = discounts_of(adjusted)
        if found is None:
            usual.append(n)
        discounts.append(found or USUAL_DISCOUNTS)
        _add_level(levels, part, adjusted, discounts[-1], vocab_size=len(text.words))
    return NGramModel(text.words, levels, discounts=discounts, orders_without_discounts=usual)


def adjusted_counts(part: Counted, longer: Counted | None) -> Ids:
    """Return (K,) a of each n-gram of ``part``: its count or, given ``longer`` ones, how many words precede it."""
    if longer is None:
        return part.counts.copy()
    return np.where(part.begins, part.counts, np.bincount(longer.suffixes, minlength=len(part.keys)))


def discounts_of(adjusted: Ids) -> tuple[float, float, float] | None:
    """Return D for an a of 1, 2, and 3 or more, from how many n-grams have an a of 1 to 4.

    None if there are none of one of these, or if a D would not be above 0 and at most the a that it is taken from.
    """
    t = np.bincount(np.minimum(adjusted, 5), minlength=6).astype(float)
    if not t[1:5].all():
        return None
    y = t[1] / (t[1] + 2 * t[2])
    one, two, three = (float(k - (k + 1) * y * t[k + 1] / t[k]) for k in (1, 2, 3))
    return (one, two, three) if 0 < one <= 1 and 0 < two <= 2 and 0 < three <= 3 else None


def _add_level(
    levels: list[Level], part: Counted, adjusted: Ids, discounts: Sequence[float], *, vocab_size: int
) -> None:
    """Append the n-grams of ``part`` with probabilities to ``levels``; fill in the weights of the level before."""
    taken = np.array([0.0, *discounts])[np.minimum(adjusted, 3)]  # (K,) D(a)
    if not levels:
        total = adjusted.sum()
        p = (adjusted - taken) / total + taken.sum() / total / (vocab_size - 1)
        with np.errstate(divide="ignore"):
            log_p = np.log(p)
        log_p[BEGIN_ID] = LOG_ZERO
        levels.append(Level(part.keys, log_p, np.zeros(len(log_p))))
        return
    shorter = levels[-1]
    contexts = part.keys // vocab_size
    totals = np.bincount(contexts, weights=adjusted, minlength=len(shorter.keys))
    shares = np.bincount(contexts, weights=taken, minlength=len(shorter.keys))
    is_context = totals > 0
    gamma = np.divide(shares, totals, out=np.ones_like(totals), where=is_context)
    shorter.log_backoff[:] = np.log(gamma)
    p = (adjusted - taken) / totals[contexts] + gamma[contexts] * np.exp(shorter.log_p[part.suffixes])
    levels.append(Level(part.keys, np.log(p), np.zeros(len(p))))
