"""Minimal pairs: sentences scored alone, accuracy by group, and mistakes in a file of pairs."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import train_tokenizer
from pipeline.errors import UserError
from pipeline.evaluate.pairs import Pair, accuracies, read_pairs
from pipeline.evaluate.side_by_side import sentence_nats
from tests.evaluate.test_surprisal import TEXT, model_of, one_by_one


def test_sentences_scored_in_a_batch_have_the_nats_of_each_alone() -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="word"), [TEXT], num_documents=1)
    model = model_of(tokenizer)
    sentences = ["the cat sat", "the dogs ran on a mat", "a", "the cat sat"]
    found = sentence_nats(model, tokenizer, sentences)
    for sentence, nats in zip(sentences, found, strict=True):
        ids = [1, *tokenizer.encode(sentence).tolist()]
        assert ids[-1] == 1  # the end of the line is scored
        assert nats == pytest.approx(sum(one_by_one(model, ids)), rel=1e-10)


def test_accuracy_by_group() -> None:
    pairs = [Pair("a", "b", "x"), Pair("a", "b", "y"), Pair("a", "b", "x"), Pair("a", "b")]
    found = accuracies(pairs, [1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0, 5.0])
    assert [(item.group, item.pairs, item.right, item.equal) for item in found] == [
        ("x", 2, 1, 1), ("y", 1, 0, 0), ("all", 4, 2, 1),
    ]  # fmt: skip


def test_a_group_may_be_called_all() -> None:
    found = accuracies([Pair("a", "b", "all"), Pair("a", "b", "x")], [1.0, 2.0], [2.0, 1.0])
    assert [(item.group, item.pairs, item.right) for item in found] == [("all", 1, 1), ("x", 1, 0), ("all", 2, 1)]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"good": "the cat"}', "line 2 has no text in its field 'bad'"),
        ('{"good": "", "bad": "the"}', "line 2 has no text in its field 'good'"),
        ('{"good": "the", "bad": "the", "group": 3}', "line 2 has a group that is not a text"),
        ('{"good": "the", "bad": "xylophone"}', "line 2 cannot be scored: the model knows no word of 'xylophone'"),
        ('{"good": "the \\ud800", "bad": "the"}', "line 2 has half of a character in its field 'good': 'the \\ud800'"),
        ("[1]", "line 2 is not an object with the fields good and bad"),
        ("the cat", "line 2 is not JSON"),
    ],
)
def test_a_bad_pair_is_named_by_its_line(tmp_path: Path, line: str, sentence: str) -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="word"), [TEXT], num_documents=1)
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"good": "the cat", "bad": "the dogs"}) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=r"^pairs: ") as caught:
        read_pairs(str(path), tokenizer)
    assert sentence in str(caught.value)
    path.write_text("\n")
    with pytest.raises(ValueError, match="has no pairs"):
        read_pairs(str(path), tokenizer)


def test_agreement_sentences_differ_only_in_the_verb() -> None:
    lines = Path("docs/agreement.jsonl").read_text().splitlines()
    pairs = [json.loads(line) for line in lines]
    assert len({pair["good"] for pair in pairs}) == len(pairs) >= 40
    for pair in pairs:
        good, bad = pair["good"].split(), pair["bad"].split()
        assert len(good) == len(bad)
        assert sum(a != b for a, b in zip(good, bad, strict=True)) == 1


@pytest.mark.parametrize("texts", [["the cat", "the cat sat on"], ["the cat", "a dog"]])  # alike, and not
def test_a_model_without_probabilities_judges_no_pair(texts: list[str]) -> None:
    """It was wrong about each, as no comparison with nan holds."""
    tokenizer = train_tokenizer(TokenizerConfig(kind="char"), texts, num_documents=1)
    model = model_of(tokenizer)
    with torch.no_grad():
        model.head.bias[2] = torch.nan  # type: ignore[index, operator]
    with pytest.raises(UserError, match="outputs are not finite"):
        sentence_nats(model, tokenizer, texts)
