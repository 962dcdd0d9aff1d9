"""Minimal pairs: which of two sentences the model finds likelier (Linzen et al. 2016; Warstadt et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.data.tokenizer import Tokenizer, UnknownTextError
from pipeline.data.utf8 import is_text, parse_json, read_file
from pipeline.errors import UserError


@dataclass(frozen=True)
class Pair:
    good: str
    bad: str
    group: str = ""


@dataclass(frozen=True)
class Accuracy:
    """How many pairs of a group are right: the good sentence is likelier; a tie is not right."""

    group: str
    pairs: int
    right: int
    equal: int

    @property
    def share(self) -> float:
        return self.right / self.pairs


def read_pairs(path: str, tokenizer: Tokenizer) -> list[Pair]:
    """Read the pairs of a file, one JSON object per line. Raises ``UserError`` naming the first faulty line."""
    pairs = []
    for number, line in enumerate(read_file(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            pairs.append(_pair(line, tokenizer))
        except ValueError as error:
            raise UserError(f"{path} line {number} {error}", argument="pairs") from None
    if not pairs:
        raise UserError(f"{path} has no pairs", argument="pairs")
    return pairs


def _pair(line: str, tokenizer: Tokenizer) -> Pair:
    """Return the pair in a ``line`` of JSON. Raises ``ValueError`` with what is wrong with it, as half a sentence."""
    try:
        values = parse_json(line, unique=True)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError("is not an object with the fields good and bad")
    for field in ("good", "bad"):
        if not isinstance(values.get(field), str) or not values[field].strip():
            raise ValueError(f"has no text in its field {field!r}")
        if not is_text(values[field]):
            raise ValueError(f"has half of a character in its field {field!r}: {values[field]!r}")
        try:
            known = set(tokenizer.encode(tokenizer.normalized(values[field])).tolist()) - {
                tokenizer.unk_id,
                tokenizer.eos_id,
            }
        except UnknownTextError as error:
            raise ValueError(f"cannot be scored: {error}") from None
        if not known:
            raise ValueError(f"cannot be scored: the model knows no {tokenizer.unit} of {values[field]!r}")
    if not isinstance(values.get("group", ""), str):
        raise ValueError("has a group that is not a text")
    return Pair(values["good"], values["bad"], values.get("group", ""))


def accuracies(pairs: Sequence[Pair], good: Sequence[float], bad: Sequence[float]) -> list[Accuracy]:
    """Return accuracies by group in the order of the file, then of all, from the nats of each pair's sentences."""
    groups = list(dict.fromkeys(pair.group for pair in pairs if pair.group))
    found = []
    for group in [*groups, None]:
        rows = [i for i, pair in enumerate(pairs) if group in (pair.group, None)]
        right, equal = sum(good[i] < bad[i] for i in rows), sum(good[i] == bad[i] for i in rows)
        found.append(Accuracy("all" if group is None else group, len(rows), right, equal))
    return found
