"""Tokenizers made elsewhere: any ``tokenizer.json`` of Hugging Face."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property

from tokenizers import Tokenizer as HuggingFaceTokenizer

from pipeline.data.tokenizer.base import UnknownTextError
from pipeline.data.tokenizer.bpe import BYTE_OF, SAMPLE, BpeTokenizer, has_plain_words
from pipeline.data.tokenizer.type_bytes import TypeBytes
from pipeline.errors import UserError

# before a single space between two characters that are not white space
BEFORE_SPACE, BEFORE_SPACE_IN_BYTES = re.compile(r"\S(?= \S)"), re.compile(rb"(?<=[!-\x7f])(?= [!-\x7f])")
BYTE_TYPES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
UNKNOWN = "\ufdd0unknown"  # contains a noncharacter, so that no tokenizer has it as a type
MAX_TYPES = 1 << 31


class LoadedTokenizer(BpeTokenizer):
    """A tokenizer of Hugging Face as it is, with an ``<eos>`` that is added to its types.

    A text that spells out one of its special tokens is text.

    Raises:
        UserError: it decodes in a way that is not supported here, or has no types.
    """

    kind = "loaded"
    unit = "token"

    def __init__(self, eos: str, engine: HuggingFaceTokenizer) -> None:
        engine.no_padding()
        engine.no_truncation()
        super().__init__(eos, engine)
        self.values = json.loads(engine.to_str())
        self.num_types = 1 + max(engine.get_vocab(with_added_tokens=True).values(), default=-1)
        if not 0 < self.num_types < MAX_TYPES:
            raise UserError(f"the ids of its types end at {self.num_types - 1:,}; at least one type is needed")
        self.eos_id = self.num_types if eos == "document" else None
        self.type_bytes = TypeBytes(self.values["decoder"])
        self.bytes_of: dict[int, bytes] = {}  # of the types met so far
        self.unk_id = self._find_unknown()
        self.is_lossless = self._keeps_all_of(SAMPLE)

    @property
    def vocab_size(self) -> int:
        return self.num_types + (self.eos_id is not None)

    def _find_unknown(self) -> int | None:
        model = self.values["model"]
        if self._has_all_bytes:
            return None
        return model.get("unk_id") if model["type"] == "Unigram" else model["vocab"].get(model.get("unk_token"))

    @cached_property
    def _has_all_bytes(self) -> bool:
        model = self.values["model"]
        types = {content for content, _ in model["vocab"]} if model["type"] == "Unigram" else model["vocab"].keys()
        return types >= BYTE_OF.keys() or (bool(model.get("byte_fallback")) and types >= BYTE_TYPES)

    def _keeps_all_of(self, text: str) -> bool:
        try:
            (ids,) = super()._merge([text])
        except Exception:  # Hugging Face has no narrower one: something has no type, nor has the unknown
            return False
        return b"".join(map(self.decode_bytes, ids)) == text.encode()

    def _merge(self, texts: list[str]) -> list[list[int]]:
        """As in ``BpeTokenizer``; raises ``UnknownTextError`` for a character that has no type.

        Hugging Face silently leaves such a character out (BPE), or raises a plain ``Exception``.
        """
        if self._has_all_bytes or self.unk_id is not None:
            return super()._merge(texts)
        try:
            rows = [found.ids for found in self._strict.encode_batch_fast(texts, add_special_tokens=False)]
        except Exception:
            rows = None
        if rows is None or any(self.num_types in row for row in rows):
            raise UnknownTextError(
                f"the tokenizer (tokenizer.path) has no type for {self._first_unknown(texts)!r}, and none for the "
                "unknown; add an unknown token to it, or leave that out of the text"
            )
        return rows

    @cached_property
    def _strict(self) -> HuggingFaceTokenizer:
        """The engine, with a type for the unknown if that would be left out: its id is ``num_types``."""
        if self.values["model"]["type"] != "BPE":
            return self.engine
        # added tokens get new ids unless the model has them; special tokens are text, and may be left out
        added = [token for token in self.values["added_tokens"] if not token["special"]]
        vocab = {token["content"]: token["id"] for token in added} | self.values["model"]["vocab"]
        model = {**self.values["model"], "vocab": {**vocab, UNKNOWN: self.num_types}, "unk_token": UNKNOWN}
        values = {**self.values, "added_tokens": added, "model": model}
        strict = HuggingFaceTokenizer.from_str(json.dumps(values))
        strict.encode_special_tokens = True
        return strict

    def _knows(self, text: str) -> bool:
        try:
            return self.num_types not in self._strict.encode(text, add_special_tokens=False).ids
        except Exception:
            return False

    def _first_unknown(self, texts: Sequence[str]) -> str:
        words = dict.fromkeys(word for text in texts for word in text.split())
        word = next((word for word in words if not self._knows(word)), " ")
        if self.values["model"]["type"] not in ("BPE", "Unigram"):
            return word
        return next((character for character in word if not self._knows(character)), word)

    def _unknown_parts(self, text: str) -> list[str]:
        found = self.engine.encode(text, add_special_tokens=False)
        return [text[slice(*place)] for i, place in zip(found.ids, found.offsets, strict=True) if i == self.unk_id]

    @property
    def sample(self) -> str:
        return self.known_of(SAMPLE)

    def known_of(self, text: str) -> str:
        is_all = self._has_all_bytes or self.unk_id is not None
        return text if is_all else "".join(filter(self._knows, text))

    def decode_bytes(self, token: int) -> bytes:
        token = int(token)
        if token not in self.bytes_of:
            content = self.engine.id_to_token(token)
            self.bytes_of[token] = b"" if content is None else self.type_bytes(content)
        return self.bytes_of[token]

    @cached_property
    def _has_plain_words(self) -> bool:
        return has_plain_words(self.engine)

    @cached_property
    def _may_be_cut(self) -> bool:
        """Whether a text may be cut before a single space, if its words are of another kind.

        A normalizer or pre-tokenizer may treat the beginning of a text in its own way: cut a sample to see.
        """
        cuts = [found.end() for found in BEFORE_SPACE.finditer(self.sample)]
        if self.values["pre_tokenizer"] is None or not cuts:
            return False
        (whole,) = self._merge([self.sample])
        pairs = [self._merge([self.sample[:cut], self.sample[cut:]]) for cut in cuts]
        return all(head + tail == whole for head, tail in pairs)

    def safe_cut(self, data: bytes, start: int) -> int | None:
        if self._has_plain_words:
            return super().safe_cut(data, start)
        found = BEFORE_SPACE_IN_BYTES.search(data, start) if self._may_be_cut else None
        return found.start() if found else None
