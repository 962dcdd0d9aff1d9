"""Sections of the data side: the corpus, its tokens, its shards."""

from __future__ import annotations

from typing import Literal

from pipeline.config.fields import Paths, Section, setting


class CorpusConfig(Section):
    """Where the text comes from and how it is split."""

    train: Paths = setting(
        ["builtin:python-docs"],
        "Training text: files, globs, directories, builtin:python-docs or builtin:python-stdlib.",
        min_length=1,
    )
    valid: Paths = setting([], "Validation text; empty: a part of the training text (valid_fraction).")
    test: Paths = setting([], "Test text; empty: a part of the training text (test_fraction).")
    valid_fraction: float = setting(
        0.05, "Share of the training text held out for validation where corpus.valid is empty.", ge=0, lt=1
    )
    test_fraction: float = setting(
        0.0, "Share of the training text held out for test where corpus.test is empty.", ge=0, lt=1
    )
    split_by: Literal["auto", "document", "fraction"] = setting(
        "auto",
        "How fractions are held out: whole documents (files) by hash of their name, or the tail of the text in "
        "order; auto: documents if there are at least 20, else fraction.",
    )


class TokenizerConfig(Section):
    """How text becomes token ids."""

    kind: Literal["byte", "char", "word", "bpe"] = setting("bpe", "The unit of text that one token stands for.")
    vocab_size: int | None = setting(
        None, "Most types kept, special tokens included; null: all of them (bpe: 8192).", unit="types", ge=2
    )
    min_count: int = setting(1, "Words or characters seen less often in training become <unk>.", unit="times", ge=1)
    eos: Literal["auto", "line", "document", "none"] = setting(
        "auto", "Where <eos> stands: after every line, every document or nowhere; auto: line for words, else document."
    )


class DataConfig(Section):
    """The prepared corpus: Arrow shards of token ids."""

    directory: str | None = setting(
        None, "Where the shards lie; null: data/<config name>-<hash of the corpus and tokenizer settings>."
    )
    shard_tokens: int = setting(16_777_216, "Target size of a shard.", unit="tokens", ge=1024)
