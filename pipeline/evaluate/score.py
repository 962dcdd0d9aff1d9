"""The score of a held-out text: its windows are scored one after another, and their nats summed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline import metrics
from pipeline.data.scoring import ScoringDocuments, ScoringStreams
from pipeline.data.streams import NO_RESETS, ResetRule
from pipeline.data.windows import HeldOutData
from pipeline.evaluate.breakdown import Breakdown
from pipeline.evaluate.held_out import HeldOut
from pipeline.model.language_model import LanguageModel
from pipeline.scoring import Scored, scored_windows

# tokens of all streams that are scored at a time: the fewer calls, the faster
TOKENS_AT_ONCE = 1024


@dataclass(frozen=True)
class Score:
    """Sums over a held-out text; ``num_bytes`` is that of the scored text, or None for the reason ``why_not``."""

    nats: float
    tokens: int
    num_parts: int  # streams or documents, as ``layout`` says
    layout: str = "streams"
    num_bytes: int | None = None
    why_not: str = ""

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        return metrics.perplexity(self.nats, self.tokens)

    @property
    def bits_per_byte(self) -> float | None:
        return None if self.num_bytes is None else metrics.bits_per_byte(self.nats, self.num_bytes)


def evaluate(
    model: LanguageModel,
    text: HeldOut,
    *,
    streams: int,
    bptt: int,
    reset: ResetRule = NO_RESETS,
    burn_in: int = 0,
    rank: int = 0,
    world_size: int = 1,
    precision: str = "float32",
    breakdown: Breakdown | None = None,
    on_tokens: Callable[[int], None] = lambda number: None,
) -> Score:
    """Score this rank's part of ``text`` on ``streams`` streams (fewer if it has fewer tokens); sum over ranks.

    The streams are the same whatever the number of ranks. Each begins with a zero state ``burn_in`` tokens early, so
    only a single stream gives every token its whole history; ``reset`` says where else states become zero. A
    ``breakdown`` sums this rank's part; ``on_tokens`` is called with the number of tokens just scored in it. Documents
    are scored ``streams`` at a time, each by itself: the figure does not depend on how many.

    Raises:
        UserError: fewer than two tokens, or no document.
    """
    # if states become zero at documents, a window is padded to its longest stretch: a long one would be mostly padding
    length = bptt if reset.at_documents else max(bptt, TOKENS_AT_ONCE // streams)
    ranks = {"rank": rank, "world_size": world_size, "window_length": length}
    parts: HeldOutData
    if text.begin_id is None:
        parts = ScoringStreams(text.tokens, num_streams=streams, bptt=bptt, reset=reset, burn_in=burn_in, **ranks)
    else:
        streams = min(streams, len(text.tokens))  # no more rows than there can be documents
        resets_first = model.reset_after == text.begin_id  # which then only predicts a document's first token
        parts = ScoringDocuments(
            text.tokens,
            num_rows=streams,
            begin_id=text.begin_id,
            resets_first=resets_first,
            reset_every=reset.every_tokens,
            **ranks,
        )
    scored = scored_windows(model, parts.windows(), precision=precision)
    nats, num_tokens = total(counted(scored, on_tokens), breakdown)
    nats, tokens = metrics.all_reduce_sum([nats, num_tokens])
    return Score(nats, round(tokens), parts.num_parts, parts.layout, text.num_bytes, text.why_not)


def counted(parts: Iterable[Scored], on_tokens: Callable[[int], None]) -> Iterator[Scored]:
    """Pass ``parts`` on, calling ``on_tokens`` with the number of targets of each once it has been used."""
    for part in parts:
        yield part
        on_tokens(int((part.window.targets >= 0).sum()))


@dataclass
class Total:
    """The nats and tokens of parts, summed one by one."""

    nats: Tensor | float = 0.0
    num_tokens: int = 0

    def add(self, part: Scored) -> None:
        self.nats = self.nats + part.nats.sum(dtype=torch.float64)
        self.num_tokens += int((part.window.targets >= 0).sum())

    def along(self, parts: Iterable[Scored]) -> Iterator[Scored]:
        """Pass ``parts`` on, adding each."""
        for part in parts:
            self.add(part)
            yield part


def total(parts: Iterable[Scored], breakdown: Breakdown | None = None) -> tuple[float, int]:
    """Sum the nats of all ``parts`` and count their tokens; each part is also added to ``breakdown``."""
    found = Total()
    for part in found.along(parts):
        if breakdown is not None:
            assert part.window.first is not None
            breakdown.add(part.window.first, part.window.targets, part.nats.double().cpu().numpy())
    return float(found.nats), found.num_tokens
