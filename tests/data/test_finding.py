"""Which files a pattern names: on a disk and in a store the same; nothing is left out in silence."""

import os
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.config import Config
from pipeline.data.corpus import find_sources, split_corpus
from tests.data.corpora import corpus_config

NAMES = ("a.txt", "b.md", ".c.txt", "deep/d.txt", "deep/.e.txt", ".git/f.txt", "deep/er/g.txt", "[h].txt")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, in which there is a folder ``texts``."""
    for name in NAMES:
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one line\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(pattern: str) -> list[str]:
    return [path.partition("texts/")[2] for path, *_ in storage.find(pattern)]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["[h].txt", "a.txt", "b.md", "deep/d.txt", "deep/er/g.txt"]),
        ("*", ["[h].txt", "a.txt", "b.md"]),
        ("*.txt", ["[h].txt", "a.txt"]),
        ("[ab].*", ["a.txt", "b.md"]),
        ("[!a].*", ["b.md"]),
        ("?.txt", ["a.txt"]),
        ("?c.txt", []),
        ("[.]c.txt", []),
        ("[[]h].txt", ["[h].txt"]),
        ("[^a].*", ["a.txt"]),
        ("[z-a].txt", []),
        ("[\\].txt", []),
        ("deep[!x]d.txt", []),
        ("[]h[]*", ["[h].txt"]),
        (".*", [".c.txt"]),
        ("**", ["[h].txt", "a.txt", "b.md", "deep/d.txt", "deep/er/g.txt"]),
        ("**/*.txt", ["[h].txt", "a.txt", "deep/d.txt", "deep/er/g.txt"]),
        ("**/.*.txt", [".c.txt", "deep/.e.txt"]),
        ("*/*.txt", ["deep/d.txt"]),
        (".git/*", [".git/f.txt"]),
        ("d**p/**/er/*", ["deep/er/g.txt"]),
    ],
)
def test_a_pattern_names_the_same_files_on_a_disk_and_in_a_store(folder: Path, pattern: str, names: list[str]) -> None:
    assert found(f"texts/{pattern}") == names
    assert found(f"file://{folder}/texts/{pattern}") == names


def test_links_to_folders_are_followed_and_every_text_comes_once(folder: Path) -> None:
    (folder / "elsewhere" / "more").mkdir(parents=True)
    (folder / "elsewhere" / "more" / "i.txt").write_text("one line\n")
    texts = folder / "texts"
    (texts / "0-again").symlink_to("deep")  # there under its own name
    (texts / "elsewhere").symlink_to("../elsewhere")
    (folder / "elsewhere" / "back").symlink_to("../texts")
    (texts / "hidden").symlink_to(".git")
    own = ["[h].txt", "a.txt", "b.md", "deep/d.txt", "deep/er/g.txt"]
    assert found("texts") == [*own, "elsewhere/more/i.txt", "hidden/f.txt"]
    sources = find_sources("train", corpus_config("texts/**/*.txt").corpus)
    assert len({os.path.realpath(source.name) for source in sources}) == len(sources) == 6


@pytest.mark.parametrize("pattern", ["texts", "texts/*.txt"])
@pytest.mark.parametrize("target", ["gone.txt", "z.txt"])
def test_a_link_that_leads_nowhere_is_refused(folder: Path, pattern: str, target: str) -> None:
    (folder / "texts" / "z.txt").symlink_to(target)
    with pytest.raises(ValueError, match=r"^corpus\.train: texts/z\.txt: cannot be read: "):
        find_sources("train", corpus_config(pattern).corpus)


def test_a_folder_that_cannot_be_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # not the rights of the folder: root may read it
    with pytest.raises(ValueError, match=r"^texts/deep: cannot be read: Permission denied$"):
        found("texts")


def test_a_name_that_is_not_utf8_is_refused(folder: Path) -> None:
    Path(os.fsdecode(b"texts/caf\xe9.txt")).write_text("one line\n")
    with pytest.raises(ValueError, match=r"^corpus\.train: texts/caf\ufffd\.txt: its name is not UTF-8; rename it$"):
        find_sources("train", corpus_config("texts").corpus)


def test_patterns_find_files_in_hidden_folders_only_if_they_name_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / ".cache" / "texts"
    (hidden / ".git").mkdir(parents=True)
    for name in ("a.txt", "b[1].txt", ".git/config", ".c.txt"):
        (hidden / name).write_text("one line\n" * 50)
    (tmp_path / "x" / "y").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "x" / "y")

    def names(pattern: str) -> list[str]:
        slices = split_corpus(Config().corpus.model_copy(update={"train": [pattern]}))["train"]
        return [Path(item.reader.name).name for item in slices]

    assert names(str(hidden)) == names("../../.cache/texts") == names("../../.cache/**/*.txt") == ["a.txt", "b[1].txt"]
    assert names(str(hidden / "b[1].txt")) == ["b[1].txt"]
    assert names("../../.cache/texts/.c.txt") == [".c.txt"]
