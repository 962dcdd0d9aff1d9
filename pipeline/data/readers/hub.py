"""Hugging Face datasets: ``hf://PATH?config=…&split=…&revision=…&streaming=1`` in, the rows that it names out.

PATH is a name on the hub, a local folder of data files, or a folder that ``save_to_disk`` wrote. Splits, slices of
them and unions (``train[:90%]+validation``) mean what they mean in ``datasets``, for each of the three.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any
from urllib.parse import unquote

from pipeline import storage
from pipeline.data.readers.base import Rows, as_version
from pipeline.errors import UserError

DATASET = "hf://"
OPTIONS = ("config", "revision", "split", "streaming")
SWITCH = {"1": True, "true": True, "0": False, "false": False}
# what `save_to_disk` writes into the folder of a dataset, and into the folder of a dictionary of datasets
SAVED_DATASET, SAVED_SPLITS = ("dataset_info.json", "state.json"), "dataset_dict.json"
MARKS = (*SAVED_DATASET, SAVED_SPLITS)


@dataclass(frozen=True)
class Loaded:
    """A dataset, whether it is streamed, and which rows of which files it consists of."""

    dataset: Any
    is_streaming: bool
    rows: tuple[Rows, ...]


@dataclass(frozen=True)
class Splits:
    """The splits of a dataset: their names, and each one's data, files and number of rows (infinite if streamed)."""

    names: tuple[str, ...]
    load: Callable[[str], Any]
    files: Callable[[str], tuple[str, ...]]
    num_rows: Callable[[str], float]


def saved_splits(folder: str) -> list[str] | None:
    """The splits that ``DatasetDict.save_to_disk`` wrote into ``folder``, None if it did not write the folder."""
    path = storage.join(folder, SAVED_SPLITS)
    if storage.size(path) is None:
        return None
    try:
        return list(map(str, json.loads(storage.read(path))["splits"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"{path}: not the list of splits that save_to_disk writes") from None


def is_saved(folder: str) -> bool:
    """Whether ``save_to_disk`` wrote ``folder``."""
    return is_saved_dataset(folder) or storage.size(storage.join(folder, SAVED_SPLITS)) is not None


def is_saved_dataset(folder: str) -> bool:
    """Whether ``Dataset.save_to_disk`` wrote ``folder``."""
    return all(storage.size(storage.join(folder, name)) is not None for name in SAVED_DATASET)


@lru_cache(maxsize=64)
def load_dataset(name: str) -> Loaded:
    """The dataset that ``name`` stands for.

    Raises:
        UserError: saying what ``datasets`` found wrong, or which option does not exist or selects nothing.
    """
    import datasets

    datasets.disable_progress_bars()
    path, options = parse(name)
    is_streaming, split = SWITCH[options.get("streaming", "0").lower()], options.get("split")
    try:
        is_one, names = is_saved_dataset(path), saved_splits(path)
        if is_one or names is not None:
            _refuse_saved(name, options)
            is_streaming, splits = False, _one_saved(path) if is_one else _saved(path, names or [])
            split = split or (splits.names[0] if is_one else "train")
        else:
            if "revision" in options and os.path.isdir(path):
                raise UserError(f"{name}: {path} is a folder, which has no revision; leave it out")
            splits = _built(path, options, is_streaming=is_streaming)
        parts = _parts(name, split or "train", splits)
        found = [_rows_of(splits.load(of), start, stop) for of, start, stop in parts]
        dataset = found[0] if len(found) == 1 else datasets.concatenate_datasets(found)
        return Loaded(dataset, is_streaming, tuple(Rows(splits.files(of), start, stop) for of, start, stop in parts))
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise storage.UnreadableError(f"{name}: cannot be loaded by datasets: {reason}") from None


def version(name: str) -> int:
    """A number that changes when a file of the dataset is written again. Raises ``UserError`` as ``load_dataset``."""
    files = {file for part in load_dataset(name).rows for file in part.files}
    facts = [[file, os.stat(file).st_ctime_ns if os.path.exists(file) else 0] for file in sorted(files)]
    return as_version(json.dumps(facts).encode())


def name_of(pattern: str, split: str) -> str | None:
    """The ``hf://`` name of a dataset or of a folder that ``save_to_disk`` wrote, None if ``pattern`` is neither.

    Raises:
        UserError: such a folder holds several splits, and ``split`` does not say which.
    """
    if pattern.startswith(DATASET):
        return pattern
    folder = os.path.expanduser(pattern)
    if storage.is_uri(pattern) or not is_saved(folder):
        return None
    names = saved_splits(folder)
    if names is not None and split != "train":
        raise UserError(
            f"{pattern} holds the splits {', '.join(names)}; write which one, such as {pattern.rstrip('/')}/{names[-1]}"
        )
    return DATASET + folder


def located(name: str) -> str:
    """``name`` with an absolute path if it is a folder. Raises ``UserError`` as ``parse``."""
    path, _ = parse(name)
    _, mark, query = name.partition("?")
    return f"{DATASET}{os.path.abspath(path)}{mark}{query}" if os.path.isdir(path) else name


def parse(name: str) -> tuple[str, dict[str, str]]:
    """The path in ``name``, and its options; a ``+`` in them is a plus. Raises ``UserError`` for an unknown option."""
    path, _, query = name.removeprefix(DATASET).partition("?")
    options: dict[str, str] = {}
    for option in filter(None, query.split("&")):
        key, equals, value = option.partition("=")
        if key not in OPTIONS:
            raise UserError(f"{name}: no option {key} (there are {', '.join(OPTIONS)})")
        if key in options:
            raise UserError(f"{name}: {key} is given twice")
        if not equals:
            raise UserError(f"{name}: {key} has no value")
        if value:
            options[key] = unquote(value)
    if not path:
        raise UserError(f"{name}: names no dataset")
    if options.get("streaming", "0").lower() not in SWITCH:
        raise UserError(f"{name}: streaming is {options['streaming']}, but must be 1 or 0")
    return os.path.expanduser(path), options


def _refuse_saved(name: str, options: dict[str, str]) -> None:
    for option in ("config", "revision"):
        if option in options:
            raise UserError(f"{name}: a dataset that save_to_disk wrote has no {option}; leave it out")


def _one_saved(path: str) -> Splits:
    """A saved dataset: its only split has the name under which it was saved, or train if it had none."""
    import datasets

    found = _unformatted(datasets.load_from_disk(path))
    # a part of a split, such as train[:90%], is saved under that name
    split = re.sub(r"\[.*?\](\(.*?\))?", "", str(found.split or "train"))
    return Splits((split,), lambda _: found, lambda _: _files(found, path), lambda _: len(found))


def _saved(path: str, names: Sequence[str]) -> Splits:
    """A saved dictionary of splits, each loaded only if it is asked for."""
    import datasets

    @cache
    def load(split: str) -> Any:
        return _unformatted(datasets.load_from_disk(storage.join(path, split)))

    return Splits(
        tuple(names), load, lambda split: _files(load(split), storage.join(path, split)), lambda split: len(load(split))
    )


def _unformatted(dataset: Any) -> Any:
    """``dataset`` with plain values in all columns, whatever format was set when it was saved."""
    return dataset.with_format(None)


def _files(dataset: Any, folder: str) -> tuple[str, ...]:
    """The files of a saved dataset; its folder if it is held in memory."""
    return tuple(os.path.realpath(file["filename"]) for file in dataset.cache_files) or (os.path.realpath(folder),)


def _built(path: str, options: dict[str, str], *, is_streaming: bool) -> Splits:
    """A dataset of the hub, or of a folder of data files."""
    import datasets

    builder = datasets.load_dataset_builder(path, options.get("config"), revision=options.get("revision"))

    def files(split: str) -> tuple[str, ...]:
        found = (builder.config.data_files or {}).get(split)
        if not found:
            return (f"{DATASET}{path}?config={builder.config.name}&hash={builder.hash}&split={split}",)
        return tuple(file if "://" in file else os.path.realpath(file) for file in map(str, found))

    if is_streaming:
        streams = builder.as_streaming_dataset()
        return Splits(tuple(streams), streams.__getitem__, files, lambda _: math.inf)
    builder.download_and_prepare()
    infos = builder.info.splits
    return Splits(
        tuple(infos), lambda split: builder.as_dataset(split=split), files, lambda split: int(infos[split].num_examples)
    )


def _parts(name: str, wanted: str, splits: Splits) -> list[tuple[str, int, float]]:
    """(split, first row, row after the last) of each part of a union.

    Raises:
        UserError: a split that does not exist, a slice that is invalid or empty, or a slice of a streamed dataset.
    """
    import datasets

    there = f"there {'is' if len(splits.names) == 1 else 'are'} {', '.join(splits.names)}"
    if wanted in splits.names:
        return [(wanted, 0, splits.num_rows(wanted))]
    if wanted == "all":
        return [(split, 0, splits.num_rows(split)) for split in splits.names]
    found: list[tuple[str, int, float]] = []
    for part in re.split(r"\s*\+\s*", wanted):
        split = re.split(r"[\[(]", part)[0]
        if split not in splits.names:
            raise UserError(f"{name}: there is no split {split!r} ({there})")
        length = splits.num_rows(split)
        if part == split:
            found.append((split, 0, length))
            continue
        if math.isinf(length):
            raise UserError(
                f"{name}: a slice of a streamed dataset cannot be taken; leave out {part.removeprefix(split)} or "
                f"streaming=1 ({there})"
            )
        try:
            (rows,) = datasets.ReadInstruction.from_spec(part).to_absolute({split: int(length)})
        except ValueError as error:
            raise UserError(f"{name}: {part} is not a slice of a split: {error}") from None
        if rows.from_ >= rows.to:
            raise UserError(f"{name}: {part} has no rows ({split} has {length:,})")
        found.append((split, rows.from_, rows.to))
    return found


def _rows_of(dataset: Any, start: int, stop: float) -> Any:
    is_part = not math.isinf(stop) and (start, stop) != (0, len(dataset))
    return dataset.select(range(start, int(stop))) if is_part else dataset
