"""Rows of tokens and words, and minimal pairs, against sums made by hand or one token at a time."""

import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.config import CorpusConfig, ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.evaluate import text_held_out
from pipeline.evaluate.pairs import Pair, accuracies, read_pairs, sentence_nats
from pipeline.evaluate.surprisal import Words, surprisal_rows, write_rows
from pipeline.model.language_model import LanguageModel

TEXT = "the cat sat on a mat\nthe dogs  ran\n"


def model_of(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(hidden_size=6, num_layers=1), tokenizer.vocab_size).double().eval()


def one_by_one(model: LanguageModel, ids: list[int]) -> list[float]:
    state, nats = model.initial_state(1), []
    with torch.no_grad():
        for current, following in itertools.pairwise(ids):
            hidden, state = model(torch.tensor([[current]]), state)
            nats.append(-model.head.logits(hidden)[0, 0].log_softmax(0)[following].item())
    return nats


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("word", [["the", "cat", "sat", "on", "a", "mat", "<eos>"], ["the", "dogs", "ran", "<eos>"]]),
        ("char", [["the", "cat", "sat", "on", "a", "mat", "<eos>"], ["the", "dogs", "ran", "<eos>"]]),
        ("bpe", [["the", "cat", "sat", "on", "a", "mat", "<eos>"], ["the", "dogs", "ran", "<eos>"]]),
    ],
)
def test_a_row_for_every_token_and_word(tmp_path: Path, kind: str, words: list[list[str]]) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    tokenizer = train_tokenizer(TokenizerConfig(kind=kind), [TEXT * 9], num_documents=2)  # type: ignore[arg-type]
    text = text_held_out(tokenizer, str(tmp_path / "text.txt"), CorpusConfig(train=["x"], document="line"))
    model = model_of(tokenizer)
    path = tmp_path / "rows.parquet"
    counts = write_rows(str(path), surprisal_rows(model, tokenizer, text))
    rows = pq.read_table(path).to_pylist()
    tokens = [row for row in rows if row["level"] == "token"]
    found = [row for row in rows if row["level"] == "word"]
    ids = np.concatenate([tokenizer.start_ids, text.tokens[0 : len(text.tokens)]]).tolist()
    assert [row["nats"] for row in tokens] == pytest.approx(one_by_one(model, ids), rel=1e-10)
    assert counts == {"token": len(tokens), "word": len(found)} == {"token": len(ids) - 1, "word": 11}
    assert [(row["text"], row["document"], row["position"]) for row in found] == [
        (word, document, position) for document, line in enumerate(words) for position, word in enumerate(line)
    ]
    # a word has the nats of its tokens: in each document they sum to the same
    for document in (0, 1):
        sums = [sum(row["nats"] for row in part if row["document"] == document) for part in (tokens, found)]
        assert sums[0] == pytest.approx(sums[1], rel=1e-12)
    assert list(tmp_path.glob(".writing*")) == []


def test_white_space_goes_to_the_word_after_it_and_at_the_end_to_the_one_before() -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="char", eos="none"), ["ab "], num_documents=1)
    words = Words(tokenizer)
    rows = [row for nats, c in enumerate(" a  bb ", start=1) for row in words.push(5, c.encode(), 0, nats)]
    rows += words.finish()
    assert [(row.data, row.nats) for row in rows] == [(b" a", 3), (b"  bb ", 3 + 4 + 5 + 6 + 7)]


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def failing():  # type: ignore[no-untyped-def]
        yield from ()
        raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError):
        write_rows(str(tmp_path / "rows.parquet"), failing())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"--surprisal: .*cannot be written"):
        write_rows(str(tmp_path / "nowhere" / "rows.parquet"), [])


def test_sentences_are_scored_alone_whatever_stands_beside_them() -> None:
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


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"good": "the cat"}', "line 2 has no text in its field 'bad'"),
        ('{"good": "", "bad": "the"}', "line 2 has no text in its field 'good'"),
        ('{"good": "the", "bad": "the", "group": 3}', "line 2: its group is not a text"),
        ('{"good": "the", "bad": "xylophone"}', "line 2: the model knows no word of 'xylophone'"),
        ("[1]", "line 2 is no object with the fields good and bad"),
        ("the cat", "line 2 is not JSON"),
    ],
)
def test_a_bad_pair_is_named_by_its_line(tmp_path: Path, line: str, sentence: str) -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="word"), [TEXT], num_documents=1)
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"good": "the cat", "bad": "the dogs"}) + "\n" + line + "\n")
    with pytest.raises(ValueError, match="--pairs: ") as caught:
        read_pairs(str(path), tokenizer)
    assert sentence in str(caught.value)
    path.write_text("\n")
    with pytest.raises(ValueError, match="has no pairs"):
        read_pairs(str(path), tokenizer)


def test_agreement_sentences_differ_in_the_verb_only() -> None:
    lines = Path("docs/agreement.jsonl").read_text().splitlines()
    pairs = [json.loads(line) for line in lines]
    assert len({pair["good"] for pair in pairs}) == len(pairs) >= 40
    for pair in pairs:
        good, bad = pair["good"].split(), pair["bad"].split()
        assert len(good) == len(bad)
        assert sum(a != b for a, b in zip(good, bad, strict=True)) == 1
