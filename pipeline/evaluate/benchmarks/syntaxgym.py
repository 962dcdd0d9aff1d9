"""SyntaxGym: suites of sentences in regions, and predictions of the regions' surprisals (Gauthier et al. 2020, ACL).

A suite is a JSON file: items, each in several conditions, whose sentences are the contents of their regions joined by
blanks. An item is right if all predictions of its suite hold for the sums over its regions, in bits. Predictions that
surprisals are equal count only if the suite has no others, since no model would satisfy them; the published figures
leave them out as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pipeline.data.utf8 import is_text, parse_json, read_file
from pipeline.errors import UserError
from pipeline.evaluate.benchmarks.base import Benchmark, Judged, Outcome, Scorer, figures_of, subfolder
from pipeline.evaluate.benchmarks.formulas import EVERY, Formula, FormulaError, Place, parse


@dataclass(frozen=True)
class Sentence:
    """One condition of an item: numbers and contents of its regions."""

    condition: str
    regions: list[tuple[str, str]]


@dataclass(frozen=True)
class Suite:
    name: str
    formulas: list[Formula]
    items: list[list[Sentence]]


class SyntaxGym(Benchmark):
    name: ClassVar[str] = "syntaxgym"
    title: ClassVar[str] = "SyntaxGym"
    source: ClassVar[str] = "Hu et al. 2020"

    def __init__(self, suites: list[Suite]) -> None:
        self.suites = suites

    @classmethod
    def read(cls, folder: Path) -> Self:
        folder = subfolder(folder, "test_suites/json", "json")
        paths = sorted(folder.glob("*.json"))
        if not paths:
            raise UserError(f"{cls.name}={folder}: there is no suite (*.json) in this folder", argument="benchmark")
        return cls([read_suite(path) for path in paths])

    @property
    def num_texts(self) -> int:
        return sum(len(item) for suite in self.suites for item in suite.items)

    def score(self, scorer: Scorer) -> Outcome:
        sentences = [sentence for suite in self.suites for item in suite.items for sentence in item]
        found = iter(scorer.words([[content for _, content in sentence.regions] for sentence in sentences]))
        judged = []
        for suite in self.suites:
            for item in suite.items:
                bits: dict[Place, float] = {}
                for sentence in item:
                    parts = [sum(row.nats for row in rows) / math.log(2) for rows in next(found)]
                    bits[sentence.condition, EVERY] = sum(parts)
                    for (number, _), part in zip(sentence.regions, parts, strict=True):
                        bits[sentence.condition, number] = part
                judged.append((suite.name, suite.name, judge(suite.formulas, bits)))
        return scorer.outcome(figures_of(judged))


def judge(formulas: list[Formula], bits: dict[Place, float]) -> Judged:
    """Judge whether all of ``formulas`` hold; those that ask for equality count only if there are no others."""
    counted = [formula for formula in formulas if not formula.asks_for_equality] or formulas
    return Judged(all(formula.holds(bits) for formula in counted))


def read_suite(path: Path) -> Suite:
    """Read a suite. Raises ``UserError`` naming the item or prediction that is faulty."""
    try:
        values = parse_json(read_file(str(path)))
    except ValueError as error:
        raise error if isinstance(error, UserError) else UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a SyntaxGym suite")
    metric = _of(values.get("meta", {}), "metric", str, f"{path} (meta)")
    if metric != "sum":
        raise UserError(f"{path} takes the {metric} of a region's surprisals; only their sum is known")
    items = [_item(item, f"{path} item {i}") for i, item in enumerate(_of(values, "items", list, path), start=1)]
    formulas = []
    for i, prediction in enumerate(_of(values, "predictions", list, path), start=1):
        text = _of(prediction, "formula", str, f"{path} prediction {i}")
        try:
            formulas.append(parse(text))
        except FormulaError as error:
            raise UserError(f"{path}: prediction {i} {error}: {text}") from None
    if not items or not formulas:
        raise UserError(f"{path} has no {'predictions' if items else 'items'}")
    _check_places(path, formulas, items)
    return Suite(path.stem, formulas, items)


def _check_places(path: Path, formulas: list[Formula], items: list[list[Sentence]]) -> None:
    """Raise ``UserError`` if a formula names a region that an item does not have."""
    for i, item in enumerate(items, start=1):
        known = {(s.condition, number) for s in item for number in (EVERY, *(number for number, _ in s.regions))}
        for j, formula in enumerate(formulas, start=1):
            for condition, number in sorted(formula.places - known):
                raise UserError(
                    f"{path}: prediction {j} names region {number} of condition {condition!r}, which item {i} does not "
                    f"have: {formula.text}"
                )


def _item(item: object, where: str) -> list[Sentence]:
    sentences = []
    for condition in _of(item, "conditions", list, where):
        name = _of(condition, "condition_name", str, where)
        regions: dict[str, str] = {}
        for region in _of(condition, "regions", list, f"{where} condition {name!r}"):
            number = str(_of(region, "region_number", int, f"{where} condition {name!r}"))
            content = _of(region, "content", str, f"{where} condition {name!r} region {number}")
            if number in regions or not is_text(content):
                raise UserError(f"{where} condition {name!r} has region {number} twice, or half of a character in it")
            regions[number] = content
        if not any(content.strip() for content in regions.values()):
            raise UserError(f"{where} condition {name!r} has no words")
        sentences.append(Sentence(name, list(regions.items())))
    if len({sentence.condition for sentence in sentences}) < max(1, len(sentences)):
        raise UserError(f"{where} has no conditions, or one of them twice")
    return sentences


def _of(values: object, name: str, kind: type, where: object) -> Any:
    """Return a field of an object. Raises ``UserError`` saying ``where`` it is missing or of another kind."""
    found = values.get(name) if isinstance(values, dict) else None
    if not isinstance(found, kind) or isinstance(found, bool):
        kinds = {str: "a text", int: "a whole number", list: "a list"}
        raise UserError(f"{where} has no field {name!r} that is {kinds[kind]}")
    return found
