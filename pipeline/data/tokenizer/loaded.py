"""Tokenizers that others made: any ``tokenizer.json`` of Hugging Face, and SentencePiece models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

from tokenizers import Tokenizer as HuggingFaceTokenizer

from pipeline.data.tokenizer.bpe import BYTE_OF, SAMPLE, BpeTokenizer, has_plain_words
from pipeline.data.tokenizer.pieces import AT_WHITE_SPACE
from pipeline.data.tokenizer.sentencepiece import NO_TEXT, SPACE_MARK, convert
from pipeline.errors import UserError

BYTE_TYPE = re.compile(r"<0x([0-9A-F]{2})>")
# before the single space between two characters that are not white space
BEFORE_SPACE, BEFORE_SPACE_IN_BYTES = re.compile(r"\S(?= \S)"), re.compile(rb"(?<=[!-\x7f])(?= [!-\x7f])")


class LoadedTokenizer(BpeTokenizer):
    """A tokenizer of Hugging Face as it is, with an ``<eos>`` of its own beside its types.

    A text that spells out one of its special tokens is text.

    Raises:
        UserError: it decodes in a way that is not known here.
    """

    kind = "loaded"

    def __init__(self, eos: str, engine: HuggingFaceTokenizer) -> None:
        engine.no_padding()
        engine.no_truncation()
        super().__init__(eos, engine)
        self.values = json.loads(engine.to_str())
        self.num_types = 1 + max(engine.get_vocab(with_added_tokens=True).values())
        self.eos_id = self.num_types if eos == "document" else None
        self.bytes_of = _bytes_of_type(self.values["decoder"])
        self.added = {token["id"]: token["content"] for token in self.values["added_tokens"]}
        self.unk_id = self._find_unknown()
        self.is_lossless = b"".join(map(self.decode_bytes, self._merge([SAMPLE])[0])) == SAMPLE.encode()

    @property
    def vocab_size(self) -> int:
        return self.num_types + (self.eos_id is not None)

    def _find_unknown(self) -> int | None:
        model = self.values["model"]
        if model["type"] == "Unigram":
            return None if model.get("byte_fallback") else model["unk_id"]
        if set(BYTE_OF) <= model["vocab"].keys() or model.get("byte_fallback") or not model.get("unk_token"):
            return None
        return self.engine.token_to_id(model["unk_token"])

    def decode_bytes(self, token: int) -> bytes:
        content = self.added.get(int(token))
        if content is not None:
            return content.removeprefix(NO_TEXT).replace(SPACE_MARK, " ").encode()
        content = self.engine.id_to_token(int(token))
        return b"" if content is None else self.bytes_of(content)

    @cached_property
    def cut_in_text(self) -> re.Pattern[str] | None:
        if has_plain_words(self.engine):
            return AT_WHITE_SPACE
        # a normalizer or pre-tokenizer may treat the beginning of a text in its own way: cut a sample to see
        whole = self._merge([SAMPLE])[0]
        cuts = [found.end() for found in BEFORE_SPACE.finditer(SAMPLE)]
        pairs = [self._merge([SAMPLE[:cut], SAMPLE[cut:]]) for cut in cuts]
        is_safe = self.values["pre_tokenizer"] is not None and all(head + tail == whole for head, tail in pairs)
        return BEFORE_SPACE if is_safe else None

    def safe_cut(self, data: bytes, start: int) -> int | None:
        if self.cut_in_text is AT_WHITE_SPACE:
            return super().safe_cut(data, start)
        if self.cut_in_text is None:
            return None
        found = BEFORE_SPACE_IN_BYTES.search(data, start)
        return found.start() if found else None


def parse_tokenizer(data: bytes, eos: str) -> LoadedTokenizer:
    """The tokenizer in ``data``: a ``tokenizer.json``, or a SentencePiece model if they are not JSON.

    Raises:
        UserError: they are neither; without the file's name.
    """
    if not data.lstrip().startswith(b"{"):
        try:
            return LoadedTokenizer(eos, convert(data))
        except UserError as error:
            raise UserError(f"neither a tokenizer.json of Hugging Face nor ours, and {error}") from None
    try:
        engine = HuggingFaceTokenizer.from_str(data.decode())
    except Exception as error:
        raise UserError(f"not a tokenizer.json of Hugging Face ({error})") from None
    return LoadedTokenizer(eos, engine)


def _flatten(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if decoder is not None:
        yield decoder
        for part in decoder.get("decoders", []):
            yield from _flatten(part)


def _bytes_of_type(decoder: dict[str, Any] | None) -> Callable[[str], bytes]:
    """What turns a type into the bytes that it stands for, where ``decoder`` is what joins types to a text."""
    parts = {part["type"]: part for part in _flatten(decoder)}
    replaced = [part["pattern"] for part in _flatten(decoder) if part["type"] == "Replace"]
    if "ByteLevel" in parts:
        return lambda content: bytes(BYTE_OF[character] for character in content)
    if "Metaspace" in parts or {"String": SPACE_MARK} in replaced:
        return _marked
    if "WordPiece" in parts:
        return partial(_continued, prefix=parts["WordPiece"]["prefix"])
    if "BPEDecoder" in parts:
        suffix = parts["BPEDecoder"]["suffix"]
        return lambda content: content.replace(suffix, " ").encode()
    if not parts:
        return lambda content: f" {content}".encode()
    raise UserError(
        f"its decoder, {' and '.join(parts)}, is not known (ByteLevel, Metaspace, WordPiece, BPEDecoder are)"
    )


def _marked(content: str) -> bytes:
    if found := BYTE_TYPE.fullmatch(content):
        return bytes.fromhex(found[1])
    return content.removeprefix(NO_TEXT).replace(SPACE_MARK, " ").encode()


def _continued(content: str, *, prefix: str) -> bytes:
    return content.removeprefix(prefix).encode() if content.startswith(prefix) else f" {content}".encode()
