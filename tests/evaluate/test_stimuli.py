"""Stimuli in every form: the words of the table are those of the file, each with its labels and nats."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from pipeline.config import ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import ByteTokenizer, LoadedTokenizer, Tokenizer, train_tokenizer
from pipeline.errors import UserError
from pipeline.evaluate.neural_complexity import write_complexity
from pipeline.evaluate.regions import read_regions, region_rows
from pipeline.evaluate.side_by_side import sentence_nats, sentence_words
from pipeline.evaluate.stimuli import Stimuli, fitted, held_out_stimuli, read_stimuli
from pipeline.evaluate.surprisal import SCHEMA, surprisal_rows, with_labels, write_rows
from pipeline.evaluate.words import Row
from pipeline.model.language_model import LanguageModel

TEXT = "the cat sat on a mat .\nthe long-bearded dogs ran - fast\n"


@pytest.fixture(scope="module", params=["word", "char", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind=request.param), [TEXT * 9], num_documents=2)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    def written(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    return written


def model_of(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(hidden_size=6, num_layers=1), tokenizer.vocab_size).double().eval()


def rows_of(tokenizer: Tokenizer, stimuli: Stimuli) -> list[Row]:
    rows = surprisal_rows(model_of(tokenizer), tokenizer, held_out_stimuli(tokenizer, stimuli))
    return list(fitted(rows, tokenizer, stimuli))


def words_of(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.level == "word" and row.data != b"<eos>"]


SENTENCES = [("1", "a", "the cat sat on a mat"), ("1", "b", "the dogs ran fast"), ("2", "a", "the mat")]
FORMS = {
    "stimuli.txt": "".join(f"{text}\n\n" for _, _, text in SENTENCES),
    "stimuli.csv": "item,condition,sentence\n" + "".join(f'{i},{c},"{text}"\n' for i, c, text in SENTENCES),
    "stimuli.tsv": "\ufeffItem\tText\tCondition\r\n" + "".join(f"{i}\t{t}\t{c}\r\n" for i, c, t in SENTENCES),
    "words.csv": "word,item,condition\n" + "".join(f"{w},{i},{c}\n" for i, c, t in SENTENCES for w in t.split()),
    "stimuli.jsonl": "".join(json.dumps({"item": int(i), "condition": c, "text": t}) + "\n" for i, c, t in SENTENCES),
    "lists.jsonl": "".join(json.dumps({"item": i, "condition": c, "words": t.split()}) + "\n" for i, c, t in SENTENCES),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_words_nats_and_labels(
    tokenizer: Tokenizer, write: Callable[[str, str], str], name: str
) -> None:
    stimuli = read_stimuli(write(name, FORMS[name]))
    rows = rows_of(tokenizer, stimuli)
    found = words_of(rows)
    texts = [text for _, _, text in SENTENCES]
    assert [str(row.to_json()["text"]) for row in found] == [word for text in texts for word in text.split()]
    assert [row.position for row in found] == [place for text in texts for place in range(len(text.split()))]
    expected = [row.nats for words in sentence_words(model_of(tokenizer), tokenizer, texts) for row in words]
    assert [row.nats for row in found] == pytest.approx(expected, rel=1e-10)
    if name == "stimuli.txt":
        assert stimuli.columns == []
        assert [row.labels["row"] for row in found] == [1] * 6 + [3] * 4 + [5] * 2
        return
    item, condition = (column for column in stimuli.columns if column.lower() in ("item", "condition"))
    if item.lower() != "item":
        item, condition = condition, item
    labels = [(row.labels[item], row.labels[condition]) for row in found]
    assert labels == [(i, c) for i, c, text in SENTENCES for _ in text.split()]
    # tokens and the end have the labels of their text
    assert {(row.labels[item], row.labels[condition]) for row in rows} == {(i, c) for i, c, _ in SENTENCES}
    numbers = list(range(1, 13)) if name == "words.csv" else [1] * 6 + [2] * 4 + [3] * 2
    assert [row.labels["row"] for row in found] == numbers


def test_words_with_white_space_in_them_stay_one_word(tokenizer: Tokenizer, write: Callable[[str, str], str]) -> None:
    words = ["the", "long - bearded", "dogs", "ran .", "fast"]
    path = write("words.tsv", "zone\tword\n" + "".join(f"{i}\t{word}\n" for i, word in enumerate(words)))
    rows = rows_of(tokenizer, read_stimuli(path))
    found = words_of(rows)
    assert len(found) == 5
    assert [row.labels["zone"] for row in found] == ["0", "1", "2", "3", "4"]
    assert [row.position for row in found] == [0, 1, 2, 3, 4]
    (parts,) = sentence_words(model_of(tokenizer), tokenizer, [" ".join(words)])
    nats = [row.nats for row in parts]
    expected = [nats[0], sum(nats[1:4]), nats[4], nats[5] + nats[6], nats[7]]
    assert [row.nats for row in found] == pytest.approx(expected, rel=1e-10)
    assert found[1].entropy_nats == pytest.approx(rows_of(tokenizer, read_stimuli(path))[0].entropy_nats or 0, abs=9)
    if tokenizer.kind != "word":
        assert found[1].to_json()["text"] == "long - bearded"
    else:  # "long" and "bearded" are not in the training text
        assert found[1].to_json()["unknown"] == "long - bearded"
    ends = [row for row in rows if row.data == b"<eos>" and row.level == "word"]
    assert [row.position for row in ends] == [5] * len(ends)


def test_a_table_has_the_labels_as_its_first_columns(
    tokenizer: Tokenizer, write: Callable[[str, str], str], tmp_path: Path
) -> None:
    stimuli = read_stimuli(write("stimuli.csv", FORMS["stimuli.csv"]))
    schema = with_labels(SCHEMA, stimuli)
    for name in ("rows.parquet", "rows.csv"):
        counts = write_rows(str(tmp_path / name), rows_of(tokenizer, stimuli), schema=schema)
        read = pq.read_table if name == "rows.parquet" else pyarrow.csv.read_csv
        table = read(tmp_path / name)
        assert table.column_names[:4] == ["row", "item", "condition", "level"]
        assert table.num_rows == sum(counts.values())
        assert set(table["condition"].to_pylist()) == {"a", "b"}


def test_a_word_table_is_one_text_an_item_and_condition(write: Callable[[str, str], str]) -> None:
    found = read_stimuli(write("a.csv", "item,word\n1,the\n1,cat\n2,the\n2,mat\n")).texts
    assert [stimulus.text for stimulus in found] == ["the cat", "the mat"]
    found = read_stimuli(write("b.csv", "sentence,word\n1,the\n2,cat\n2,sat\n")).texts
    assert [stimulus.text for stimulus in found] == ["the", "cat sat"]
    found = read_stimuli(write("c.csv", "zone,word\n1,the\n2,cat\n")).texts
    assert [stimulus.text for stimulus in found] == ["the cat"]


BAD = {
    "empty.csv": ("", "empty.csv has no rows"),
    "head.csv": ("item,sentence\n", "head.csv has no rows"),
    "no.csv": ("item,who\n1,a\n", "no.csv has no column word, sentence or text; it has item, who"),
    "cell.csv": ("item,sentence\n1,a b\n2,\n", "cell.csv row 2 has nothing in its column 'sentence'"),
    "word.csv": ("word\nthe\n \n", "word.csv row 2 has nothing in its column 'word'"),
    "twice.csv": ("item,condition,sentence\n1,a,x\n2,a,y\n1,a,z\n", "row 3 has the item and condition of row 1: 1, a"),
    "apart.csv": ("item,word\n1,the\n2,a\n1,cat\n", "row 3 continues 1 of row 1; words of a text must be adjacent"),
    "short.csv": ("item,sentence\n1,a\n2\n", "short.csv row 2 has 1 cells; there are 2 columns"),
    "names.csv": ("item,Item,word\n1,1,a\n", "two columns are called 'item'"),
    "nameless.csv": ("item,,word\n1,1,a\n", "column 2 has no name in the first line"),
    "quote.tsv": ('item\tword\n1\t"the\n1\tcat\n', "quote.tsv: row 1 cannot be read"),
    "lines.csv": ('sentence\n"the cat\nsat"\n', "row 1 has a line end in its column 'sentence'"),
    "bad.jsonl": ('{"text": "a"}\n{"text": \n', "bad.jsonl row 2 is not JSON"),
    "list.jsonl": ('["a"]\n', "list.jsonl row 1 is not a JSON object"),
    "deep.jsonl": ('{"text": "a", "x": {"y": 1}}\n', "row 1 has neither a text nor a number in its field 'x'"),
    "half.jsonl": ('{"text": "\\ud800"}\n', "row 1 has half of a character in its field 'text'"),
    "none.jsonl": ('{"words": []}\n', "row 1 has an empty word, or none, in its column 'words'"),
    "blank.txt": ("\n \n", "blank.txt has no rows"),
    "label.csv": ("nats,sentence\n1,the\n", "label.csv has a column 'nats', as the table to be written does"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_faulty_file_is_refused_in_a_sentence(write: Callable[[str, str], str], name: str) -> None:
    content, sentence = BAD[name]
    with pytest.raises(UserError) as caught:
        with_labels(SCHEMA, read_stimuli(write(name, content)))
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_word_without_tokens_is_named_with_its_row(write: Callable[[str, str], str]) -> None:
    engine = HuggingFaceTokenizer(models.BPE(unk_token=None))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    engine.train_from_iterator(["the cat"], trainers.BpeTrainer(special_tokens=["<s>"]))
    loaded = LoadedTokenizer("none", engine)
    stimuli = read_stimuli(write("words.csv", "word\nthe\ncät\n"))
    with pytest.raises(UserError, match=r"words\.csv row 2: .*ä"):
        held_out_stimuli(loaded, stimuli)


def test_words_that_a_tokenizer_changes_are_named(write: Callable[[str, str], str], tmp_path: Path) -> None:
    engine = HuggingFaceTokenizer(models.BPE(unk_token=None))
    engine.normalizer = normalizers.Sequence([normalizers.Replace("-", " "), normalizers.Replace("~", "")])
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), vocab_size=300)
    engine.train_from_iterator(["the cat sat"], trainer)
    tokenizer = LoadedTokenizer("none", engine)
    stimuli = read_stimuli(write("words.csv", "word\nthe\nlong-bearded\ncat\n"))
    table = tmp_path / "rows.csv"
    model = model_of(tokenizer)
    rows = surprisal_rows(model, tokenizer, held_out_stimuli(tokenizer, stimuli))
    with pytest.raises(UserError) as caught:
        write_rows(str(table), fitted(rows, tokenizer, stimuli))
    made = "words.csv row 2 has the word 'long-bearded', of which the model's tokenizer makes 'long'"
    assert made in str(caught.value)
    assert list(tmp_path.glob("*rows*")) == []
    with pytest.raises(UserError, match=r"lines\.txt row 2: the model's tokenizer makes nothing of '~'$"):
        held_out_stimuli(tokenizer, read_stimuli(write("lines.txt", "the\n~\ncat\n")))


def test_lines_of_neural_complexity(tokenizer: Tokenizer, write: Callable[[str, str], str], tmp_path: Path) -> None:
    stimuli = read_stimuli(write("stimuli.txt", "the cat zebra\nthe mat\n"))
    rows = rows_of(tokenizer, stimuli)
    write_complexity(str(tmp_path / "out.txt"), rows)
    head, *lines = (tmp_path / "out.txt").read_text().splitlines()
    assert head == "word sentid sentpos wlen surp entropy entred"
    cells = [line.split(" ") for line in lines]
    zebra = "<unk>" if tokenizer.kind != "bpe" else "zebra"
    assert [row[:4] for row in cells] == [
        ["the", "0", "0", "3"], ["cat", "0", "1", "3"], [zebra, "0", "2", "5"], ["the", "1", "0", "3"],
        ["mat", "1", "1", "3"],
    ]  # fmt: skip
    words = words_of(rows)
    for cell, row in zip(cells, words, strict=True):
        assert float(cell[4]) == pytest.approx(row.nats / math.log(2))
        assert float(cell[5]) == pytest.approx((row.entropy_nats or 0) / math.log(2))
    drops = [0, max(0, float(cells[0][5]) - float(cells[1][5])), max(0, float(cells[1][5]) - float(cells[2][5])), 0]
    assert [float(cell[6]) for cell in cells[:4]] == pytest.approx(drops)
    spaced = read_stimuli(write("words.csv", "word\nthe\ncat sat\n"))
    with pytest.raises(UserError, match="has white space in it"):
        write_complexity(str(tmp_path / "spaced.txt"), rows_of(tokenizer, spaced))
    assert not (tmp_path / "spaced.txt").exists()


@pytest.mark.parametrize("eos", ["none", "document"])
def test_a_word_that_spells_out_the_end_is_a_word(eos: str, write: Callable[[str, str], str], tmp_path: Path) -> None:
    rows = rows_of(ByteTokenizer(eos), read_stimuli(write("stimuli.txt", "the <eos>\n")))
    assert [row.word for row in rows if row.level == "word" and not row.is_end] == ["the", "<eos>"]
    write_complexity(str(tmp_path / "out.txt"), rows)
    lines = (tmp_path / "out.txt").read_text().splitlines()[1:]
    assert [line.split()[:3] for line in lines] == [["the", "0", "0"], ["<eos>", "0", "1"]]


REGIONS = {
    "marked.txt": "the cat | sat on | a mat | |\n\nthe | dogs\n",
    "marked.csv": "item,condition,sentence\n1,a,the cat | sat on| a mat ||\n1,b,the | dogs\n",
    "rows.csv": "item_number,condition_name,region_number,region_name,content\n"
    "1,a,1,1,the cat\n1,a,2,2,sat on\n1,a,3,3,a mat\n1,a,4,4,\n1,a,5,5,\n1,b,1,1,the\n1,b,2,2,dogs\n",
    "words.csv": "item,condition,region,word\n1,a,1,the\n1,a,1,cat\n1,a,2,sat\n1,a,2,on\n1,a,3,a\n1,a,3,mat\n"
    "1,b,1,the\n1,b,2,dogs\n",
}


@pytest.mark.parametrize("name", REGIONS)
def test_a_region_has_the_sum_of_its_words(tokenizer: Tokenizer, write: Callable[[str, str], str], name: str) -> None:
    regions = read_regions(write(name, REGIONS[name]))
    texts = ["the cat sat on a mat", "the dogs"]
    assert [stimulus.text for stimulus in regions.stimuli.texts] == texts
    model = model_of(tokenizer)
    rows = surprisal_rows(model, tokenizer, held_out_stimuli(tokenizer, regions.stimuli))
    found = list(region_rows(rows, tokenizer, regions))
    first, second = ([row.nats for row in words] for words in sentence_words(model, tokenizer, texts))
    empty = [] if name == "words.csv" else [("4", 0, 0.0), ("5", 0, 0.0)]
    expected = [
        ("1", 2, sum(first[:2])), ("2", 2, sum(first[2:4])), ("3", 2, sum(first[4:])), *empty, ("1", 1, second[0]),
        ("2", 1, second[1]),
    ]  # fmt: skip
    assert [(row["region"], row["words"]) for row in found] == [(name, number) for name, number, _ in expected]
    assert [row["nats"] for row in found] == pytest.approx([nats for _, _, nats in expected])
    assert found[0]["text"] == "the cat"


BAD_REGIONS = {
    "inside.csv": ("sentence\nthe cat | sat\nthe c|at sat\n", "row 2 has the border of a region inside a word: c|at"),
    "none.csv": ("item,sentence\n1,the cat\n", "defines no regions: put | between words of a column sentence"),
    "empty.csv": ("sentence\n | \nthe|a\n", "row 1 has no word in its column 'sentence'"),
    "items.csv": ("region,content\n1,the\n", "has no column item or condition to tell its texts apart"),
    "apart.csv": ("item,region,content\n1,1,a\n2,1,b\n1,2,c\n", "row 3 continues 1 of row 1; regions of a text"),
    "wordless.csv": ("item,region,content\n1,1,\n1,2,\n", "row 1 begins a text in which no region has a word"),
    "plain.txt": ("the cat sat\n", "defines no regions"),
    "inside.txt": ("the | cat\n\nthe cat s|at\n", "inside.txt row 3 has the border of a region inside a word: s|at"),
    "blank.txt": ("\n", "blank.txt has no rows"),
}


@pytest.mark.parametrize("name", BAD_REGIONS)
def test_faulty_regions_are_refused_in_a_sentence(write: Callable[[str, str], str], name: str) -> None:
    content, sentence = BAD_REGIONS[name]
    with pytest.raises(UserError) as caught:
        read_regions(write(name, content))
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_equal_texts_have_equal_nats_in_any_batch(tokenizer: Tokenizer) -> None:
    """Repeated texts are scored once, so that rounding in batches of other lengths cannot break a tie."""
    model = model_of(tokenizer).float()
    same, others = "the cat sat on a mat", [f"{'the dogs ran ' * n}fast" for n in range(30)]
    told: list[int] = []
    nats = sentence_nats(model, tokenizer, [same, *others, same], on_sentences=told.append)
    assert nats[0] == nats[-1]
    assert sum(told) == 32
    alone = [sentence_nats(model, tokenizer, [text])[0] for text in (same, others[7])]
    assert [nats[0], nats[8]] == pytest.approx(alone, rel=1e-5)
    assert sentence_nats(model, tokenizer, []) == []
