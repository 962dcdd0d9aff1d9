"""Benchmark files that are missing, damaged or not the ones asked for are refused in a sentence."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.evaluate.benchmarks import published, read_benchmark
from tests import benchmark_samples as samples


def test_a_pickle_that_names_any_object_is_refused(sample: Callable[[str], Path], tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "written",))

    folder = sample("marvin-linzen")
    (folder / "subj_rel.pickle").write_bytes(pickle.dumps({"sing": [Harmful()]}))
    with pytest.raises(UserError, match=r"subj_rel\.pickle cannot be read as sentences: names "):
        read_benchmark(f"marvin-linzen={folder}")
    assert not (tmp_path / "written").exists()
    for content in (b"", b"\x80\x05garbage", pickle.dumps([1]), pickle.dumps({"a": [("the cat",)]}), pickle.dumps({})):
        (folder / "subj_rel.pickle").write_bytes(content)
        with pytest.raises(UserError, match=r"subj_rel\.pickle"):
            read_benchmark(f"marvin-linzen={folder}")


MISSING = {
    "blimp": ("wh_island.jsonl", "wh_island.jsonl is missing; 67 files are expected"),
    "marvin-linzen": ("subj_rel.pickle", "subj_rel.pickle is missing; 22 files are expected"),
    "natural-stories": ("all_stories.tok", "all_stories.tok is missing; 2 files are expected"),
    "agreement": ("generated.tab", "generated.tab is missing; 1 file is expected"),
    "babylm": ("ewok_filtered", "the folders ewok_filtered are missing; give a folder with all 8, or one of them"),
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_files_are_named_with_the_number_expected(sample: Callable[[str], Path], name: str) -> None:
    missing, sentence = MISSING[name]
    folder = sample(name)
    if (folder / missing).is_dir():
        shutil.rmtree(folder / missing)
    else:
        (folder / missing).unlink()
    with pytest.raises(UserError) as caught:
        read_benchmark(f"{name}={folder}")
    assert sentence in str(caught.value)


def test_of_many_missing_files_some_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"and 62 more are missing; 67 files are expected"):
        read_benchmark(f"blimp={tmp_path}")
    with pytest.raises(UserError, match="there is no such folder"):
        read_benchmark(f"blimp={tmp_path / 'none'}")
    for named in ("blimp", "blimp=", "nosuch=folder", "=folder"):
        with pytest.raises(UserError, match="is not NAME=FOLDER with one of the names blimp, blimp-one-prefix"):
            read_benchmark(named)
    with pytest.raises(UserError, match=r"there is no suite \(\*\.json\)"):
        read_benchmark(f"syntaxgym={tmp_path}")


DAMAGE = {
    "blimp": ("wh_island.jsonl", "{}\n", "wh_island.jsonl line 1 has no text in its field 'sentence_good'"),
    "blimp-two-prefix": ("wh_island.jsonl", '{"two_prefix_method": true}', "no text in its field 'two_prefix_word'"),
    "agreement": ("generated.tab", samples.AGREEMENT_HEAD + "N\t0\t0\ts\tsat\tcorrect\toriginal\tthe\t0\tx\n",
                  "row 1 has no other row with the other form"),
    "natural-stories": ("all_stories.tok", "word\tzone\titem\nthe\t99\t1\n", "row 1 has the word 'the', of which"),
    "babylm": ("comps/comps_base.jsonl", "{}\n", "line 1 has no text in its field 'prefix_acceptable'"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_a_faulty_file_is_refused_in_a_sentence(sample: Callable[[str], Path], name: str) -> None:
    file, content, sentence = DAMAGE[name]
    folder = sample(name)
    (folder / file).write_text(content)
    with pytest.raises(UserError) as caught:
        read_benchmark(f"{name}={folder}")
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("all_stories.tok", "word\titem\nthe\t1\n", "tok has no column 'zone'; it has word, item"),
        (
            "processed_wordinfo.tsv",
            "word\tzone\titem\nthe\t1\t1\n",
            "tsv has no column 'meanItemRT'; it has word, zone, item",
        ),
    ],
)
def test_a_column_that_is_missing_is_named(
    file: str, content: str, sentence: str, sample: Callable[[str], Path]
) -> None:
    folder = sample("natural-stories")
    (folder / file).write_text(content)
    with pytest.raises(UserError) as caught:
        read_benchmark(f"natural-stories={folder}")
    assert str(caught.value).endswith(sentence)


def test_a_folder_of_languages_asks_for_one(tmp_path: Path) -> None:
    for language in ("English", "Italian"):
        samples.write_agreement(tmp_path / language)
    with pytest.raises(UserError, match="name the folder of one language: English, Italian"):
        read_benchmark(f"agreement={tmp_path}")
    found = published("agreement", read_benchmark(f"agreement={tmp_path / 'English'}").variant)
    assert [one.model for one in found] == ["LSTM", "RNN", "5-LSTM"]
