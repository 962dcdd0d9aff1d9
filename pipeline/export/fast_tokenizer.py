"""Our tokenizers as Hugging Face's ``tokenizer.json`` files, which give the same ids.

One difference is intended: a word tokenizer of lines does not end a text that stops within a line with ``<eos>``, so
that a model continues that line, as it does in ``jobs.generate``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from pipeline.data.tokenizer import (
    EOS,
    UNK,
    BpeTokenizer,
    ByteTokenizer,
    CharTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordTokenizer,
)
from pipeline.data.tokenizer.bpe import BYTE_OF
from pipeline.errors import UserError
from pipeline.export.sentencepiece_engine import engine_of

# names for <eos> if the vocabulary already has a type of that name
OTHER_NAMES = ("<|endoftext|>", "<|eos|>", "<|end of document|>")
FORMS = {"NFC": normalizers.NFC, "NFKC": normalizers.NFKC}  # of corpus.normalize


@dataclass(frozen=True)
class FastTokenizer:
    """The engine and the names of its special types; None: there is none."""

    engine: HuggingFaceTokenizer
    eos: str | None
    unk: str | None


def fast_tokenizer(tokenizer: Tokenizer) -> FastTokenizer:
    """The fast form of ``tokenizer``. Raises ``UserError`` for a kind that has none."""
    if isinstance(tokenizer, ByteTokenizer):
        engine = _of_bytes()
    elif isinstance(tokenizer, CharTokenizer):
        engine = _of_characters(tokenizer)
    elif isinstance(tokenizer, WordTokenizer):
        engine = _of_words(tokenizer)
    elif isinstance(tokenizer, BpeTokenizer):
        engine = HuggingFaceTokenizer.from_str(tokenizer.engine.to_str())
        engine.post_processor = None  # it would put types around a text ([CLS], <s>); ours puts none
    elif isinstance(tokenizer, SentencePieceTokenizer):
        engine = engine_of(tokenizer)
    else:
        raise UserError(f"a {tokenizer.kind} tokenizer has no form that transformers reads", argument="format")
    if tokenizer.normal_form is not None:
        form = FORMS[tokenizer.normal_form]()
        engine.normalizer = form if engine.normalizer is None else normalizers.Sequence([form, engine.normalizer])
    eos = None if tokenizer.eos_id is None else _name_end(engine, tokenizer.eos_id)
    unk = None if tokenizer.unk_id is None else engine.id_to_token(tokenizer.unk_id)
    return FastTokenizer(engine, eos, unk)


def _name_end(engine: HuggingFaceTokenizer, eos_id: int) -> str:
    """Return the name of ``<eos>``; add it as a type of its own if the engine has none with that id."""
    if (name := engine.id_to_token(eos_id)) is not None:
        engine.add_special_tokens([name])
        return name
    vocabulary = engine.get_vocab(with_added_tokens=True)
    name = next(name for name in (EOS, *OTHER_NAMES) if name not in vocabulary)
    engine.add_special_tokens([name])
    if engine.token_to_id(name) != eos_id:
        raise UserError(
            f"transformers would give {name} the id {engine.token_to_id(name)}, not {eos_id}: the ids of this "
            "tokenizer have gaps",
            argument="format",
        )
    return name


def _of_bytes() -> HuggingFaceTokenizer:
    """Byte-level BPE without merges."""
    engine = HuggingFaceTokenizer(models.BPE(BYTE_OF, []))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    engine.decoder = decoders.ByteLevel()
    return engine


def _of_characters(tokenizer: CharTokenizer) -> HuggingFaceTokenizer:
    """Every character is a word."""
    engine = HuggingFaceTokenizer(models.WordLevel(_ids(tokenizer), unk_token=UNK))
    engine.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    engine.decoder = decoders.Fuse()
    return engine


def _of_words(tokenizer: WordTokenizer) -> HuggingFaceTokenizer:
    """Words between what Python regards as white space; if lines end with ``<eos>``, each newline becomes it."""
    engine = HuggingFaceTokenizer(models.WordLevel(_ids(tokenizer), unk_token=UNK))
    spaces = "".join(f"\\x{{{ord(c):x}}}" for c in map(chr, range(sys.maxunicode)) if c.isspace())
    if tokenizer.eos == "line":
        engine.normalizer = normalizers.Replace("\n", f" {EOS} ")
    engine.pre_tokenizer = pre_tokenizers.Split(Regex(f"[{spaces}]+"), "removed")
    # a space before each word but the first; a newline for <eos>, without spaces around it
    steps = [decoders.WordPiece(prefix="\ufdd0", cleanup=False), decoders.Fuse()]
    if tokenizer.eos == "line":
        steps.append(decoders.Replace(Regex(f" ?{EOS} ?"), "\n"))
    engine.decoder = decoders.Sequence(steps)
    return engine


def _ids(tokenizer: CharTokenizer | WordTokenizer) -> dict[str, int]:
    return {name: i for i, name in enumerate(tokenizer.types)}


def settings(fast: FastTokenizer) -> dict[str, object]:
    """The content of ``tokenizer_config.json``.

    A text that spells out ``<eos>`` is read as the end of a text, as everywhere in transformers (minicons needs it);
    with ``split_special_tokens=True`` it is text, as it is here.
    """
    names = {"eos_token": fast.eos, "bos_token": fast.eos, "pad_token": fast.eos or fast.unk, "unk_token": fast.unk}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        **{name: value for name, value in names.items() if value is not None},
    }


def serialized(fast: FastTokenizer) -> str:
    """The content of ``tokenizer.json``."""
    return json.dumps(json.loads(fast.engine.to_str()), ensure_ascii=False)
