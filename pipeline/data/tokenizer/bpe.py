"""Byte-level byte-pair encoding."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer.base import Ids, Tokenizer
from pipeline.data.tokenizer.pieces import Group, encode_in_groups, join_rows
from pipeline.data.tokenizer.pretokens import split_pretokens
from pipeline.data.tokenizer.word_ids import WordIds
from pipeline.errors import UserError

DEFAULT_BPE_VOCAB_SIZE = 8192
# before white space that follows something else, or after a newline between two characters that are not white space
CUT_IN_BYTES = re.compile(rb"(?<=[^ \t-\r])(?=[ \t-\r])|(?<=[^ \t-\r]\n)(?=[^ \t-\r])")
# every kind of word, to be sure that looking words up returns what Hugging Face returns
SAMPLE = (
    "It's  what\n\n they'll've said: 'don't' I'd've thought;\twe're'S  3.14 x2² ½ ٣٤ 'tis ''s\r\n"
    "def f(x):\n    return {'a': -x ** 2}  # naïve — “café” 東京\u3000日本語 नमस्ते e\u0301 "
    "😀👍🏽\u00a0\u2028\u0085 \x1c\x00 \n "
)


class BpeTokenizer(Tokenizer):
    """Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019) by Hugging Face ``tokenizers``."""

    kind = "bpe"

    def __init__(self, eos: str, engine: HuggingFaceTokenizer) -> None:
        super().__init__(eos)
        self.engine = engine
        engine.encode_special_tokens = True  # a text that spells a special token is text
        # not one of the engine's own types, so that a text that spells it out is not taken for it
        self.eos_id = engine.get_vocab_size() if eos == "document" else None

    @property
    def vocab_size(self) -> int:
        return self.engine.get_vocab_size() + (self.eos_id is not None)

    @property
    def sample(self) -> str:
        """A text with every kind of word, used to compare ways to encode."""
        return SAMPLE

    def encode(self, text: str) -> Ids:
        return self.encode_documents([text], ends=[False])[0]

    def encode_documents(self, texts: Sequence[str], *, ends: Sequence[bool] | None = None) -> tuple[Ids, Ids]:
        return self.encode_utf8([text.encode() for text in texts], ends=ends)

    def encode_utf8(self, texts: Sequence[bytes], *, ends: Sequence[bool] | None = None) -> tuple[Ids, Ids]:
        return encode_in_groups(self._encode_group, texts, ends=ends, dtype=self.dtype, cut=self.safe_cut)

    def _encode_group(self, group: Group) -> tuple[Ids, Ids]:
        if self._word_ids is not None:
            return self._word_ids.encode(group)
        rows = self._merge([text.decode() for text in group.texts])
        return join_rows(rows, group.ends, eos_id=self.eos_id, dtype=self.dtype)

    def _merge(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text by Hugging Face."""
        return [e.ids for e in self.engine.encode_batch_fast(texts, add_special_tokens=False)]

    @cached_property
    def _word_ids(self) -> WordIds | None:
        """Look up words instead of merging them again, if they are those of ``pretokens``; None if they are not."""
        if not has_plain_words(self.engine):
            return None
        end = [] if self.eos_id is None else [self.eos_id]
        found = WordIds(split_pretokens, self._merge, end=end, dtype=self.dtype)
        ids, _ = found.encode(Group([self.sample.encode()], [False], 0))
        return found if ids.tolist() == self._merge([self.sample])[0] else None

    def decode(self, ids: Ids | list[int]) -> str:
        known = [int(i) for i in np.asarray(ids) if i != self.eos_id]
        return self.engine.decode(known, skip_special_tokens=False)

    def decode_bytes(self, token: int) -> bytes:
        if token == self.eos_id:
            return b""
        return bytes(BYTE_OF[character] for character in str(self.engine.id_to_token(token)))

    def safe_cut(self, data: bytes, start: int) -> int | None:
        for found in CUT_IN_BYTES.finditer(data, start):
            cut = found.start()
            # characters of several bytes can be white space, too
            before = data[max(0, cut - 5) : cut].decode(errors="ignore").removesuffix("\n")[-1:]
            after = data[cut : cut + 4].decode(errors="ignore")[:1]
            is_after_newline = data[cut - 1] == ord("\n")
            if before and after and not before.isspace() and after.isspace() != is_after_newline:
                return cut
        return None

    def _content(self) -> dict[str, Any]:
        return {"engine": json.loads(self.engine.to_str())}

    @classmethod
    def from_content(cls, eos: str, content: dict[str, Any]) -> BpeTokenizer:
        return cls(eos, HuggingFaceTokenizer.from_str(json.dumps(content["engine"])))


def has_plain_words(engine: HuggingFaceTokenizer) -> bool:
    """Whether ``engine`` splits every text as ``pretokens`` does, and always gives a word the same ids."""
    values = json.loads(engine.to_str())
    words = values["pre_tokenizer"] or {}
    return (
        words.get("type") == "ByteLevel"
        and not words["add_prefix_space"]
        and words.get("use_regex", True)
        and values["model"]["type"] == "BPE"
        and not values["model"]["dropout"]
        and not any(values[name] for name in ("normalizer", "truncation", "padding"))
        and all(token["special"] for token in values["added_tokens"])
    )


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE's printable stand-in for each byte → the byte (Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


BYTE_OF = _byte_alphabet()


def train_bpe(config: TokenizerConfig, eos: str, documents: Iterable[str]) -> BpeTokenizer:
    """Learn merges from ``documents``. Raises ``UserError`` for a vocabulary that cannot hold the bytes."""
    vocab_size = (config.vocab_size or DEFAULT_BPE_VOCAB_SIZE) - (eos == "document")
    if vocab_size < 257:
        raise UserError(f"tokenizer.vocab_size: bpe needs at least 258 types (256 bytes), not {config.vocab_size}")
    engine = HuggingFaceTokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=max(2, config.min_count),
        initial_alphabet=sorted(BYTE_OF),
        show_progress=False,
    )
    engine.train_from_iterator(documents, trainer)
    return BpeTokenizer(eos, engine)
