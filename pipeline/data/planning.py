"""Pieces of the splits in, ranges out: what becomes one shard each. Never a function of the number of workers."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from pipeline.config import Config
from pipeline.data.corpus.cutting import blocks, cut_rule, group
from pipeline.data.corpus.documents import Reading, Tally, documents
from pipeline.data.corpus.pieces import Piece, num_bytes_of
from pipeline.data.corpus.splits import between
from pipeline.data.tokenizer import Tokenizer
from pipeline.errors import UserError

RATIO_SAMPLE_BYTES = 1 << 20
# where data.shard_tokens is null
SHARDS, MIN_SHARD_TOKENS, MAX_SHARD_TOKENS = 16, 1 << 20, 1 << 24
# of what a weight asks for: by so much may a text that is cut into few parts be rounded
WEIGHT_TOLERANCE = 0.05
SAMPLE_PARTS, SAMPLE_PART_BYTES = 128, 4096


@dataclass(frozen=True)
class Range:
    """What becomes one shard: consecutive pieces of one split; ``shuffle_seed`` orders its documents anew."""

    name: str
    split: str
    pieces: tuple[Piece, ...]
    shuffle_seed: int | None = None

    @property
    def identity(self) -> list[Any]:
        """What its shard depends on beside the tokenizer and the settings of ``corpus``."""
        return [self.name, self.shuffle_seed, *(piece.identity for piece in self.pieces)]

    @property
    def num_bytes(self) -> int:
        return num_bytes_of(self.pieces)

    def to_json(self) -> list[Any]:
        return [self.name, self.split, [piece.to_json() for piece in self.pieces], self.shuffle_seed]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Range:
        name, split, pieces, shuffle_seed = values
        return cls(name, split, tuple(map(Piece.from_json, pieces)), shuffle_seed)


def plan(tokenizer: Tokenizer, splits: Mapping[str, Sequence[Piece]], config: Config) -> list[Range]:
    """Ranges of about ``data.shard_tokens`` tokens each, at the ratio of tokens to bytes of a sample of the corpus."""
    reading, seed = Reading.of(config.corpus), config.corpus.shuffle_seed
    ratio = tokens_per_byte(tokenizer, splits["train"], reading)
    shard_tokens = config.data.shard_tokens or min(
        max(num_bytes_of(splits["train"]) * ratio / SHARDS, MIN_SHARD_TOKENS), MAX_SHARD_TOKENS
    )
    range_bytes = max(1, round(shard_tokens / ratio))
    ranges = []
    for split, pieces in splits.items():
        is_shuffled = split == "train" and seed is not None
        mixture = mixture_of(split, pieces, config)
        if is_shuffled:
            mixture = [random.Random(f"{seed} {i}").sample(part, len(part)) for i, part in enumerate(mixture)]
        grouped = [list(group(part, range_bytes, reading, tokenizer.safe_cut)) for part in mixture]
        ordered = evenly_mixed(grouped)
        # a file that goes on in the next range must stay before it, and last in its own
        are_whole = not any(reading.is_one_document(piece) for piece in pieces)
        if is_shuffled and are_whole:
            ordered = random.Random(f"{seed}").sample(ordered, len(ordered))
        for index, found in enumerate(ordered):
            ranges.append(
                Range(f"{split}-{index:05d}", split, tuple(found), seed if is_shuffled and are_whole else None)
            )
    return ranges


def tokens_per_byte(tokenizer: Tokenizer, pieces: Sequence[Piece], reading: Reading) -> float:
    """The ratio in the first documents."""
    tally, texts = Tally(), []
    parts = (
        part
        for piece in blocks(pieces, RATIO_SAMPLE_BYTES, reading)
        for part in documents(piece, reading, cut_rule(piece.source, reading, tokenizer.safe_cut), tally)
    )
    for part in parts:
        texts.append(part.text[:RATIO_SAMPLE_BYTES])
        if tally.num_bytes >= RATIO_SAMPLE_BYTES:
            break
    ids, _ = tokenizer.encode_documents(texts, ends=[False] * len(texts))
    return max(1, len(ids)) / max(1, tally.num_bytes)


def mixture_of(split: str, pieces: Sequence[Piece], config: Config) -> list[list[Piece]]:
    """What is mixed evenly in a split: of train the pieces of each pattern by ``corpus.weights``, else all in one list.

    Raises:
        UserError: as ``weighted``.
    """
    weights = config.corpus.weights if split == "train" else None
    return [list(pieces)] if weights is None else weighted(pieces, weights, Reading.of(config.corpus))


def weighted(pieces: Sequence[Piece], weights: Sequence[float], reading: Reading) -> list[list[Piece]]:
    """The pieces of each pattern as often as its weight says: 2.5 is twice all of them and once the first half.

    Raises:
        UserError: a part is wanted of a single document that cannot be cut.
    """
    mixture = []
    for origin, weight in enumerate(weights):
        own = [piece for piece in pieces if piece.source.origin == origin]
        copies, rest = divmod(weight, 1)
        wanted = rest * num_bytes_of(own)
        part = between(own, 0, round(wanted), reading)
        excess = num_bytes_of(part) - wanted
        if part and not part[-1].source.is_plain and abs(excess) > WEIGHT_TOLERANCE * weight * num_bytes_of(own):
            whole = next(piece for piece in own if piece.source == part[-1].source)
            part[-1] = share_of(whole, (part[-1].num_bytes - excess) / whole.num_bytes, reading)
        mixture.append(own * int(copies) + part)
    return mixture


def share_of(piece: Piece, fraction: float, reading: Reading) -> Piece:
    """A ``fraction`` of the documents of ``piece``, by their hashes. Raises ``UserError`` where it is a single one."""
    if reading.is_one_document(piece):
        raise UserError(
            f"corpus.weights: {piece.source.name} is a single document and cannot be cut, so no part of it can be "
            "taken; give a whole number, or set corpus.document to line or paragraph"
        )
    low, high = piece.share
    return replace(piece, share=(low, low + fraction * (high - low)))


def evenly_mixed(groups: Sequence[Sequence[Any]]) -> list[Any]:
    """The items of all ``groups``, each group in its order and spread evenly over the whole."""
    keyed = [((i + 0.5) / len(items), g, item) for g, items in enumerate(groups) for i, item in enumerate(items)]
    return [item for _, _, item in sorted(keyed, key=lambda key: key[:2])]


def sample(pieces: Sequence[Piece], num_bytes: int, reading: Reading) -> list[Piece]:
    """About ``num_bytes`` in parts spread evenly over ``pieces``; all of them if there are no more."""
    total = num_bytes_of(pieces)
    if total <= num_bytes:
        return list(pieces)
    stops = list(accumulate(piece.num_bytes for piece in pieces))
    num_parts = max(1, min(SAMPLE_PARTS, num_bytes // SAMPLE_PART_BYTES))
    found = []
    for part in range(num_parts):
        start = part * total // num_parts
        stop = start + num_bytes // num_parts
        first, last = bisect_right(stops, start), bisect_left(stops, stop)
        before = stops[first] - pieces[first].num_bytes
        found += between(pieces[first : last + 1], start - before, stop - before, reading)
    return found or list(pieces[:1])
