"""Shards are, byte for byte, what the first release of this format made of the same text: runs go on with them."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from tests.data.corpora import write_records

LINES = [
    " ".join(random.Random(n).choices(["the", "cat", "sat", "on", "a", "mat", "é", "€", "and\tran"], k=9))
    for n in range(400)
]
LINE_BY_LINE = {"corpus.document": "line", "tokenizer.kind": "char"}

# what is prepared, its form, the beginning of SHA-256 over the names and bytes of the shards and the tokenizer
CORPORA: dict[str, tuple[str, dict[str, Any], str]] = {
    "bytes of files": ("files", {"tokenizer.kind": "byte"}, "c82db9760352222a"),
    "words of a file": ("txt", {"tokenizer.kind": "word", "tokenizer.min_count": 2}, "6463d595148ea37a"),
    "lines": ("txt", {**LINE_BY_LINE, "corpus.split_by": "document", "corpus.shuffle_seed": 3}, "c9e9f97f6c246ea7"),
    "compressed lines": ("txt.gz", LINE_BY_LINE, "259e48f8ad4aa742"),
    "JSON Lines": ("jsonl", {"tokenizer.kind": "byte", "corpus.deduplicate": True}, "f77b35e146f0833c"),
    "Parquet": ("parquet", {"tokenizer.kind": "byte", "corpus.weights": [1.5]}, "d25263947deeb666"),
    "a saved dataset": ("saved", {"tokenizer.kind": "char", "corpus.min_characters": 30}, "00bab9297028d8e5"),
}
# the same over every file of "bytes of files": the manifest has the settings too, and checkpoints name its checksum
WHOLE_FOLDER = "eb6740b53fc92900"


def corpus_of(form: str, folder: Path) -> str:
    """The name of ``LINES`` in ``form``, from ``folder``: names decide which documents are held out."""
    if form != "files":
        return write_records(folder, form, LINES).name
    (folder / "texts").mkdir()
    for number in range(25):
        (folder / "texts" / f"{number:02d}.txt").write_text("\n".join(LINES[16 * number : 16 * number + 16]))
    return "texts"


def digest_of(folder: Path, *patterns: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("name", CORPORA)
def test_shards_have_the_bytes_that_they_had(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    form, changes, expected = CORPORA[name]
    monkeypatch.chdir(tmp_path)
    config = make_config(
        {"corpus.train": [corpus_of(form, tmp_path)], "data.directory": "data", "data.shard_tokens": 2048, **changes}
    )
    corpus = prepare_in_process(config)
    assert sum(len(sequence) for sequence in corpus.splits.values()) > 4000
    assert digest_of(tmp_path / "data", "*.arrow", "tokenizer.json") == expected
    if form == "files":
        assert digest_of(tmp_path / "data", "*.arrow", "*.index", "tokenizer.json", "manifest.json") == WHOLE_FOLDER
