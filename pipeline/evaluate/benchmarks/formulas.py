"""The formulas of SyntaxGym: what a suite predicts about the surprisals of its regions.

    formula := side (('&' | '|') side)*          both or either, from left to right
    side    := sum [('<' | '>' | '=') sum]
    sum     := value (('+' | '-') value)*
    value   := '(' number ';%' condition '%)'    the surprisal of a region; '*' in place of its number: of all regions
             | number | '(' formula ')' | '[' formula ']'

A formula is parsed here, never evaluated as code. ``=`` treats surprisals as equal within SyntaxGym's tolerance:
0.001 bits plus 0.00001 of the second one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

ABSOLUTE, RELATIVE = 1e-3, 1e-5
EVERY = "*"
MOST_NESTED = 50
TOKEN = re.compile(
    r"\s*(?:(?P<region>\(\s*(?P<number>\d+|\*)\s*;\s*%(?P<condition>[^%]*)%\s*\))|(?P<value>\d+(?:\.\d+)?)|(?P<sign>[-+<>=&|()\[\]]))"
)
CLOSING = {"(": ")", "[": "]"}

Place = tuple[str, str]  # condition, number of the region
Bits = Mapping[Place, float]


class FormulaError(ValueError):
    """A fault in a formula, as half a sentence."""


@dataclass(frozen=True)
class Part:
    """A part of a formula: its value as a function of the bits of regions, and whether that is a truth value."""

    of: Callable[[Bits], float]
    is_statement: bool


@dataclass(frozen=True)
class Formula:
    text: str
    holds: Callable[[Bits], bool]
    places: frozenset[Place]  # of the regions that it names
    asks_for_equality: bool


def parse(text: str) -> Formula:
    """Parse ``text``. Raises ``FormulaError`` if it is not a formula."""
    return _Parser(text).formula()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[re.Match[str]] = []
        end = 0
        while text[end:].strip():
            found = TOKEN.match(text, end)
            if found is None:
                raise FormulaError(f"cannot be read from {text[end:].strip()[:20]!r} onwards")
            self.tokens.append(found)
            end = found.end()
        self.at = self.depth = 0
        self.places: set[Place] = set()

    def formula(self) -> Formula:
        part = self._statements()
        if self.at < len(self.tokens):
            raise FormulaError(f"has {self._next()} where it should end")
        if not part.is_statement:
            raise FormulaError("compares nothing: it is a number, neither true nor false")
        return Formula(self.text, lambda bits: bool(part.of(bits)), frozenset(self.places), "=" in self._signs())

    def _signs(self) -> list[str]:
        return [token["sign"] for token in self.tokens]

    def _next(self) -> str:
        return repr(self.tokens[self.at][0].strip()) if self.at < len(self.tokens) else "its end"

    def _sign(self, signs: str) -> str:
        """Consume and return the next token if it is one of ``signs``; else return an empty string."""
        found = self.tokens[self.at]["sign"] if self.at < len(self.tokens) else None
        if found is None or found not in signs:
            return ""
        self.at += 1
        return found

    def _statements(self) -> Part:
        left = self._comparison()
        while sign := self._sign("&|"):
            left = _both(left, self._comparison()) if sign == "&" else _either(left, self._comparison())
        return left

    def _comparison(self) -> Part:
        left = self._sum()
        if not (sign := self._sign("<>=")):
            return left
        right = self._sum()
        _expect(left, right, is_statement=False, sign=sign)
        return Part(lambda bits: COMPARE[sign](left.of(bits), right.of(bits)), is_statement=True)

    def _sum(self) -> Part:
        left = self._value()
        while sign := self._sign("+-"):
            left = _sum(left, self._value(), sign)
        return left

    def _value(self) -> Part:
        if self.at == len(self.tokens):
            raise FormulaError("ends where a region or a number should be")
        token = self.tokens[self.at]
        if token["region"]:
            self.at += 1
            place = (token["condition"], token["number"])
            self.places.add(place)
            return Part(lambda bits: bits[place], is_statement=False)
        if token["value"]:
            self.at += 1
            value = float(token["value"])
            return Part(lambda bits: value, is_statement=False)
        return self._within_brackets()

    def _within_brackets(self) -> Part:
        opening = self._sign("([")
        if not opening:
            raise FormulaError(f"has {self._next()} where a region or a number should be")
        self.depth += 1
        if self.depth > MOST_NESTED:
            raise FormulaError(f"has more than {MOST_NESTED} brackets nested in each other")
        part = self._statements()
        self.depth -= 1
        if not self._sign(CLOSING[opening]):
            raise FormulaError(f"has {self._next()} where {CLOSING[opening]!r} should be")
        return part


COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
    "=": lambda left, right: math.isclose(left, right, rel_tol=0, abs_tol=ABSOLUTE + RELATIVE * abs(right)),
}


def _both(left: Part, right: Part) -> Part:
    _expect(left, right, is_statement=True, sign="&")
    return Part(lambda bits: bool(left.of(bits) and right.of(bits)), is_statement=True)


def _either(left: Part, right: Part) -> Part:
    _expect(left, right, is_statement=True, sign="|")
    return Part(lambda bits: bool(left.of(bits) or right.of(bits)), is_statement=True)


def _sum(left: Part, right: Part, sign: str) -> Part:
    _expect(left, right, is_statement=False, sign=sign)
    if sign == "+":
        return Part(lambda bits: left.of(bits) + right.of(bits), is_statement=False)
    return Part(lambda bits: left.of(bits) - right.of(bits), is_statement=False)


def _expect(left: Part, right: Part, *, is_statement: bool, sign: str) -> None:
    if left.is_statement != is_statement or right.is_statement != is_statement:
        what = "statements" if is_statement else "numbers"
        raise FormulaError(f"has {sign!r} whose two sides are not both {what}")
