"""A SyntaxGym suite worked by hand, from a table of probabilities to its figure."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.evaluate.benchmarks import Scorer
from pipeline.evaluate.benchmarks.syntaxgym import SyntaxGym, read_suite
from pipeline.evaluate.words import Row
from tests.benchmark_samples import AGREEMENT_SUITE, suite

# bits of each word after the word before it, all that this model looks at: so the nearest noun misleads it
BITS = {
    "the": 1, "the cat": 2, "the dogs": 3, "cat by": 2, "dogs by": 2, "by the": 1,
    "dogs sits": 5, "dogs sit": 2, "cat sits": 2, "cat sit": 5,
}  # fmt: skip


class BigramScorer(Scorer):
    """A scorer whose model is ``BITS``."""

    def __init__(self) -> None:
        self.num_words = self.num_unknown = 0

    def words(self, parts: Sequence[Sequence[str]]) -> list[list[Sequence[Row]]]:
        return [list(self._regions(text)) for text in parts]

    def _regions(self, text: Sequence[str]) -> list[list[Row]]:
        before, found = "", []
        for part in text:
            rows = []
            for word in part.split():
                rows.append(Row("word", word.encode(), 0, 0, BITS[f"{before} {word}".strip()] * math.log(2)))
                before = word
            found.append(rows)
        return found

    def outcome(self, figures):  # type: ignore[no-untyped-def]
        return figures


def test_a_suite_by_hand(tmp_path: Path) -> None:
    """In "the cat by the dogs sits", region 3, the verb, has 5 bits, in "… sit" 2: the prediction 5 < 2 does not hold.

    In "the dogs by the cat sit" it has 5, in "… sits" 2: wrong again, because the model sees only the nearest noun.
    """
    (tmp_path / "agreement.json").write_text(json.dumps(AGREEMENT_SUITE))
    figures = SyntaxGym.read(tmp_path).score(BigramScorer())
    assert [(figure.group, figure.value, figure.items) for figure in figures] == [("all", 0, 2), ("agreement", 0, 2)]


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        # the regions of "the cat by the dogs sits" have 1 + 2, 2 + 1 + 3 and 5 bits, or 14; with "sit" 3 + 6 + 2 = 11
        ("(1;%match%) = 3", 0.5),  # "the dogs" has 1 + 3 = 4
        ("(2;%match%) = 6", 0.5),  # "by the cat" has 2 + 1 + 2 = 5
        ("(3;%match%) = 5", 1),
        ("(*;%match%) = 14", 1),  # the second item too: 4 + 5 + 5
        ("(*;%match%) - (*;%mismatch%) = (3;%match%) - (3;%mismatch%)", 1),
        ("[(3;%match%) > (3;%mismatch%)] & [(1;%match%) = (1;%mismatch%)]", 1),
        ("[(3;%match%) < (3;%mismatch%)] | [(1;%match%) > 3]", 0.5),
    ],
)
def test_predictions_by_hand(tmp_path: Path, formula: str, value: float) -> None:
    (tmp_path / "agreement.json").write_text(
        json.dumps({**AGREEMENT_SUITE, "predictions": [{"type": "formula", "formula": formula}]})
    )
    found = SyntaxGym.read(tmp_path).score(BigramScorer())
    assert found[0].value == value  # type: ignore[index]


def test_equality_counts_only_if_nothing_else_is_predicted(tmp_path: Path) -> None:
    both = ["(3;%match%) > (3;%mismatch%)", "(1;%match%) = 99"]
    for formulas, value in ((both, 1), (both[1:], 0)):
        predictions = [{"type": "formula", "formula": formula} for formula in formulas]
        (tmp_path / "agreement.json").write_text(json.dumps({**AGREEMENT_SUITE, "predictions": predictions}))
        assert SyntaxGym.read(tmp_path).score(BigramScorer())[0].value == value  # type: ignore[index]


GOOD = {"good": ["the cat", "sat"], "bad": ["the", "mat"]}
BAD = {
    "no JSON": ("{", "is not JSON"),
    "a list": ("[]", "is not a SyntaxGym suite"),
    "no metric": ({"meta": {}}, "(meta) has no field 'metric' that is a text"),
    "a mean": ({"meta": {"metric": "mean"}}, "takes the mean of a region's surprisals; only their sum is known"),
    "no items": (suite(["1 < 2"], [GOOD]) | {"items": []}, "has no items"),
    "no predictions": (suite([], [GOOD]), "has no predictions"),
    "no formula": (suite(["(2;%good%) <"], [GOOD]), "prediction 1 ends where a region or a number should be"),
    "an unknown region": (
        suite(["(3;%good%) < (2;%bad%)"], [GOOD]), "prediction 1 names region 3 of condition 'good', which item 1 does"
    ),
    "an unknown condition": (
        suite(["(2;%good%) < (2;%worse%)"], [GOOD]), "names region 2 of condition 'worse', which item 1 does not have"
    ),
    "no words": (suite(["1 < 2"], [{"good": ["", " "]}]), "item 1 condition 'good' has no words"),
    "a number for a text": (
        suite(["1 < 2"], [{"good": [3]}]), "condition 'good' region 1 has no field 'content' that is a text"  # type: ignore[list-item]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_faulty_suite_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    content, sentence = BAD[name]
    path = tmp_path / "suite.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError) as caught:
        read_suite(path)
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
