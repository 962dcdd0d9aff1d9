"""Texts compared with true texts and with one another, against values worked by hand."""

import math
import sys

import numpy as np
import pytest

from pipeline.data.windows import ArrayTokens
from pipeline.evaluate.quality import cut_prompts, distinct, nearness, variety


def test_bleu_of_known_texts() -> None:
    same = nearness(["a b c d e", "the cat sat on it"], ["a b c d e", "the cat sat on it"])
    assert (same.bleu, same.chrf) == pytest.approx((100, 100))
    # precisions 4/5, 3/4, 2/3, 1/2, no brevity penalty
    near = nearness(["a b c d x"], ["a b c d e"])
    assert near.bleu == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert [signature.partition("|")[0] for signature in near.signatures] == ["BLEU", "chrF2"]
    assert "version:" in near.signatures[0]


def test_variety() -> None:
    assert distinct(["a b a", "a b"], 1) == 2 / 5
    assert distinct(["a b a", "a b"], 2) == 2 / 3
    assert distinct(["a"], 2) == 0
    assert variety(["a b c d e"] * 3).self_bleu == pytest.approx(100)
    # texts share no n-grams, so each precision is smoothed to half of the one before
    assert variety(["a b c d", "e f g h", "i j k l"]).self_bleu < 20
    assert math.isclose(variety(["a b", "a b"]).distinct[1], 0.5)


def test_prompts_are_spread_evenly_with_their_true_continuations() -> None:
    prompts, true = cut_prompts(ArrayTokens(np.arange(21)), number=4, prompt_tokens=2, continuation_tokens=4)
    assert prompts.tolist() == [[0, 1], [5, 6], [10, 11], [15, 16]]
    assert true.tolist() == [[2, 3, 4, 5], [7, 8, 9, 10], [12, 13, 14, 15], [17, 18, 19, 20]]
    prompts, _ = cut_prompts(ArrayTokens(np.arange(8)), number=2_000_000_000, prompt_tokens=2, continuation_tokens=4)
    assert prompts.tolist() == [[0, 1], [1, 2], [2, 3]]  # all possible ones
    with pytest.raises(ValueError, match=r"the text has 6 tokens, too few for two prompts of 2 tokens with continu"):
        cut_prompts(ArrayTokens(np.arange(6)), number=4, prompt_tokens=2, continuation_tokens=4)


def test_without_sacrebleu_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(ValueError, match=r"needs sacrebleu; install it with pip install 'recurray\[bleu\]'"):
        variety(["a", "b"])
