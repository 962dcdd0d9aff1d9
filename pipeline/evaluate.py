"""A model and held-out tokens in, an honest figure out: every token but the first scored exactly once.

tokens → streams → windows with carried state → nats, summed over windows and ranks → perplexity, bits per byte
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline import metrics
from pipeline.data.corpus import read_file
from pipeline.data.shards import PreparedCorpus
from pipeline.data.streams import NO_RESETS, ResetRule, ScoringStreams
from pipeline.data.tokenizer import Ids, Tokenizer
from pipeline.data.windows import ArrayTokens, HeldOutData, Tokens
from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import autocast
from pipeline.model.segments import Segments
from pipeline.model.state import zeros_like


@dataclass(frozen=True)
class Score:
    """Sums over a held-out text; ``num_bytes`` is the scored text's, None where that cannot be said (``why_not``)."""

    nats: float
    tokens: int
    num_parts: int  # of the ``layout``: streams
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


@dataclass(frozen=True)
class HeldOut:
    """Held-out tokens with what the score of their text needs to know."""

    tokens: Tokens
    num_bytes: int | None
    why_not: str = ""


def held_out(tokenizer: Tokenizer, tokens: Tokens, first: Ids, *, num_bytes: int, num_unknown: int) -> HeldOut:
    """``tokens`` of a text of ``num_bytes`` bytes; ``first``, its first token, is not scored and its bytes not counted.

    Bits per byte are given only where the tokens say all of the text: not with ``<unk>`` among them, nor for words,
    which do not keep white space.
    """
    if num_unknown:
        return HeldOut(tokens, None, f"{num_unknown:,} of its tokens are <unk>, so they do not give back the text")
    if not tokenizer.is_lossless:
        return HeldOut(tokens, None, f"{tokenizer.kind} tokens do not keep white space")
    return HeldOut(tokens, num_bytes - sum(len(tokenizer.decode_bytes(int(token))) for token in first))


def split_held_out(corpus: PreparedCorpus, split: str) -> HeldOut:
    """A split of a prepared corpus, ready to be scored. Raises ``ValueError`` if there is no such split."""
    if split not in corpus.splits:
        raise ValueError(f"--split: the prepared corpus has no {split} split (corpus.{split}, corpus.{split}_fraction)")
    tokens = corpus.splits[split]
    return held_out(corpus.tokenizer, tokens, tokens[:1], num_bytes=tokens.num_bytes, num_unknown=tokens.num_unknown)


def text_held_out(tokenizer: Tokenizer, path: str) -> HeldOut:
    """A text file as the one document of a split. Raises ``ValueError`` if it is missing, not UTF-8 or too short."""
    text = read_file(path)
    ids = tokenizer.encode_document(text)
    if len(ids) < 2:
        raise ValueError(f"--text: {path} has {len(ids)} tokens; at least 2 are needed to score one")
    unknown = 0 if tokenizer.unk_id is None else int((ids == tokenizer.unk_id).sum())
    return held_out(tokenizer, ArrayTokens(ids), ids[:1], num_bytes=len(text.encode()), num_unknown=unknown)


def evaluate(
    model: LanguageModel,
    text: HeldOut,
    *,
    streams: int,
    bptt: int,
    reset: ResetRule = NO_RESETS,
    rank: int = 0,
    world_size: int = 1,
    precision: str = "float32",
) -> Score:
    """Score ``text`` on ``streams`` streams (fewer if it has fewer tokens), this rank's part of them, and add up.

    The streams are the same whatever the number of ranks. Each begins with a blank state, so only a single stream
    gives every token its whole history; ``reset`` says where else states are made blank.

    Raises:
        ValueError: fewer than two tokens.
    """
    parts: HeldOutData = ScoringStreams(
        text.tokens, num_streams=streams, bptt=bptt, reset=reset, rank=rank, world_size=world_size
    )
    was_training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    num_tokens = 0
    state = model.initial_state(len(parts.rows))
    with torch.inference_mode(), autocast(precision, model.device):
        for window in parts.windows():
            inputs = torch.from_numpy(window.inputs).to(model.device)  # (T, B)
            targets = torch.from_numpy(window.targets).to(model.device)  # (T, B)
            segments = None if window.resets is None else Segments(window.resets, device=model.device)
            hidden, state = model(inputs, zeros_like(state) if window.begins else state, segments)
            total += model.head.loss(hidden, targets)
            num_tokens += int((window.targets >= 0).sum())
    model.train(was_training)
    nats, tokens = metrics.all_reduce_sum([float(total), num_tokens])
    return Score(nats, round(tokens), parts.num_parts, parts.layout, text.num_bytes, text.why_not)
