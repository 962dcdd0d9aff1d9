"""Sections of the data side: the corpus, its tokens, its shards."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from pipeline.config.fields import Paths, Section, setting, shown
from pipeline.errors import UserError

Layout = Literal["streams", "documents"]
MOST_TYPES = 1 << 24  # the BPE trainer allocates memory for all of them at once


class Format(NamedTuple):
    """A file format: the class that reads it, and the endings by which ``auto`` recognises it."""

    reader: str
    endings: tuple[str, ...] = ()


FORMATS = {
    "text": Format("pipeline.data.readers.text:TextReader"),  # files with any other ending
    "jsonl": Format("pipeline.data.readers.jsonl:JsonLinesReader", (".jsonl", ".ndjson", ".json")),
    "parquet": Format("pipeline.data.readers.parquet:ParquetReader", (".parquet",)),
}


def _format(value: Any) -> Any:
    if value in ("auto", *FORMATS):
        return value
    raise UserError(f"must be auto, {' or '.join([', '.join([*FORMATS][:-1]), [*FORMATS][-1]])}, not {shown(value)}")


class CorpusConfig(Section):
    """Where the text comes from and how it is split."""

    train: Paths = setting(
        ["builtin:python-docs"],
        "Training text: files (plain, .gz, .bz2, .zst; JSON Lines, Parquet), globs, directories, URIs (s3://, gs://), "
        "hf://NAME?config=&split=&revision=&streaming=1, builtin:python-docs or builtin:python-stdlib, or "
        "made by rule to probe memory: builtin:copy, adding, dyck-2, counting, associative-recall "
        "(builtin:copy?delay=50).",
        min_length=1,
    )
    valid: Paths = setting([], "Validation text; empty: a part of the training text (valid_fraction).")
    test: Paths = setting([], "Test text; empty: a part of the training text (test_fraction).")
    valid_fraction: float = setting(
        0.05,
        "Share of the training text held out for validation if corpus.valid is empty.",
        only_with="no corpus.valid",
        ge=0,
        lt=1,
    )
    test_fraction: float = setting(
        0.0,
        "Share of the training text held out for testing if corpus.test is empty.",
        only_with="no corpus.test",
        ge=0,
        lt=1,
    )
    split_by: Literal["auto", "file", "document", "fraction"] = setting(
        "auto",
        "How fractions are held out: whole files by the hash of their name; each document by the hash of its place "
        "(every split reads the text again, but a file that is one document goes into one split); or the tail of the "
        "text in order. auto: files if there are at least 20, else fraction, or document if the text is compressed or "
        "in too few parts (row groups of Parquet).",
    )
    weights: list[Annotated[float, Field(gt=0, le=10_000)]] | None = setting(
        None,
        "How often the text of each pattern of corpus.train occurs in the training split, spread evenly (2.5: twice, "
        "and the first half once more, or half of the documents if it cannot be cut); null: once each, one after "
        "another.",
        unit="times",
    )
    format: Annotated[str, BeforeValidator(_format)] = setting(
        "auto", "Format of the files; auto: by their ending (.jsonl, .ndjson, .json, .parquet; anything else is text)."
    )
    document: Literal["file", "line", "paragraph"] = setting(
        "file",
        "What a document of a text is: the whole file, a line, or what blank lines separate. Records are documents.",
    )
    text_field: str = setting(
        "text",
        "The field of JSON Lines, Parquet and datasets that holds the text.",
        only_with="corpus.format=auto|jsonl|parquet",
        min_length=1,
    )
    normalize: Literal["NFC", "NFKC"] | None = setting(
        None, "Unicode normalisation form of every document.", source="Unicode Standard Annex 15"
    )
    min_characters: int | None = setting(None, "Shorter documents are left out.", unit="characters", ge=1)
    max_characters: int | None = setting(None, "Longer documents are left out.", unit="characters", ge=1)
    deduplicate: bool = setting(
        False,
        "Leave out documents equal to an earlier one, by hash, in the order train, valid, test; takes a first pass, "
        "and memory of 32 bytes a document.",
    )
    encoding_errors: Literal["refuse", "replace", "skip"] = setting(
        "refuse",
        "What to do about bytes that are not UTF-8: stop, replace them with U+FFFD, or leave out the document.",
    )
    shuffle_seed: int | None = setting(
        None,
        "Shuffle the training documents with this seed: files among one another; lines, paragraphs and records within "
        "a shard, and the shards; null: in order.",
        ge=0,
    )


class TokenizerConfig(Section):
    """How text becomes token ids."""

    kind: Literal["byte", "char", "word", "bpe"] = setting("bpe", "The unit of text that one token stands for.")
    path: str | None = setting(
        None,
        "An existing tokenizer, a file or URI: a tokenizer.json of Hugging Face or of a prepared corpus, or a "
        "SentencePiece model; null: one is learnt from the training text. With a path, leave out the settings for "
        "learning one.",
    )
    vocab_size: int | None = setting(
        None,
        "Maximum number of types kept, special tokens included; null: all of them (bpe: 8192).",
        unit="types",
        only_with="tokenizer.kind=char|word|bpe and no tokenizer.path",
        ge=2,
        le=MOST_TYPES,
    )
    min_count: int = setting(
        1,
        "Words or characters seen less often in training become <unk>; bpe merges no pair that is seen less often, or "
        "only once.",
        unit="times",
        only_with="tokenizer.kind=char|word|bpe and no tokenizer.path",
        ge=1,
    )
    sample_bytes: int | None = setting(
        None,
        "Size of the text, spread evenly over the training corpus, from which the vocabulary or the merges are learnt; "
        "null: all of it (bpe: 40 MiB, beyond which the merges hardly change).",
        unit="bytes",
        only_with="tokenizer.kind=char|word|bpe and no tokenizer.path",
        ge=1,
    )
    eos: Literal["auto", "line", "document", "none"] = setting(
        "auto",
        "Where <eos> is put: after every line, every document or nowhere; auto: line for words, else document, or none "
        "if the training text is a single document.",
    )


class DataConfig(Section):
    """The prepared corpus: Arrow shards of token ids."""

    directory: str | None = setting(
        None, "Where the shards are stored; null: data/<config name>-<hash of the corpus and tokenizer settings>."
    )
    shard_tokens: int | None = setting(
        None,
        "Target size of a shard; null: a sixteenth of the training split, between 1,048,576 and 16,777,216, so that "
        "even a small corpus keeps many workers busy.",
        unit="tokens",
        ge=1024,
    )
    layout: Layout = setting(
        "streams",
        "What the model reads: the text in train.batch_size streams with the state carried, or short texts (names, "
        "sentences) one by one, each from a zero state, padded, or cut off after train.bptt tokens.",
    )
    bucket_windows: int = setting(
        100,
        "Number of windows whose documents are sorted by length together, to keep padding small (layout documents); "
        "1: not sorted.",
        unit="windows",
        only_with="data.layout=documents",
        ge=1,
        le=1_000_000,
    )
