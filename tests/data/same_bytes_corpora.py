"""Corpora of every form of text, whose shards must keep their bytes: see ``test_same_bytes.py``."""

import bz2
import gzip
import json
import pydoc_data.topics
import random
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.corpora import write_records

HERE = Path(__file__).parent
WORDS = ["the", "cat", "sat", "on", "a", "mat", "é", "€", "and\tran"]
LINES = [" ".join(random.Random(n).choices(WORDS, k=9)) for n in range(400)]
# repeated, short and empty lines, white space, other line ends, a byte order mark, combining characters
ODD = [
    *LINES[:40], "", LINES[3], " ", "x", "tab\tand  blanks ", "cafe\u0301 ﬁne e\u0301\u0327", "carriage\r",
    "\ufeffmark", "\u2028 no line end", "", *LINES[40:120], LINES[7],
]  # fmt: skip
LINE_BY_LINE = {"corpus.document": "line", "tokenizer.kind": "char"}
BYTES = {"tokenizer.kind": "byte"}
Changes = dict[str, Any]


def files(folder: Path) -> Changes:
    (folder / "texts").mkdir()
    for number in range(25):
        (folder / "texts" / f"{number:02d}.txt").write_text("\n".join(LINES[16 * number : 16 * number + 16]))
    return {"corpus.train": ["texts"]}


def compressed_files(folder: Path) -> Changes:
    (folder / "texts").mkdir()
    compress: Sequence[tuple[str, Callable[[bytes], bytes]]] = [("gz", gzip.compress), ("bz2", bz2.compress)]
    for number in range(24):
        ending, function = compress[number % 2]
        text = "\n".join(LINES[16 * number : 16 * number + 16]).encode()
        (folder / "texts" / f"{number:02d}.txt.{ending}").write_bytes(function(text))
    return {"corpus.train": ["texts/**/*.gz", "texts/*"]}


def files_to_choose_from(folder: Path) -> Changes:
    for number in range(30):
        data = ("\n".join(LINES[9 * (number // 2) :][:9])).encode() if number % 5 else b"no"
        (folder / f"{number:02d}.txt").write_bytes(data + b" \xff" * (number % 7 == 0))
    return {"corpus.train": ["*.txt"]}


def records(form: str, lines: Sequence[str] = LINES) -> Callable[[Path], Changes]:
    """A function that writes ``lines`` with ``write_records`` as a file of ``form``."""
    return lambda folder: {"corpus.train": [write_records(folder, form, list(lines)).name]}


def raw(name: str, data: bytes) -> Callable[[Path], Changes]:
    def write(folder: Path) -> Changes:
        (folder / name).write_bytes(data)
        return {"corpus.train": [name]}

    return write


def odd_json(folder: Path) -> Changes:
    """Records with fields of all kinds, escapes, blank lines, other line ends and bytes that are not UTF-8."""
    lines = [json.dumps({"id": n, "text": text, "of": {"text": [1.5, None]}}) for n, text in enumerate(ODD)]
    lines[3:3] = ["", "  ", '{"text": "\\u00e9\\n\\ud83d\\ude00", "text": "the last one counts"}\r', ' {"text": "b"} ']
    data = ("\n".join(lines) + '\n{"text": "€ as it is", "x": NaN, "y": 123456789012345678901234567890}').encode()
    bad = b'\n{"text": "bad \xff byte"}\n{"text": "half \\ud83d of one"}\n' + lines[9].encode()
    (folder / "a.ndjson").write_bytes(b"\xef\xbb\xbf" + data + bad)
    return {"corpus.train": ["a.ndjson"]}


def held_out_apart(folder: Path) -> Changes:
    (folder / "train.txt").write_text("\n".join(LINES[:300]))
    (folder / "valid.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES[250:350]))
    pq.write_table(pa.table({"text": pa.array(LINES[320:]).dictionary_encode()}), folder / "test.parquet")
    return {"corpus.train": ["train.txt"], "corpus.valid": ["valid.jsonl"], "corpus.test": ["test.parquet"]}


def mixture(folder: Path) -> Changes:
    names = [write_records(folder, form, LINES[part:][:100]).name for part, form in
             enumerate(("txt", "jsonl", "parquet", "jsonl.zst", "saved"))]  # fmt: skip
    return {"corpus.train": names, "corpus.weights": [2.5, 1, 0.4, 1.3, 0.5]}


def slices(folder: Path) -> Changes:
    table = datasets.Dataset.from_dict({"body": LINES, "id": range(len(LINES))})
    datasets.DatasetDict(train=table, validation=table.select([5, 3, 390])).save_to_disk(folder / "dd")
    split = "hf://dd?split={}".format
    return {
        "corpus.train": [split("train[:70%]+validation")], "corpus.valid": [split("train[-20%:]")],
        "corpus.text_field": "body",
    }  # fmt: skip


def folder_of_data(query: str) -> Callable[[Path], Changes]:
    def write(folder: Path) -> Changes:
        (folder / "hub").mkdir()
        for number in range(4):
            rows = {"text": LINES[100 * number :][:100]}
            pq.write_table(pa.table(rows), folder / f"hub/train-{number}.parquet", row_group_size=40)
        return {"corpus.train": [f"hf://hub{query}"]}

    return write


def builtin(name: str) -> Callable[[Path], Changes]:
    """A built-in corpus with our own texts, because Python's own differ from version to version."""

    def write(folder: Path) -> Changes:
        (folder / "python/test").mkdir(parents=True)
        (folder / "python/deep").mkdir()
        for number, path in enumerate(("a.py", "deep/b.py", "test/c.py", "d.py")):
            (folder / "python" / path).write_text("\n".join(LINES[90 * number :][:90]))
        (folder / "python/latin.py").write_bytes(b"\xe9")
        topics = {f"topic {n}": "\n".join(LINES[20 * n :][:20]) for n in range(20)}
        PATCH.setattr(pydoc_data.topics, "topics", topics)
        PATCH.setattr(sysconfig, "get_path", lambda name: str(folder / "python"))
        return {"corpus.train": [name]}

    return write


PATCH = pytest.MonkeyPatch()
COMBINING = "".join(
    random.Random(2).choices(["e", "\u0301", "\u0327", "a b", "\n", "\u1112", "\u1161", "\u11ab"], k=9000)
)

# name of the corpus → the function that writes its texts, and its settings
CORPORA: dict[str, tuple[Callable[[Path], Changes], Changes]] = {
    "bytes of files": (files, BYTES),
    "words of a file": (records("txt"), {"tokenizer.kind": "word", "tokenizer.min_count": 2}),
    "lines": (records("txt"), {**LINE_BY_LINE, "corpus.split_by": "document", "corpus.shuffle_seed": 3}),
    "compressed lines": (records("txt.gz"), LINE_BY_LINE),
    "JSON Lines": (records("jsonl"), {**BYTES, "corpus.deduplicate": True}),
    "Parquet": (records("parquet"), {**BYTES, "corpus.weights": [1.5]}),
    "a saved dataset": (records("saved"), {"tokenizer.kind": "char", "corpus.min_characters": 30}),
    "shuffled files, learnt merges": (files, {"tokenizer.kind": "bpe", "tokenizer.vocab_size": 300,
                                              "corpus.shuffle_seed": 1, "corpus.split_by": "fraction",
                                              "corpus.test_fraction": 0.1}),
    "compressed files": (compressed_files, {**BYTES, "corpus.test_fraction": 0.2}),
    "chosen files": (files_to_choose_from, {**BYTES, "corpus.deduplicate": True, "corpus.min_characters": 3,
                                            "corpus.valid_fraction": 0.4,
                                            "corpus.encoding_errors": "skip"}),
    "replaced bytes of files": (files_to_choose_from, {"tokenizer.kind": "char", "corpus.encoding_errors": "replace"}),
    "odd lines": (raw("a.txt", b"\xef\xbb\xbf" + "\n".join(ODD).encode() + b"\n\xff\n\n"),
                  {**LINE_BY_LINE, "corpus.encoding_errors": "skip", "corpus.max_characters": 60}),
    "odd paragraphs": (raw("a.txt", "\r\n \n".join(ODD).encode() + b"\xff\n\n"),
                       {**BYTES, "corpus.document": "paragraph", "corpus.encoding_errors": "replace",
                        "corpus.deduplicate": True, "corpus.shuffle_seed": 2}),
    "paragraphs, compressed and normalised": (raw("a.txt.bz2", bz2.compress("\n\n".join(ODD).encode())),
                                              {"tokenizer.kind": "char", "corpus.document": "paragraph",
                                               "corpus.normalize": "NFKC"}),
    "a normalised text": (raw("a.txt", COMBINING.encode()), {**BYTES, "corpus.normalize": "NFC"}),
    "odd records, some left out": (odd_json, {**BYTES, "corpus.encoding_errors": "skip", "corpus.min_characters": 2,
                                              "corpus.normalize": "NFC", "corpus.deduplicate": True}),
    "odd records, replaced": (odd_json, {"tokenizer.kind": "word", "corpus.encoding_errors": "replace",
                                         "corpus.split_by": "document", "corpus.valid_fraction": 0.3}),
    "compressed JSON Lines": (records("jsonl.gz"), {**BYTES, "corpus.shuffle_seed": 5, "corpus.valid_fraction": 0.2}),
    "Parquet by documents": (records("parquet"), {**BYTES, "corpus.split_by": "document", "corpus.shuffle_seed": 5}),
    "three splits without duplicates": (held_out_apart, {**LINE_BY_LINE, "corpus.deduplicate": True}),
    "a mixture": (mixture, {**LINE_BY_LINE, "corpus.shuffle_seed": 1}),
    "slices of a saved dictionary": (slices, {"tokenizer.kind": "word", "tokenizer.sample_bytes": 5000}),
    "a folder of data": (folder_of_data(""), BYTES),
    "a streamed folder of data": (folder_of_data("?streaming=1"), {**BYTES, "corpus.valid_fraction": 0.25}),
    "topics": (builtin("builtin:python-docs"), {"tokenizer.kind": "bpe", "tokenizer.vocab_size": 290}),
    "a library": (builtin("builtin:python-stdlib"), BYTES),
    "BPE of SentencePiece": (records("txt"), {"corpus.document": "line",
                                              "tokenizer.path": str(HERE / "sentencepiece/bpe.model")}),
    "Unigram of SentencePiece": (files, {"tokenizer.path": str(HERE / "sentencepiece/unigram.model")}),
    "many blocks of lines": (raw("a.txt", "\n".join(LINES * 500).encode()),
                             {**BYTES, "corpus.document": "line", "data.shard_tokens": 3_000_000}),
    "many blocks of a text": (raw("a.txt.gz", gzip.compress("\n".join(LINES * 500).encode(), 1)),
                              {**BYTES, "corpus.valid_fraction": 0, "data.shard_tokens": 3_000_000}),
}  # fmt: skip
