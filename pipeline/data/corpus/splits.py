"""Sources in, the slices of each split out: given separately, or held out of the training text."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.config import CorpusConfig
from pipeline.data.corpus.overlaps import Owners
from pipeline.data.corpus.slices import Slice, between, num_bytes_of
from pipeline.data.corpus.sources import SPLITS, find_sources, total_bytes, with_rows
from pipeline.data.readers import Reader
from pipeline.errors import UserError

# with fewer files than this, splitting by whole files is too coarse
ENOUGH_FILES = 20
Fractions = dict[str, float]


def split_corpus(config: CorpusConfig) -> dict[str, list[Slice]]:
    """The slices of ``train``, and of ``valid`` and ``test`` if there are any, in corpus order.

    Raises:
        UserError: no file matches, a split is empty, or the text cannot be divided as asked.
    """
    given = {name: find_sources(name, config) for name in SPLITS}
    if given["valid"] or given["test"]:
        refuse_shared(given)
    if config.weights is not None and len(config.weights) != len(config.train):
        raise UserError(
            f"corpus.weights: {len(config.weights)} weights for the {len(config.train)} patterns of corpus.train"
        )
    if config.weights is not None:
        refuse_idle_weights(given["train"], config)
    splits = {name: [Slice.whole(source) for source in sources] for name, sources in given.items()}
    fractions = held_out_of_train(config)
    if any(fractions.values()):
        splits.update(_divide(given["train"], fractions, config))
    for name, slices in splits.items():
        if not num_bytes_of(slices) and (name == "train" or given[name] or fractions[name]):
            raise _empty(name, given, fractions)
    return {name: slices for name, slices in splits.items() if slices}


def refuse_idle_weights(sources: Sequence[Reader], config: CorpusConfig) -> None:
    """Raises ``UserError`` for a pattern whose files all belong to earlier ones: its weight would do nothing."""
    origins = {source.origin for source in sources}
    for origin, pattern in enumerate(config.train):
        if origin not in origins:
            raise UserError(
                f"corpus.weights: all that {pattern} names is in earlier patterns of corpus.train, whose weights count "
                "for it; name each text once"
            )


def refuse_shared(given: Mapping[str, Sequence[Reader]]) -> None:
    """Raises ``UserError`` naming a source that is in two splits: a score on training text is not a held-out score.

    A file is known by its path, whatever links lead there; a dataset by its files and rows, and by its texts.
    """
    owners: Owners[tuple[str, Reader]] = Owners()
    copied: list[tuple[str, Reader]] = []
    for split, sources in given.items():
        own = list(with_rows(sources))
        for source, rows in own:
            found = owners.find(rows) or next((there for there in copied if source.has_equal_texts(there[1])), None)
            if found is not None:
                owner, other = found
                known_as = "" if other.name == source.name else f" (there as {other.name})"
                raise UserError(
                    f"corpus.{split}: {source.name} is in corpus.{owner} too{known_as}; leave it out of one of them"
                )
        for source, rows in own:
            owners.add(rows, (split, source))
        copied += [(split, source) for source in sources if source.has_copies]


def _empty(name: str, given: Mapping[str, Sequence[Reader]], fractions: Fractions) -> UserError:
    """Why there is nothing in split ``name``, and what to do."""
    held_out = " and ".join(f"corpus.{split}" for split, fraction in fractions.items() if fraction)
    is_divided = bool(held_out) and (name == "train" or fractions[name] > 0)
    if not is_divided or not total_bytes(given["train"]):
        return UserError(f"corpus.{name}: there is no text in it")
    return UserError(
        f"corpus.{name}: nothing is left for it, because corpus.train is in too few files or parts to hold {held_out} "
        "out of it; set corpus.split_by to document (if a file is one document, also corpus.document to line or "
        f"paragraph), or name a {held_out}"
    )


def held_out_of_train(config: CorpusConfig) -> Fractions:
    """The fraction of the training text that becomes each held-out split, 0 for one whose text is given."""
    return {
        "valid": 0.0 if config.valid else config.valid_fraction,
        "test": 0.0 if config.test else config.test_fraction,
    }


def _divide(sources: Sequence[Reader], fractions: Fractions, config: CorpusConfig) -> dict[str, list[Slice]]:
    by: str = config.split_by
    if by == "auto":
        by = _suitable(sources, fractions)
    if by == "document" and all(source.is_one_document for source in sources):
        by = "file"
        if len(sources) == 1:
            raise UserError(
                f"corpus.valid_fraction: {sources[0].name} is a single document and cannot be divided by documents; "
                "set corpus.document to line or paragraph, or name a corpus.valid"
            )
    divide: dict[str, Callable[..., dict[str, list[Slice]]]] = {
        "file": _divide_files,
        "document": _divide_documents,
        "fraction": _divide_text,
    }
    return divide[by](sources, fractions)


def _suitable(sources: Sequence[Reader], fractions: Fractions) -> str:
    """What ``auto`` stands for: files if there are many, documents if the text is in parts that are too large."""
    if len(sources) >= ENOUGH_FILES:
        return "file"
    if all(source.is_cut_by_bytes for source in sources):
        return "fraction"
    if not all(source.can_be_cut for source in sources):
        return "document"
    splits = _divide_text(sources, fractions)
    return "fraction" if all(num_bytes_of(slices) for slices in splits.values()) else "document"


def _divide_files(sources: Sequence[Reader], fractions: Fractions) -> dict[str, list[Slice]]:
    """Fill the held-out splits with whole files, by the hashes of their names, up to their share of the bytes.

    A file larger than what is still wanted is passed over, so that a single large file does not end up held out.
    """
    total = total_bytes(sources)
    shuffled = sorted(sources, key=lambda source: hashlib.sha256(source.name.encode()).digest())
    owner: dict[str, str] = {}
    for split, fraction in fractions.items():
        wanted = fraction * total
        free = [source for source in shuffled if source.name not in owner and source.num_bytes]
        for source in free:
            if source.num_bytes <= wanted:
                owner[source.name] = split
                wanted -= source.num_bytes
        if fraction and free and split not in owner.values():
            owner[min(free, key=lambda source: source.num_bytes).name] = split
    slices: dict[str, list[Slice]] = {split: [] for split in _wanted(fractions)}
    for source in sources:
        slices[owner.get(source.name, "train")].append(Slice.whole(source))
    return slices


def _divide_documents(sources: Sequence[Reader], fractions: Fractions) -> dict[str, list[Slice]]:
    """Assign every document by the hash of its place: each split reads every text, except single-document texts.

    These go whole into one split; into train if they are larger than the share of the split that their hash says.
    """
    first = 1 - sum(fractions.values())
    shares = {
        "train": (0.0, first),
        "valid": (first, first + fractions["valid"]),
        "test": (first + fractions["valid"], 1.0),
    }
    slices: dict[str, list[Slice]] = {split: [] for split in _wanted(fractions)}
    most_bytes = {"train": math.inf, **{split: share * total_bytes(sources) for split, share in fractions.items()}}
    for source in sources:
        parts = {split: Slice(source, 0, source.extent, shares[split]) for split in slices}
        if source.is_one_document:
            owner = next((split for split, part in parts.items() if part.has(np.array([0])).all()), "train")
            slices[owner if source.num_bytes <= most_bytes[owner] else "train"].append(Slice.whole(source))
        else:
            for split, part in parts.items():
                slices[split].append(part)
    return slices


def _divide_text(sources: Sequence[Reader], fractions: Fractions) -> dict[str, list[Slice]]:
    """The text in order: train, then valid, then test, cut between documents or at line starts."""
    for source in sources:
        if not source.can_be_cut:
            raise UserError(
                f"corpus.split_by: {source.name} cannot be cut by fraction; set corpus.split_by to file or document, "
                "or name a corpus.valid"
            )
    total = total_bytes(sources)
    first = round(total * (1 - sum(fractions.values())))
    cuts = {"train": (0, first), "valid": (first, first + round(total * fractions["valid"]))}
    cuts["test"] = (cuts["valid"][1], total)
    if not fractions["test"]:
        cuts["valid"] = (first, total)
    slices = [Slice.whole(source) for source in sources]
    return {split: between(slices, *cuts[split]) for split in _wanted(fractions)}


def _wanted(fractions: Fractions) -> list[str]:
    return ["train", *(split for split, fraction in fractions.items() if fraction)]
