"""SyntaxGym's formulas mean the same as in its own parser; anything else is refused."""

import random

import pytest

from pipeline.evaluate.benchmarks.formulas import MOST_NESTED, FormulaError, parse

BITS = {("a", "1"): 2.0, ("a", "2"): 3.0, ("b", "1"): 4.0, ("b", "2"): 1.0, ("a", "*"): 5.0, ("no-gap_x", "1"): 2.0005}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("(1;%a%) < (2;%a%)", True),
        ("(1;%a%)>(2;%a%)", False),
        ("(1;%a%) < (1;%a%)", False),
        ("(*;%a%) = 5", True),
        ("(1;%a%) = (1;%no-gap_x%)", True),  # within 0.001 bits
        ("(1;%a%) = (2;%a%)", False),
        ("(1;%a%) + (2;%a%) > (1;%b%)", True),
        ("10 - 3 - 2 = 5", True),  # from the left
        ("10 - (3 - 2) = 9", True),
        ("[ (2;%a%) - (1;%a%) ] + [[(1;%b%)-(2;%b%)]-[(1;%a%)-(1;%a%)]] > 3.5", True),
        ("[(1;%a%) < (2;%a%)] & [(1;%a%) < (2;%b%)]", False),
        ("[(1;%a%) < (2;%a%)] | [(1;%a%) < (2;%b%)]", True),
        ("1 < 0 & 1 < 0 | 0 < 1", True),  # from the left: (no and no) or yes
        ("0 < 1 | 0 < 1 & 1 < 0", False),  # (yes or yes) and no
    ],
)
def test_known_answers(text: str, holds: bool) -> None:
    formula = parse(text)
    assert formula.holds(BITS) is holds
    assert formula.asks_for_equality is ("=" in text)
    assert formula.places <= BITS.keys()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "ends where a region or a number should be"),
        ("(1;%a%)", "compares nothing"),
        ("(1;%a%) <", "ends where"),
        ("(1;%a%) < (2;%a%) < 3", "has '<' where it should end"),
        ("(1;%a%) < (2;%a%) 3", "has '3' where it should end"),
        ("[1 < 2)", "has ')' where ']' should be"),
        ("[1 < 2", "has its end where ']' should be"),
        ("1 & 2", "has '&' whose two sides are not both statements"),
        ("(1 < 2) + 3 > 1", "has '+' whose two sides are not both numbers"),
        ("(1 < 2) < 3", "has '<' whose two sides are not both numbers"),
        ("__import__('os')", "cannot be read from \"__import__('os')\" onwards"),
        ("1 * 2 > 1", "cannot be read from '* 2 > 1' onwards"),
        ("(1;%a%) == 2", "has '=' where a region or a number should be"),
        ("(" * (MOST_NESTED + 1) + "1 < 2" + ")" * (MOST_NESTED + 1), f"has more than {MOST_NESTED} brackets"),
    ],
)
def test_a_text_that_is_not_a_formula_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert str(caught.value).startswith(sentence)


def test_any_text_is_a_formula_or_refused() -> None:
    source = random.Random(1)
    parts = ["(1;%a%)", "(*;%b%)", "1", "2.5", *"+-<>=<>=&|()[] x%;"]
    found = 0
    for _ in range(9000):
        text = "".join(source.choices(parts, k=source.randint(0, 7)))
        try:
            formula = parse(text)
        except FormulaError:
            continue
        found += 1
        assert formula.holds(dict.fromkeys(formula.places, 1.0)) in (True, False)
    assert found > 10
