"""The loss of held-out tokens if everything before the last k tokens is dropped, shuffled or replaced.

Khandelwal, He, Qi & Jurafsky 2018, Sharp Nearby, Fuzzy Far Away: How Neural Language Models Use Context. Letters:
N targets, P pairs, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.context_use.changed import changed_contexts
from pipeline.context_use.curve import Curve, Numbers, Point
from pipeline.context_use.places import (
    Pairs,
    Targets,
    after_contexts,
    all_targets,
    choose_targets,
    whole_contexts,
)
from pipeline.context_use.rows import Changed, Rows, hidden_of
from pipeline.data.streams import NO_RESETS, ResetRule
from pipeline.data.tokenizer import Ids
from pipeline.data.windows import Tokens
from pipeline.errors import UserError
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel

# tokens before a stretch that count as its whole context: this many times the longest context, at least this many
HISTORY, LEAST_HISTORY = 2, 500
# the effective context may exceed the next shorter one that was measured by this factor
FINEST = 1.1


@dataclass(frozen=True)
class ContextUse:
    """Nats of N targets with their whole context and, by change and context, with less."""

    targets: Targets
    types: Ids  # (N,) ids of the targets
    whole: Numbers  # (N,)
    nats: dict[str, dict[int, Numbers]]  # (N,) each
    num_read: dict[str, int]  # tokens read, by change, and for "whole"

    def curve(self, change: str, chosen: np.ndarray[Any, np.dtype[np.bool_]] | None = None) -> Curve:
        """Return the curve of ``change``, over all targets or those for which ``chosen``, (N,), is true."""
        own = np.ones(len(self.whole), dtype=bool) if chosen is None else chosen
        groups = self.targets.stretch[own]
        measured = sorted(self.nats[change].items())
        return Curve([Point.of(context, nats[own], self.whole[own], groups) for context, nats in measured])


@dataclass(frozen=True)
class Plan:
    """What is read to measure a text: targets, each after its whole context and after each of ``contexts``."""

    contexts: Sequence[int]  # rising
    targets: Targets
    with_all: Pairs
    with_some: Pairs
    rows: Rows  # of ``with_some``
    length: int  # of a changed context
    changed: dict[str, Changed | None]  # by change


def plan(
    tokens: Tokens,
    *,
    contexts: Sequence[int],
    changes: Sequence[str] = ("dropped",),
    num_targets: int | None = 1000,
    within: float = 0.1,
    length: int | None = None,
    reset: ResetRule = NO_RESETS,
    seed: int = 1,
) -> Plan:
    """Return what ``measure`` reads with the same arguments. Raises ``UserError`` as it does, before anything is read.

    So it says of several texts whether all of them can be measured.
    """
    longest, asked = (contexts := sorted(set(contexts)))[-1], length
    length = min(longest if length is None else length, len(tokens))
    if num_targets is None:
        targets = all_targets(len(tokens))
    else:
        before = longest + (length if set(changes) - {"dropped"} else 0)
        if asked is not None and longest < len(tokens) <= before:  # without so many changed tokens there were room
            raise UserError(
                f"{asked:,} changed tokens before contexts of {longest:,} need a longer text than the "
                f"{len(tokens):,} tokens there are; ask for fewer",
                argument="length",
            )
        targets = choose_targets(len(tokens), num_targets, before=before)
    history = None if num_targets is None else max(HISTORY * longest, LEAST_HISTORY)
    with_some = after_contexts(targets, contexts, within=within)
    rows = Rows.of(with_some)
    how: dict[str, Any] = {"length": length, "longest": int(rows.lengths[0]), "reset": reset.by_documents, "seed": seed}
    changed = {change: changed_contexts(change, tokens, planned=rows.starts, **how) for change in changes}
    return Plan(contexts, targets, whole_contexts(targets, history=history), with_some, rows, length, changed)


def measure(
    model: LanguageModel,
    tokens: Tokens,
    *,
    contexts: Sequence[int],
    changes: Sequence[str] = ("dropped",),
    num_targets: int | None = 1000,
    within: float = 0.1,
    length: int | None = None,
    share: float | None = None,
    reset: ResetRule = NO_RESETS,
    seed: int = 1,
    on_plan: Callable[[int], None] = lambda number: None,
    on_tokens: Callable[[int], None] = lambda number: None,
) -> ContextUse:
    """Measure how the loss of ``tokens`` depends on the last k tokens before each, for each k of ``contexts``.

    Args:
        changes: what happens to everything before those: ``dropped``, ``shuffled``, ``replaced``.
        num_targets: how many, spread over the text, the same for every k; None: every token, with all of its history.
        within: a context of k may be longer by this share; 0: each is exactly k.
        length: how many tokens are read before the k, shuffled or from elsewhere; by default the longest k.
        share: measure further k around the effective context for this share of perplexity; None: only ``contexts``.
        reset: where states are made zero; only documents count.
        on_plan: called with the number of tokens that will be read, and again if further k are measured.
        on_tokens: called with the number of tokens just read.

    Raises:
        UserError: the text is too short.
    """
    how: dict[str, Any] = {"num_targets": num_targets, "within": within, "length": length, "reset": reset, "seed": seed}
    all_read = plan(tokens, contexts=contexts, changes=changes, **how)
    targets, length = all_read.targets, all_read.length
    to_read = (_to_read(all_read.rows, change, length) for change in changes)
    planned = sum(to_read, Rows.of(all_read.with_all).num_tokens)
    on_plan(planned)

    scorer = _Scorer(model, tokens, reset.by_documents, on_tokens)
    whole = scorer.nats(all_read.with_all)
    result = ContextUse(targets, tokens.rows(targets.places, 1)[:, 0], whole, {}, {"whole": scorer.num_read})
    for change in changes:
        already, changed = scorer.num_read, all_read.changed[change]
        nats = scorer.nats(all_read.with_some, changed).reshape(len(all_read.contexts), len(targets))
        result.nats[change] = dict(zip(all_read.contexts, nats, strict=True))
        while share is not None and (context := next_context(result.curve(change), share)) is not None:
            with_more = after_contexts(targets, [context], within=within)
            planned += _to_read(Rows.of(with_more), change, length)
            on_plan(planned)
            result.nats[change][context] = scorer.nats(with_more, changed)
        result.num_read[change] = scorer.num_read - already
    return result


def _to_read(rows: Rows, change: str, length: int) -> int:
    """Return the number of tokens read for ``rows``, including ``length`` changed ones before each."""
    return rows.num_tokens + (0 if change == "dropped" else length * len(rows.starts))


def next_context(curve: Curve, share: float) -> int | None:
    """Return the context to measure next: the geometric mean of the effective one and the one before; None: enough."""
    high = curve.effective(share)
    if high is None:
        return None
    low = curve.before(high)
    return round(math.sqrt(low * high)) if low and high > max(FINEST * low, low + 1) else None


class _Scorer:
    """Reads rows of a text and scores what follows; ``num_read`` counts the tokens read."""

    def __init__(
        self, model: LanguageModel, tokens: Tokens, reset: ResetRule, on_tokens: Callable[[int], None]
    ) -> None:
        self.model, self.tokens, self.reset, self.on_tokens = model, tokens, reset, on_tokens
        self.num_read = 0

    def nats(self, pairs: Pairs, changed: Changed | None = None) -> Numbers:
        """Return (P,) nats of the targets of ``pairs``."""
        types = torch.from_numpy(self.tokens.rows(pairs.targets, 1)[:, 0])  # (P,)
        result = np.zeros(len(pairs))
        rows, model = Rows.of(pairs), self.model
        read = hidden_of(model, self.tokens, rows, reset=self.reset, changed=changed, on_tokens=self._count)
        for found, hidden in read:
            targets = types[torch.from_numpy(found)].to(hidden.device)
            with evaluating(model):
                nats = model.head.token_nats(hidden.unsqueeze(0), targets.unsqueeze(0))[0]
            result[found] = nats.double().cpu().numpy()
        return result

    def _count(self, number: int) -> None:
        self.num_read += number
        self.on_tokens(number)
