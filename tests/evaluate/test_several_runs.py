"""The rows of several runs side by side, and their mean."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.config import ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.errors import UserError
from pipeline.evaluate.several import fields_of_runs, joined_rows
from pipeline.evaluate.surprisal import SCHEMA, surprisal_rows
from pipeline.evaluate.words import Row
from pipeline.model.language_model import LanguageModel
from tests.evaluate.test_columns import LINES, held_out
from tests.evaluate.test_words import TOKENIZERS, model_of


def test_figures_of_several_runs_and_their_mean(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["word"][0]()
    text = held_out(tokenizer, tmp_path, LINES)
    models = [model_of(tokenizer), LanguageModel(ModelConfig(hidden_size=4, num_layers=1), tokenizer.vocab_size).eval()]
    alone = [list(surprisal_rows(model, tokenizer, text, ranks=True)) for model in models]
    rows = list(joined_rows(["a", "b"], [iter(part) for part in alone], tokens=True))
    assert len(rows) == len(alone[0])
    for row, one, other in zip(rows, *alone, strict=True):
        json = row.to_json()
        assert (json["nats_a"], json["nats_b"]) == (one.nats, other.nats)
        assert json["nats"] == row.nats == (one.nats + other.nats) / 2
        assert (json["rank_a"], json["rank_b"], json["rank"]) == (one.rank, other.rank, (one.rank + other.rank) / 2)  # type: ignore[operator]
        assert (json["text"], json["document"], json["position"]) == (one.to_json()["text"], one.document, one.position)
    names = [field.name for field in fields_of_runs([SCHEMA.field("nats")], ["a", "b"])]
    assert names == ["nats", "nats_a", "nats_b"]


def test_runs_with_different_tokenizers_have_the_same_words(tmp_path: Path) -> None:
    kinds = ["word", "bpe", "char"]
    tokenizers = [TOKENIZERS[kind][0]() for kind in kinds]
    tokenizers.append(train_tokenizer(TokenizerConfig(kind="char", eos="none"), LINES, num_documents=4))

    def rows_of(tokenizer: Tokenizer) -> Iterator[Row]:
        return surprisal_rows(model_with(tokenizer), tokenizer, held_out(tokenizer, tmp_path, LINES))

    rows = list(joined_rows([*kinds, "no end"], [rows_of(tokenizer) for tokenizer in tokenizers], tokens=False))
    texts = [row.to_json()["text"] for row in rows]
    assert texts == [word for line in LINES for word in [*line.split(), "<eos>"]]
    for row in rows:
        json = row.to_json()
        assert (json["nats_no end"] is None) == (json["nats"] is None) == math.isnan(row.nats) == row.is_end
        assert json["nats_bpe"] is not None


@pytest.mark.parametrize("first", ["bpe", "word"])
def test_a_word_that_one_of_the_runs_does_not_know_is_marked(first: str, tmp_path: Path) -> None:
    tokenizers = {kind: TOKENIZERS[kind][0]() for kind in ("bpe", "word")}
    assert tokenizers["word"].unknown_in("ab zebra") == {"zebra"}
    names = [first, *(tokenizers.keys() - {first})]
    streams = []
    for name in names:
        text = held_out(tokenizers[name], tmp_path, ["ab zebra ab"])
        streams.append(surprisal_rows(model_with(tokenizers[name]), tokenizers[name], text))
    rows = list(joined_rows(names, streams, tokens=False))
    assert [row.to_json()["unknown"] for row in rows] == [None, "zebra", None, None]
    assert [row.word for row in rows] == ["ab", "zebra", "ab", None]


def model_with(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(1)
    return LanguageModel(ModelConfig(hidden_size=4, num_layers=1), tokenizer.vocab_size).eval()


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (["a", "c"], "runs: one has 'b' as word 2 of document 1 where two has 'c' as word 2 of document 1; the words"),
        (
            ["a"],
            "runs: one has 'b' as word 2 of document 1 where two has no more words; the words of several runs must",
        ),
        (["a", "b", "c"], "runs: one has no more words where two has 'c' as word 3 of document 1"),
    ],
)
def test_runs_with_different_words_are_refused(other: list[str], sentence: str) -> None:
    streams = [[Row("word", w.encode(), 0, i, 1.0) for i, w in enumerate(words)] for words in (["a", "b"], other)]
    with pytest.raises(UserError) as caught:
        list(joined_rows(["one", "two"], streams, tokens=False))
    assert str(caught.value).startswith(sentence)
