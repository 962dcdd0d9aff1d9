"""A teacher reads a whole split, and what it says of every token is stored, one file after another.

Each file holds consecutive tokens, which are read in streams of their own, each after some of the tokens before it. So
a file depends on nothing but its place, and an interrupted job continues at the first missing file. A teacher trained
on documents one by one reads them one by one here too. Letters: T time, B streams, V vocabulary, k types.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config import Config
from pipeline.data.document_pools import begin_of_documents, document_starts
from pipeline.data.scoring import ScoringDocuments, ScoringStreams
from pipeline.data.shards import PreparedCorpus
from pipeline.data.streams import ResetRule
from pipeline.data.tokenizer import Ids
from pipeline.data.windows import IGNORED, HeldOutData, Tokens
from pipeline.errors import UserError
from pipeline.files import telling_of_writes
from pipeline.scoring import ids_of
from pipeline.training.teaching.models import TeacherModel
from pipeline.training.teaching.stored import (
    MANIFEST,
    Entry,
    Origin,
    Rows,
    StoredLogits,
    file_name,
    finished,
    is_of_another,
    read_manifest,
    write_manifest,
    write_rows,
)


class Part:
    """Tokens ``start`` to ``stop`` of a sequence as a sequence of their own (see ``Tokens``)."""

    def __init__(self, tokens: Tokens, start: int, stop: int) -> None:
        self.tokens, self.start, self.stop = tokens, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, where: slice) -> Ids:
        start, stop, _ = where.indices(len(self))
        return self.tokens[self.start + start : self.start + stop]

    def rows(self, starts: Ids, length: int) -> Ids:
        return self.tokens.rows(np.asarray(starts) + self.start, length)

    def document_starts(self, start: int, stop: int) -> Ids:
        return self.tokens.document_starts(self.start + start, self.start + stop) - self.start


def origin_of(
    config: Config | None,
    corpus: PreparedCorpus,
    *,
    teacher: str,
    top_k: int,
    temperatures: Sequence[float],
    split: str,
    streams: int,
    burn_in: int,
) -> Origin:
    """What is to be stored; ``config`` is that of the teacher's run, which says how it reads a text (None: streams)."""
    reset = ResetRule() if config is None else ResetRule.of(config.train)
    return Origin(
        teacher=teacher,
        tokenizer=corpus.tokenizer.fingerprint,
        corpus=corpus.fingerprint,
        vocab_size=corpus.vocab_size,
        num_tokens=len(corpus.splits[split]),
        split=split,
        top_k=top_k,
        temperatures=sorted(temperatures),
        layout="streams" if config is None else config.data.layout,
        reset=[reset.at_documents, reset.every_tokens],
        streams=streams,
        window_tokens=64 if config is None else config.train.bptt,
        burn_in=burn_in,
    )


def store(
    folder: Path,
    origin: Origin,
    corpus: PreparedCorpus,
    load: Callable[[], TeacherModel],
    *,
    path: str,
    on_tokens: Callable[[int], None] = lambda number: None,
    on_kept: Callable[[int], None] = lambda number: None,
) -> StoredLogits:
    """Write all files that are missing, the manifest last; returns the logits, opened.

    Args:
        load: returns the teacher; called only if it is needed.
        path: where the teacher is, for people.
        on_tokens, on_kept: called with the number of tokens of each file that is done, or was before.

    Raises:
        UserError: the folder holds something else.
        UnwritableError: it cannot be written; what is done is kept.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        check_same(folder, manifest["origin"], origin)
        return StoredLogits(folder)
    if os.path.isdir(folder):
        check_unfinished(folder, origin)
    with telling_of_writes(folder, argument="to"):
        folder.mkdir(parents=True, exist_ok=True)
    tokens = corpus.splits[origin.split]
    bounds = bounds_of(tokens, origin)
    entries: list[Entry] = []
    model: TeacherModel | None = None
    for number, (start, stop) in enumerate(pairwise(bounds)):
        name = file_name(origin.split, number)
        entry, told = finished(folder, name, origin, start, stop), on_kept
        if entry is None:
            told = on_tokens
            model = model or load()
            rows = rows_of(model, tokens, origin, start, stop, begin_id=_begin_id(corpus, origin))
            entry = write_rows(folder, name, origin, start, rows)
        entries.append(entry)
        told(stop - start)
    write_manifest(folder, origin, entries, teacher=path)
    return StoredLogits(folder)


def check_same(folder: Path, theirs: Mapping[str, Any], origin: Origin) -> None:
    """Raise ``UserError`` naming the first value in which ``theirs``, of ``folder``, differs from ``origin``."""
    for name, value in asdict(origin).items():
        if (found := theirs.get(name)) != value:
            which = f"of another {name}" if name in ("teacher", "tokenizer", "corpus") else f"with {name} {found}"
            raise UserError(f"{folder} holds stored logits {which}; name another folder", argument="to")


def check_unfinished(folder: Path, origin: Origin) -> None:
    """Raise ``UserError`` if ``folder`` holds other files, or files that a different job left unfinished."""
    names = sorted(item.name for item in folder.iterdir())
    if not all(_is_own(name, origin.split) for name in names):
        raise UserError(f"{folder} holds something other than stored logits; name another folder", argument="to")
    for name in names:
        if name.endswith(".json") and is_of_another(folder / name, origin):
            raise UserError(
                f"{folder} holds unfinished stored logits of another teacher or corpus, or with other options; name "
                "another folder, or remove this one",
                argument="to",
            )


def _is_own(name: str, split: str) -> bool:
    return name.startswith((f"{split}-", ".")) or name == MANIFEST


def _begin_id(corpus: PreparedCorpus, origin: Origin) -> int | None:
    return begin_of_documents(corpus.tokenizer) if origin.layout == "documents" else None


def bounds_of(tokens: Tokens, origin: Origin) -> list[int]:
    """Where files begin, and the end: as many rows each as planned, at a document's start if read one by one."""
    bounds = np.arange(0, origin.num_tokens, origin.rows_of_a_file)
    if origin.layout == "documents":
        starts = document_starts(tokens)
        bounds = np.unique(starts[np.searchsorted(starts, bounds, side="right") - 1])
    return [*bounds.tolist(), origin.num_tokens]


def rows_of(
    model: TeacherModel, tokens: Tokens, origin: Origin, start: int, stop: int, *, begin_id: int | None
) -> Rows:
    """What ``model`` says of tokens ``start`` to ``stop``; zeros for the first token of a split read in streams."""
    data, base = part_to_read(tokens, origin, start, stop, begin_id)
    normalizers = np.zeros((stop - start, len(origin.temperatures)), np.float32)
    types = np.zeros((stop - start, origin.top_k), origin.type_dtype)
    log_p = np.zeros((stop - start, origin.top_k), np.float16)
    for places, found in _read(model, data, base, origin):
        own = (places >= start) & (places < stop)
        index = places[own] - start
        normalizers[index], types[index], log_p[index] = (part[own] for part in found)
    return normalizers, types, log_p


def part_to_read(
    tokens: Tokens, origin: Origin, start: int, stop: int, begin_id: int | None
) -> tuple[HeldOutData, int]:
    """What is read for tokens ``start`` to ``stop``, and where it begins in the split."""
    if begin_id is not None:
        part = Part(tokens, start, stop)
        return (
            ScoringDocuments(part, num_rows=origin.streams, window_length=origin.window_tokens, begin_id=begin_id),
            start,
        )
    first = max(0, start - 1 - origin.burn_in)
    at_documents, every_tokens = origin.reset
    streams = ScoringStreams(
        Part(tokens, first, stop),
        num_streams=origin.streams,
        bptt=origin.window_tokens,
        reset=ResetRule(at_documents, every_tokens),
        burn_in=origin.burn_in,
    )
    return streams, first


def _read(model: TeacherModel, data: HeldOutData, base: int, origin: Origin) -> Iterator[tuple[Ids, tuple[Ids, ...]]]:
    """Yield (n,) places in the split, and for each its normalizers, types and ln p."""
    state: Any = None
    device = torch.device("cpu")
    for window in data.windows():
        if state is None or window.begins:
            state = model.initial_state(window.inputs.shape[1])
            device = state[0].device
        inputs, _ = ids_of(window, device)
        hidden, state = model.read(inputs, state, window.resets)
        if window.position < 0:
            continue
        assert window.first is not None
        places = (window.first + np.arange(len(window.inputs))[:, None]).reshape(-1) + base  # (T·B,)
        counts = (window.targets != IGNORED).reshape(-1)
        parts = [_of_chunk(logits, origin) for logits in model.chunks(hidden)]
        found = (torch.cat(column).cpu().numpy()[counts] for column in zip(*parts, strict=True))
        yield places[counts], tuple(found)


def _of_chunk(logits: Tensor, origin: Origin) -> tuple[Tensor, Tensor, Tensor]:
    """(n, V) → normalizers (n, temperatures), the (n, k) likeliest types, their ln p."""
    log_p = logits.log_softmax(-1)
    normalizers = torch.stack([(log_p / temperature).logsumexp(-1) for temperature in origin.temperatures], dim=-1)
    values, types = log_p.topk(origin.top_k, dim=-1)
    return normalizers.float(), types, values.float()
