"""Tables made by others: read with any quotes; mistakes in them are named by file, row and value."""

import json
import math
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import reading
from jobs.shared.cli import run_job
from pipeline.errors import UserError
from pipeline.reading_times.predictors import bare, frequency_in, observations
from pipeline.reading_times.words import check_same_words, items_in_order, read_surprisals, read_times
from pipeline.tables import Table
from pipeline.tables import read_table as read

TEXTS = {"b": ["The", "cat", "sat", "down,"], "a": ["A", "dog", "'ran", '"away']}


def read_table(path: str) -> Table:
    return read(path, by_others=True)


def write_surprisal(path: Path, texts: dict[str, list[str]] = TEXTS, *, unknown: tuple[str, ...] = ()) -> Path:
    """Write a table as ``jobs.evaluate --surprisal`` does: also with tokens, and with an end of each document."""
    rows = ["level\ttext\tdocument\tposition\tnats\tunknown"]
    for document, words in enumerate(texts.values()):
        for position, word in enumerate([*words, "<eos>"]):
            own = word if word in unknown else ""
            shown = '"' + ("<unk>" if own else word).replace('"', '""') + '"'
            rows.append(f"token\t{shown}\t{document}\t{position}\t9.5\t{own}")
            rows.append(f"word\t{shown}\t{document}\t{position}\t{document + position / 10}\t{own}")
    path.write_text("\n".join(rows) + "\n")
    return path


def write_times(path: Path, rows: list[str], *, header: str = "item\tposition\tword\ttime") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def all_rows(texts: dict[str, list[str]] = TEXTS) -> list[str]:
    """A time for each word, not in the order of the words."""
    rows = [
        f"{item}\t{number}\t{word}\t{300 + number}"
        for item, words in texts.items()
        for number, word in enumerate(words, start=1)
    ]
    return [*rows[:2], *reversed(rows[2:])]


def message_of(times: Path, surprisal: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit) as left:
        run_job(reading.main, ["--surprisal", str(surprisal), "--times", str(times), *options])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error.removeprefix("error: ").replace(f"{times.parent}/", "")


def test_times_find_their_words(tmp_path: Path) -> None:
    times = read_times(read_table(str(write_times(tmp_path / "times.tsv", all_rows()))), {}, wants_subjects=False)
    table = read_table(str(write_surprisal(tmp_path / "words.tsv", unknown=("dog",))))
    items = items_in_order([item for item, _ in times.places])
    assert items == ["b", "a"]  # in the order of their first rows
    words = read_surprisals(table, ["nats"], items=items)
    check_same_words(times, words)
    found = {place: words.nats["nats"][row] for place, row in words.place_of.items()}
    assert found["b", 3] == pytest.approx(0.3)
    assert found["a", 2] == pytest.approx(1.2)
    assert [words.texts[words.place_of["a", place]] for place in range(4)] == TEXTS["a"]
    data = observations(times, {"m": (words, "nats")}, frequency=len)  # type: ignore[arg-type]
    # "ran and "away come after dog, which the model does not know
    assert data.left_out == {
        "of the first two words of an item": 4,
        "of words near one that a model does not know": 2,
    }
    by_time = dict(zip(data.times.tolist(), data.surprisal["m"].tolist(), strict=True))
    assert by_time == {303.0: pytest.approx([0.2, 0.1, 0.0]), 304.0: pytest.approx([0.3, 0.2, 0.1])}
    last = data.times.tolist().index(304.0)
    expected = {"length": 5, "length_lag_1": 3, "length_lag_2": 3, "position": 3}
    assert {name: data.baseline[name][last] for name in expected} == expected


def test_words_unknown_to_the_n_grams_have_no_n_gram_surprisal(tmp_path: Path) -> None:
    times = read_times(read_table(str(write_times(tmp_path / "times.tsv", all_rows()))), {}, wants_subjects=False)
    path = write_surprisal(tmp_path / "words.tsv", unknown=("cat",))
    header, *rows = path.read_text().splitlines()
    # the n-grams know "cat", and do not know "away
    rows = [row + ("\t\t" if row.startswith("token") else f"\t7.5\t{0 if 'away' in row else 2}") for row in rows]
    path.write_text("\n".join([f"{header}\tngram_nats\tngram_order", *rows]) + "\n")
    words = read_surprisals(read_table(str(path)), ["nats", "ngram_nats"], items=["b", "a"])
    known = observations(times, {"m": (words, "nats")}, frequency=len)  # type: ignore[arg-type]
    by_n_grams = observations(times, {"n": (words, "ngram_nats")}, frequency=len)  # type: ignore[arg-type]
    by_both = observations(times, {"m": (words, "nats"), "n": (words, "ngram_nats")}, frequency=len)  # type: ignore[arg-type]
    assert known.times.tolist() == [
        304,
        303,
    ]  # times of "away and 'ran; those of sat and down, are missing, as they come after cat
    assert sorted(by_n_grams.times.tolist()) == [303, 303, 304]
    assert by_both.times.tolist() == [303]


def test_counts_in_the_table_give_frequencies_and_unknown_ones_are_left_out(tmp_path: Path) -> None:
    """As ``jobs.evaluate --columns frequency`` writes them: a word that never occurred has a count but no logarithm."""
    path, counts = write_surprisal(tmp_path / "words.tsv"), {"sat": "0", "down,": "", "dog": "4"}
    header, *rows = path.read_text().splitlines()
    rows = [f"{row}\t{counts.get(row.split(chr(9))[1].strip(chr(34)), '9')}" for row in rows]
    path.write_text("\n".join([f"{header}\ttraining_count", *rows]) + "\n")
    times = read_times(read_table(str(write_times(tmp_path / "times.tsv", all_rows()))), {}, wants_subjects=False)
    words = read_surprisals(read_table(str(path)), ["nats"], items=["b", "a"])
    data = observations(times, {"m": (words, "nats")}, frequency=None)
    assert data.left_out == {
        "of the first two words of an item": 4,
        "of words near one whose frequency is not known": 1,
    }
    assert sorted(data.baseline["log_frequency"].tolist()) == pytest.approx([0.0, math.log(10), math.log(10)])
    assert math.log(5) in data.baseline["log_frequency_lag_1"]


@pytest.mark.parametrize("ending", ["tsv", "csv", "parquet", "jsonl"])
def test_each_kind_of_table(tmp_path: Path, ending: str) -> None:
    frame = pandas.DataFrame({"word": ['say "no"', "a,b", "c"], "time": [1.5, 1 / 3, 2.0]})
    path = tmp_path / f"table.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")))
    else:
        frame.to_csv(path, sep="\t" if ending == "tsv" else ",", index=False)
    table = read_table(str(path))
    assert table.texts("word") == frame["word"].tolist()
    assert table.floats("time").tolist() == frame["time"].tolist()


def test_quotes_that_are_part_of_words_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "raw.tsv"
    path.write_text('word\ttime\n"The\t1\ncat."\t2\n"\t3\n\nsat\t4\n')
    table = read_table(str(path))
    assert table.texts("word") == ['"The', 'cat."', '"', "sat"]
    assert list(table.numbers) == [1, 2, 3, 4]


def test_numeric_items_are_ordered_as_numbers() -> None:
    assert items_in_order(["10", "9", "10", "1"]) == ["1", "9", "10"]


def test_readings_are_averaged_without_subjects_and_kept_with_them(tmp_path: Path) -> None:
    rows = ["s1\tb\tThe\t300", "s1\tb\tcat\t310", "s2\tb\tThe\t200", "s2\tb\tcat\t330"]
    table = read_table(str(write_times(tmp_path / "t.tsv", rows, header="WorkerId\titem\tword\tRT")))
    means = read_times(table, {}, wants_subjects=False)
    assert (means.values.tolist(), means.words, means.subjects) == ([250.0, 320.0], ["The", "cat"], None)
    each = read_times(table, {}, wants_subjects=True)
    assert each.values.tolist() == [300, 310, 200, 330]
    assert each.places == [("b", 0), ("b", 1)] * 2
    assert each.subjects == ["s1", "s1", "s2", "s2"]


def test_frequencies_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("The cat, the “cat” -- and the\nCat's\n")
    frequency = frequency_in([str(path)])
    assert [frequency(word) for word in ("the", "Cat.", "cat's", "--", "dog")] == pytest.approx(
        np.log1p([3, 2, 1, 1, 0])
    )
    assert bare("(Don't!)") == "don't"


MISTAKES = {
    "no word": (
        ["b\t1\tThe"],
        "item\tposition\ttext2",
        "--word: times.tsv has no column word, text, token; name the one that is meant (it",
    ),
    "empty": (["b\t1\tThe\t300", "b\t2\tcat\t"], None, "times.tsv row 2 has nothing in its column 'time'"),
    "NA": (["b\t1\tThe\tNA"], None, "times.tsv row 1 has nothing in its column 'time'"),
    "no number": (["b\t1\tThe\tfast"], None, "times.tsv row 1 has 'fast' in its column 'time', which is not a number"),
    "twice": (
        ["b\t1\tThe\t300", "b\t1\tThe\t301"],
        None,
        "times.tsv row 2: word 'The' of item b is at the place of 'The' in row 1: each occurs once",
    ),
    "position": (
        ["b\t1.5\tThe\t300"],
        None,
        "times.tsv row 1 has 1.5 in its column 'position', not a whole number of at least 0",
    ),
    "another word": (
        ["b\t1\tThe\t300", "b\t2\tcats\t300", "a\t1\tA\t1"],
        None,
        "times.tsv row 2: word 2 of item b is 'cats', but 'cat' in words.tsv row 4",
    ),
    "beyond": (
        ["b\t1\tThe\t300", "b\t5\tthere\t300", "a\t1\tA\t1"],
        None,
        "times.tsv row 2: is of word 5 of item b, 'there', of which words.tsv has only 4",
    ),
    "items": (["b\t1\tThe\t300"], None, "words.tsv: has 2 documents, but there are times of 1 items; without a column"),
    "cells": (["b\t1\tThe"], None, "times.tsv row 1 has 3 cells; there are 4 columns"),
    "header only": ([], None, "times.tsv has no rows"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named_and_nothing_is_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, header, sentence = MISTAKES[name]
    times = write_times(tmp_path / "times.tsv", rows, **({} if header is None else {"header": header}))
    surprisal = write_surprisal(tmp_path / "words.tsv")
    figure = tmp_path / "curve.png"
    message = message_of(times, surprisal, capsys, "--figure", str(figure))
    assert message.startswith(sentence)
    assert not figure.exists()


def test_mistakes_in_the_table_of_surprisal_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = write_times(tmp_path / "times.tsv", all_rows())
    words = write_surprisal(tmp_path / "words.tsv")
    assert message_of(times, words, capsys).startswith(
        "--corpus: words.tsv has no column training_count or log_frequency"
    )
    assert message_of(times, words, capsys, "--column", "bits").startswith("words.tsv: has no column 'bits', which")
    assert message_of(times, words, capsys, "--time", "RT") == (
        "--time: times.tsv has no column 'RT'; it has item, position, word, time\n"
    )
    assert message_of(times, words, capsys, "--corpus", str(tmp_path / "none.txt")).startswith("--corpus: none.txt: ")
    assert message_of(times, words, capsys, "--folds", "1") == "--folds: must be between 2 and 1,000, not 1\n"
    assert message_of(times, words, capsys, "--subjects").startswith(
        "--subject: times.tsv has no column subject, workerid"
    )
    text = words.read_text()
    words.write_text(text.replace('word\t"sat"\t0\t2\t0.2', 'word\t"sat"\t0\t2\tnan'))
    assert message_of(times, words, capsys) == "words.tsv row 6 has nothing in its column 'nats'\n"
    words.write_text(text + "word\tsat\t0\t2\t0.2\t\n")
    assert message_of(times, words, capsys) == "words.tsv row 21: word 2 of item b occurs twice\n"
    with pytest.raises(UserError, match=r"words\.txt: must end with \.csv, .* or \.parquet"):
        read_table("words.txt")


def test_a_parquet_table_is_read_as_it_is_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["a", None], "words": [["b", "c"], None], "number": [1, 2.5]}), path)
    assert read_table(str(path)).columns == {"text": ["a", None], "words": [["b", "c"], None], "number": ["1.0", "2.5"]}
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), path)
    with pytest.raises(UserError, match=r"rows\.parquet: two columns are called 'text'$"):
        read_table(str(path))
    for value in (b"bytes", {"en": "text"}, [1, 2], [b"bytes"]):
        pq.write_table(pa.table({"text": [None, value]}), path)
        with pytest.raises(UserError, match=r"rows\.parquet row 2 has neither a text nor a number in its field 'text'"):
            read_table(str(path))
    latin = pa.array([b"caf\xe9"]).view(pa.string())  # which writers of tables need not have checked
    pq.write_table(pa.table({"text": latin}), path)
    with pytest.raises(UserError, match=r"rows\.parquet: a text in its column 'text' is not UTF-8$"):
        read_table(str(path))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"rows\.parquet: not a Parquet file \("):
        read_table(str(path))
