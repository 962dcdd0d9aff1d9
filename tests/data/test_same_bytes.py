"""Shards are, byte for byte, what earlier versions made of the same text, so their runs and corpora can be continued.

``same_bytes.json`` has the digests of the corpora in ``same_bytes_corpora.py``, and ``prepared`` a corpus that an
earlier version made, with its texts. To add the digests of a new corpus:
``python -m tests.data.test_same_bytes NAME...``; existing ones stay.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.data.prepare import in_process, prepare, prepare_in_process
from pipeline.data.reuse import STATE
from pipeline.data.shards import MANIFEST
from pipeline.data.verify import verify_texts
from tests.data.corpora import forget_sources, write_records
from tests.data.same_bytes_corpora import CORPORA, HERE, LINES, PATCH

DIGESTS = HERE / "same_bytes.json"
# a digest over every file of "bytes of files": the manifest has the settings too, and checkpoints name its checksum
WHOLE_FOLDER = "eb6740b53fc92900"


def digest_of(folder: Path, *patterns: str) -> str:
    """The beginning of the SHA-256 of the names and bytes of the files that ``patterns`` name."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def facts_of(directory: Path) -> dict[str, Any]:
    """Digests of the shards, the tokenizer, the counts, and what is kept about the texts that were read."""
    manifest = json.loads((directory / MANIFEST).read_bytes())
    texts = []
    for path in sorted(directory.glob("*-*.sources")):
        extracts = json.loads(path.read_bytes().partition(b"\n")[0])["extracts"]
        texts += [[name, form, start, stop, digest] for name, form, _, _, _, start, stop, digest in extracts]
    counts = {split: {name: value for name, value in entry.items() if name not in ("shards", "source_bytes")}
              for split, entry in manifest["splits"].items()}  # fmt: skip
    return {
        "shards": {path.stem: digest_of(directory, path.name) for path in sorted(directory.glob("*.arrow"))},
        "tokenizer": digest_of(directory, "tokenizer.json"),
        "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16],
        "counts": hashlib.sha256(json.dumps(counts).encode()).hexdigest()[:16],
    }


def prepared(name: str, folder: Path) -> Path:
    """Prepare corpus ``name`` in the empty working ``folder``; return its directory."""
    write, changes = CORPORA[name]
    forget_sources()
    values = {"corpus.valid_fraction": 0.1, "data.directory": "data", "data.shard_tokens": 2048}
    prepare_in_process(configuration.with_values(configuration.load(), {**values, **write(folder), **changes}))
    return folder / "data"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An own working folder, with its own cache of datasets: names of files decide which documents are held out."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield tmp_path / "here"
    PATCH.undo()
    forget_sources()


@pytest.mark.parametrize("name", CORPORA)
def test_shards_have_the_same_bytes_as_in_earlier_versions(folder: Path, name: str) -> None:
    directory = prepared(name, folder)
    assert facts_of(directory) == json.loads(DIGESTS.read_text())[name]
    if name == "bytes of files":
        assert digest_of(directory, "*.arrow", "*.index", "tokenizer.json", "manifest.json") == WHOLE_FOLDER


@pytest.fixture
def prepared_before(folder: Path) -> Path:
    """A corpus that an earlier version made, in the working folder, with its texts."""
    shutil.copytree(HERE / "prepared", folder, dirs_exist_ok=True)
    return folder


def config_of_before() -> Config:
    return configuration.load("config.yaml")


def test_a_corpus_of_an_earlier_version_is_used_again(prepared_before: Path) -> None:
    directory = prepared_before / "corpus"
    before = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != STATE}
    told: list[str] = []
    corpus = prepare_in_process(config_of_before(), on_shard=lambda entry, total: pytest.fail("made again"),
                                say=told.append)  # fmt: skip
    # the copies have other times, so the texts are read again and found to be the same
    assert [sentence.partition(" ")[0] for sentence in told] == ["reading"]
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.name in before} == before
    checked = verify_texts(corpus)
    assert (checked.same, checked.gone, checked.shards_without_digests) == (4, 0, 0)


def test_a_half_prepared_corpus_of_an_earlier_version_is_continued(prepared_before: Path) -> None:
    directory = prepared_before / "corpus"
    before = {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix in (".arrow", ".index")}
    for name in (MANIFEST, "train-00001.index", "valid-00000.arrow"):
        (directory / name).unlink()
    made: list[str] = []

    def map_tasks(tasks: Sequence[Any]) -> Iterator[Any]:
        made.extend(task.range.name for task in tasks if hasattr(task, "range"))
        return in_process(tasks)

    prepare(config_of_before(), map_tasks=map_tasks, on_shard=lambda entry, total: None)
    assert made == ["train-00001", "valid-00000"]
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.name in before} == before


def write_prepared(folder: Path) -> None:
    """Make ``prepared``; the committed one was made by the version before readers were introduced."""
    for number, (name, form) in enumerate((("a", "txt"), ("b", "jsonl"), ("c", "txt.gz"), ("d", "parquet"))):
        (folder / name).mkdir()
        write_records(folder / name, form, LINES[80 * number :][:90])
    (folder / "config.yaml").write_text(
        "corpus:\n  train: [a, b, c, d]\n  document: line\n  split_by: document\n  deduplicate: true\n"
        "  normalize: NFC\ntokenizer:\n  kind: char\ndata:\n  directory: corpus\n  shard_tokens: 1024\n"
    )
    prepare_in_process(config_of_before())


def main(names: Sequence[str]) -> None:
    """Write the digests of ``names``, or of all new corpora if there are none; ``prepared`` makes that folder."""
    known = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    for name in names or [name for name in CORPORA if name not in known]:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(datasets.config, "HF_DATASETS_CACHE", Path(folder) / "cache")
            if name == "prepared":
                write_prepared(Path(folder))
                shutil.copytree(folder, HERE / "prepared")
                continue
            directory = prepared(name, Path(folder))
            known[name] = facts_of(directory)
            PATCH.undo()
            forget_sources()
    DIGESTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
