"""Slices of the splits in, ranges out, each of which becomes one shard. Never a function of the number of workers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pipeline.config import Config
from pipeline.data.corpus import Slice
from pipeline.data.corpus.documents import utf8_of
from pipeline.data.corpus.slices import blocks, group, mixture_of, num_bytes_of
from pipeline.data.readers import Reader
from pipeline.data.tokenizer import Tokenizer

RATIO_SAMPLE_BYTES = 1 << 20
# if data.shard_tokens is null
SHARDS, MIN_SHARD_TOKENS, MAX_SHARD_TOKENS = 16, 1 << 20, 1 << 24


@dataclass(frozen=True)
class Range:
    """What becomes one shard: consecutive slices of one split; ``shuffle_seed`` reorders its records.

    Files that are one document keep their places: each may be the rest of one, or continue in another range.
    ``is_resumed``: it begins with the rest of one, and another text comes before it.
    """

    name: str
    split: str
    slices: tuple[Slice, ...]
    shuffle_seed: int | None = None
    is_resumed: bool = False

    @property
    def identity(self) -> list[Any]:
        """What its shard depends on besides the tokenizer and the settings of ``corpus``."""
        resumed = ["resumed"] * self.is_resumed
        return [self.name, self.shuffle_seed, *(item.identity for item in self.slices), *resumed]

    @property
    def num_bytes(self) -> int:
        return num_bytes_of(self.slices)


def plan(tokenizer: Tokenizer, splits: Mapping[str, Sequence[Slice]], config: Config) -> list[Range]:
    """Ranges of about ``data.shard_tokens`` tokens each, by the ratio of tokens to bytes in a sample of the corpus."""
    seed = config.corpus.shuffle_seed
    ratio = tokens_per_byte(tokenizer, splits["train"])
    shard_tokens = config.data.shard_tokens or min(
        max(num_bytes_of(splits["train"]) * ratio / SHARDS, MIN_SHARD_TOKENS), MAX_SHARD_TOKENS
    )
    range_bytes = max(1, round(shard_tokens / ratio))
    ranges = []
    for split, slices in splits.items():
        is_shuffled = split == "train" and seed is not None
        mixture = mixture_of(slices, config.corpus.weights if split == "train" else None)
        if is_shuffled:
            mixture = [random.Random(f"{seed} {i}").sample(part, len(part)) for i, part in enumerate(mixture)]
        grouped = [list(group(part, range_bytes, tokenizer.safe_cut)) for part in mixture]
        ordered = evenly_mixed(grouped)
        # a file that continues in the next range must stay before it
        if is_shuffled and not any(map(is_file, slices)):
            ordered = random.Random(f"{seed}").sample(ordered, len(ordered))
        for index, found in enumerate(ordered):
            shuffle_seed = seed if is_shuffled and not all(map(is_file, found)) else None
            is_resumed = index > 0 and resumes(ordered[index - 1][-1], found[0])
            ranges.append(Range(f"{split}-{index:05d}", split, tuple(found), shuffle_seed, is_resumed))
    return ranges


def tokens_by_pattern(ranges: Sequence[Range], num_tokens: Mapping[str, int]) -> dict[int, int]:
    """Tokens of the training split by the number of their pattern, if it has a weight: then a range has a single one.

    Args:
        num_tokens: of each range, by its name.
    """
    found: Counter[int] = Counter()
    for item in ranges:
        if item.split == "train":
            found[item.slices[0].reader.origin] += num_tokens[item.name]
    return found


def resumes(before: Slice, item: Slice) -> bool:
    """Whether ``item`` is the rest of a file that is one document, and ``before`` is not the part that precedes it."""
    return is_file(item) and item.start > 0 and (before.reader, before.stop) != (item.reader, item.start)


def is_file(item: Slice) -> bool:
    """Whether ``item`` is a file that is one document, or a part of one."""
    return item.reader.is_one_document


def unread(sources: Mapping[str, Reader], ranges: Sequence[Range]) -> list[Slice]:
    """What of ``sources`` is in none of ``ranges``."""
    read: dict[str, list[tuple[int, int]]] = {}
    for item in chain.from_iterable(own.slices for own in ranges):
        read.setdefault(item.reader.name, []).append((item.start, item.stop))
    found = []
    for name, reader in sources.items():
        reached = 0
        for start, stop in sorted([*read.get(name, ()), (reader.extent, reader.extent)]):
            if start > reached:
                found.append(Slice(reader, reached, start))
            reached = max(reached, stop)
    return found


def tokens_per_byte(tokenizer: Tokenizer, slices: Sequence[Slice]) -> float:
    """The ratio of tokens to bytes in the first documents."""
    texts, num_bytes = [], 0
    for text in utf8_of(blocks(slices, RATIO_SAMPLE_BYTES), safe_cut=tokenizer.safe_cut):
        texts.append(text if len(text) <= RATIO_SAMPLE_BYTES else text.decode()[:RATIO_SAMPLE_BYTES].encode())
        num_bytes += len(text)
        if num_bytes >= RATIO_SAMPLE_BYTES:
            break
    ids, _ = tokenizer.encode_utf8(texts, ends=[False] * len(texts))
    return max(1, len(ids)) / max(1, num_bytes)


def evenly_mixed(groups: Sequence[Sequence[Any]]) -> list[Any]:
    """The items of all ``groups``, each group in its own order and spread evenly over the whole."""
    keyed = [((i + 0.5) / len(items), g, item) for g, items in enumerate(groups) for i, item in enumerate(items)]
    return [item for _, _, item in sorted(keyed, key=lambda key: key[:2])]
