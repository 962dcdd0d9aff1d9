"""The state of every layer after each token of a text, read one token at a time.

Letters: N tokens, U units.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.data.streams import NO_RESETS, ResetRule
from pipeline.data.tokenizer import Ids, Tokenizer
from pipeline.data.windows import Tokens
from pipeline.errors import UserError
from pipeline.files import new_file
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel

Numbers = np.ndarray[Any, np.dtype[np.float32]]

# the parts of the state, for cells that have more than h
PARTS = {"lstm": ("h", "c"), "qrnn": ("c", "x"), "slstm": ("h", "a", "l")}
ROWS_AT_ONCE = 4096
HUGE = 1e6


@dataclass(frozen=True)
class Unit:
    """One number of the state, in part ``part`` of layer ``layer``; ``index`` and layers count from 0."""

    layer: int
    part: str
    index: int

    def __str__(self) -> str:
        return f"{self.layer}.{self.part}.{self.index}"


@dataclass(frozen=True)
class States:
    """The N tokens that a model has read, and all of its units after each.

    ``values`` holds (N, size) by layer and part; ``nats`` are those of each token before it was read, nan if nothing
    precedes it; ``pieces`` is the text of each token.
    """

    ids: Ids  # (N,)
    pieces: list[str]
    nats: Numbers  # (N,)
    values: dict[tuple[int, str], Numbers]
    documents: Ids  # where documents begin among the N

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def units(self) -> list[Unit]:
        """Return all units, in the order of the columns of ``matrix``."""
        return [Unit(*key, index) for key, values in self.values.items() for index in range(values.shape[1])]

    def matrix(self) -> Numbers:
        """Return (N, U) of all units; if the model has overflowed, infinities become large numbers."""
        return np.nan_to_num(np.concatenate(list(self.values.values()), axis=1), posinf=HUGE, neginf=-HUGE)

    def of(self, unit: Unit) -> Numbers:
        """Return (N,) of one unit."""
        return self.values[unit.layer, unit.part][:, unit.index]

    def write(self, path: str, *, argument: str = "states") -> None:
        """Write a Parquet file: position, token, text, nats, and a list of float32 for each layer and part.

        Raises:
            UnwritableError: it cannot be written; an earlier one is kept.
        """
        lists = {f"layer{layer}_{part}": values for (layer, part), values in self.values.items()}
        columns: dict[str, Any] = {
            "position": pa.array(np.arange(len(self)), type=pa.int64()),
            "token": pa.array(self.ids.astype(np.int64), type=pa.int64()),
            "text": pa.array(self.pieces, type=pa.string()),
            "nats": pa.array(self.nats, type=pa.float32(), from_pandas=True),
            **{
                name: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
                for name, values in lists.items()
            },
        }
        with new_file(path, argument=argument) as temporary:
            pq.write_table(pa.table(columns), temporary, row_group_size=ROWS_AT_ONCE)


def part_names(model: LanguageModel, cell: str) -> tuple[str, ...]:
    """Return the names of the parts of the state."""
    recurrence: Any = model.recurrence
    return PARTS.get(cell) or ("h", *(f"s{index}" for index in range(1, len(recurrence.state_sizes[0]))))


def sizes_of(model: LanguageModel, cell: str) -> dict[tuple[int, str], int]:
    """Return how many units each part of each layer's state has, by layer and name of the part."""
    names, recurrence = part_names(model, cell), cast(Any, model.recurrence)
    return {
        (layer, name): size
        for layer, sizes in enumerate(recurrence.state_sizes)
        for name, size in zip(names, sizes, strict=True)
        if size
    }


def unit_named(name: str, sizes: dict[tuple[int, str], int]) -> Unit:
    """Return the unit that ``name`` stands for, such as ``1.c.17``. Raises ``UserError`` if there is none."""
    found = re.fullmatch(r"([0-9]{1,6})\.(\w+)\.([0-9]{1,9})", name)
    if found is not None and int(found[3]) < sizes.get((int(found[1]), found[2]), 0):
        return Unit(int(found[1]), found[2], int(found[3]))
    there = ", ".join(f"{layer}.{part}.0 to {layer}.{part}.{size - 1}" for (layer, part), size in sizes.items())
    raise UserError(f"{name}: no such unit; there are {there}", argument="unit")


def read_states(
    model: LanguageModel,
    tokenizer: Tokenizer,
    tokens: Tokens,
    *,
    cell: str,
    number: int,
    begin_id: int | None = None,
    reset: ResetRule = NO_RESETS,
    on_tokens: Callable[[int], None] = lambda number: None,
) -> States:
    """Read the first ``number`` tokens of a text from a zero state, and keep the state after each.

    Args:
        begin_id: read before each document, which then begins from a zero state.
        reset: where the state is made zero as in training; the first token read then is still predicted from what
            precedes it in the stream.
        on_tokens: called with the number of tokens just read.
    """
    number = min(number, len(tokens))
    ids = np.asarray(tokens[0:number]).astype(np.int64)
    documents = tokens.document_starts(0, number)
    begins = set(documents.tolist()) if reset.at_documents or begin_id is not None else set()
    if reset.every_tokens is not None:
        begins |= set(range(0, number, reset.every_tokens))
    sizes, names = sizes_of(model, cell), part_names(model, cell)
    values = {key: np.empty((number, size), np.float32) for key, size in sizes.items()}
    nats = np.full(number, np.nan, dtype=np.float32)
    state, hidden = model.initial_state(1), None
    inputs = torch.from_numpy(ids).to(model.device).view(-1, 1, 1)
    with evaluating(model):
        for place in range(number):
            if place in begins or (place == 0 and begin_id is not None):
                state = model.initial_state(1)
                if begin_id is not None:
                    hidden, state = model(torch.full_like(inputs[0], begin_id), state)
            if hidden is not None:
                nats[place] = float(model.head.token_nats(hidden, inputs[place]))
            hidden, state = model(inputs[place], state)
            for (layer, part), size in sizes.items():
                values[layer, part][place] = state[names.index(part)][layer, 0, :size].float().cpu().numpy()
            on_tokens(1)
    return States(ids, list(pieces_of(tokenizer, ids)), nats, values, documents)


def pieces_of(tokenizer: Tokenizer, ids: Ids) -> Iterator[str]:
    """Yield the text of each token; a character that consists of several tokens comes with the last of them.

    Words are followed by a space; an ``<eos>`` of lines is one line end, and an ``<eos>`` of documents is two.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in ids.tolist():
        if token == tokenizer.eos_id:  # it ends an unfinished character
            yield decoder.decode(b"", final=True) + ("\n" if tokenizer.eos == "line" else "\n\n")
        elif tokenizer.kind == "word":
            yield tokenizer.decode_bytes(token).decode(errors="replace") + " "
        else:
            yield decoder.decode(tokenizer.decode_bytes(token))
