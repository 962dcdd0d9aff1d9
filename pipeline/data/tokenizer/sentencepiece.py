"""SentencePiece models (Kudo & Richardson 2018), encoded and decoded by the ``sentencepiece`` package itself."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.data.tokenizer.base import CONTEXT, Ids, Tokenizer
from pipeline.data.tokenizer.bpe import SAMPLE
from pipeline.data.tokenizer.characters import CUT, binary_array
from pipeline.data.tokenizer.pieces import Group, encode_in_groups, join_rows
from pipeline.data.tokenizer.word_ids import WordIds
from pipeline.errors import UserError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

SPACE_MARK = "\u2581"  # what the model has for a space
# fields of the messages of sentencepiece_model.proto, and the model types
TRAINER, NORMALIZER = 2, 3
MODEL_TYPE, BYTE_FALLBACK, AS_SUFFIX = 3, 35, 24
CHARACTER_MAP, DUMMY_PREFIX, REMOVE_EXTRA = 2, 3, 4
UNIGRAM, WORD = 1, 3
# fields of its SentencePieceText, and of each of its pieces
PIECES, ID, SURFACE = 2, 2, 3
# a NormalizerSpec with an empty character map, no dummy prefix and no removal of white space, as field 3 of a model:
# protocol buffers merge what is appended
AS_IT_IS = bytes([3 << 3 | 2, 6, 2 << 3 | 2, 0, 3 << 3, 0, 4 << 3, 0])
# a type that stays within one word with the spaces before it
WITHIN_WORD = re.compile(f"{SPACE_MARK}*[^{SPACE_MARK}]*")
# before a single space between two characters that are not white space
BEFORE_SPACE_IN_BYTES = re.compile(rb"(?<=[^\0- ])(?= [^\0- ])")
UNKNOWN_RUNS = "\u2603\u2603 \u2603\u2603  \u2603 "


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model as it is, with an ``<eos>`` that is added to its types.

    Ids and texts are those of the package. If no type of a model reaches from one word into the next (and it is not
    Unigram, which adds up the scores of the whole text and is fast as it is), each distinct word of the normalized
    text is encoded once and then looked up.

    Raises:
        UserError: ``model`` is not such a model.
    """

    kind = "sentencepiece"
    unit = "token"

    def __init__(self, eos: str, model: bytes) -> None:
        super().__init__(eos)
        self.model = model
        try:
            fields = dict(fields_in(model))  # of repeated fields, the last value
            self.trainer, self.normalizer = (dict(fields_in(fields[number])) for number in (TRAINER, NORMALIZER))
            self.processor = processor_of(model)
        except (LookupError, TypeError, ValueError, RuntimeError):
            raise UserError("not a SentencePiece model, or a damaged one") from None
        self.num_types = self.processor.get_piece_size()
        self.eos_id = self.num_types if eos == "document" else None
        if not self.trainer.get(BYTE_FALLBACK):
            self.unk_id = next(i for i in range(self.num_types) if self.processor.is_unknown(i))
        self.bytes_of: dict[int, bytes] = {}  # of the types met so far
        self.is_lossless = (
            not self.normalizer.get(CHARACTER_MAP)
            and b"".join(map(self.decode_bytes, self.processor.encode(SAMPLE))) == SAMPLE.encode()
        )

    @property
    def vocab_size(self) -> int:
        return self.num_types + (self.eos_id is not None)

    def encode(self, text: str) -> Ids:
        return self.encode_documents([text], ends=[False])[0]

    def encode_documents(self, texts: Sequence[str], *, ends: Sequence[bool] | None = None) -> tuple[Ids, Ids]:
        return self.encode_utf8([text.encode() for text in texts], ends=ends)

    def encode_utf8(self, texts: Sequence[bytes], *, ends: Sequence[bool] | None = None) -> tuple[Ids, Ids]:
        return encode_in_groups(self._encode_group, texts, ends=ends, dtype=self.dtype, cut=self.safe_cut)

    def _encode_group(self, group: Group) -> tuple[Ids, Ids]:
        if self._word_ids is not None:
            return self._look_up(self._word_ids, group)
        rows = self.processor.encode([text.decode() for text in group.texts])
        return join_rows(rows, group.ends, eos_id=self.eos_id, dtype=self.dtype)

    def _look_up(self, word_ids: WordIds, group: Group) -> tuple[Ids, Ids]:
        texts = [text.decode() for text in group.texts]
        normalised = [text.encode() for text in self.processor.normalize(texts)]
        ids, counts = word_ids.encode(group._replace(texts=normalised))
        if self.unk_id is None:
            return ids, counts
        # consecutive unknown types in a text are one, even across words
        is_again = np.zeros(len(ids), dtype=bool)
        is_again[1:] = (ids[1:] == self.unk_id) & (ids[:-1] == self.unk_id)
        text_of = np.repeat(np.arange(len(counts)), counts)
        is_again[1:] &= text_of[1:] == text_of[:-1]
        return ids[~is_again], counts - np.bincount(text_of[is_again], minlength=len(counts))

    @cached_property
    def _stays_within_words(self) -> bool:
        names = map(self.processor.id_to_piece, range(self.num_types))
        return not self.trainer.get(AS_SUFFIX) and all(map(WITHIN_WORD.fullmatch, names))

    @cached_property
    def _word_ids(self) -> WordIds | None:
        """Look up words, if that gives the ids of the whole text; None if not."""
        if self.trainer.get(MODEL_TYPE, UNIGRAM) == UNIGRAM or not self._stays_within_words:
            return None
        end = [] if self.eos_id is None else [self.eos_id]
        words = processor_of(self.model + AS_IT_IS)
        found = WordIds(split_marked, words.encode, end=end, dtype=self.dtype)
        texts = [SAMPLE, UNKNOWN_RUNS, *SAMPLE.split(), SAMPLE.upper()]
        ids, counts = self._look_up(found, Group([text.encode() for text in texts], [False] * len(texts), 0))
        rows = np.split(ids, np.cumsum(counts)[:-1])
        return found if [row.tolist() for row in rows] == self.processor.encode(texts) else None

    @cached_property
    def _may_be_cut(self) -> bool:
        """Whether parts of a text cut before a space can have the ids of the whole.

        A dummy prefix must take the place of the space, which must otherwise be kept. And in a model of words, two
        unknown words are one type, which cannot be seen from the second one.
        """
        normalizer = self.normalizer
        return (
            self._stays_within_words
            and bool(normalizer.get(DUMMY_PREFIX, 1)) == bool(normalizer.get(REMOVE_EXTRA, 1))
            and self.trainer.get(MODEL_TYPE) != WORD
            and self.processor.piece_to_id(SPACE_MARK) != self.processor.unk_id()
        )

    def _is_cut(self, head: str, tail: str) -> bool:
        """Whether a text may be cut here in spite of normalization, which may have rules of its own."""
        whole, *parts = self.processor.encode([head + tail, head, tail])
        return bool(whole == parts[0] + parts[1])

    def safe_cut(self, data: bytes, start: int) -> int | None:
        for found in BEFORE_SPACE_IN_BYTES.finditer(data, start) if self._may_be_cut else ():
            cut = found.start()
            parts = data[max(0, cut - CONTEXT) : cut], data[cut : cut + CONTEXT]
            if self._is_cut(*(part.decode(errors="ignore") for part in parts)):
                return cut
        return None

    def _unknown_parts(self, text: str) -> list[str]:
        message = self.processor.encode(text, out_type="serialized_proto")
        pieces = [dict(fields_in(part)) for number, part in fields_in(message) if number == PIECES]
        return [bytes(piece[SURFACE]).decode() for piece in pieces if piece.get(ID, 0) == self.unk_id]

    def decode(self, ids: Ids | list[int]) -> str:
        known = [int(i) for i in np.asarray(ids) if i != self.eos_id]
        return str(self.processor.decode(known)) if known else ""

    def decode_bytes(self, token: int) -> bytes:
        """As in ``Tokenizer``; without the spaces put around unknown text, which do not separate words."""
        token = int(token)
        if token not in self.bytes_of:
            self.bytes_of[token] = self._bytes_of(token)
        return self.bytes_of[token]

    def _bytes_of(self, token: int) -> bytes:
        processor = self.processor
        if not 0 <= token < self.num_types or processor.is_control(token):
            return b""
        name: str = processor.id_to_piece(token)
        if processor.is_byte(token):
            return bytes.fromhex(name[3:5])
        if processor.is_unknown(token):
            return str(processor.decode([token])).strip().encode()
        return name.replace(SPACE_MARK, " ").encode()

    def _content(self) -> dict[str, Any]:
        return {"model": base64.b64encode(self.model).decode()}

    @classmethod
    def from_content(cls, eos: str, content: dict[str, Any]) -> SentencePieceTokenizer:
        return cls(eos, base64.b64decode(content["model"], validate=True))


def processor_of(model: bytes) -> SentencePieceProcessor:
    """What encodes with ``model``."""
    from sentencepiece import SentencePieceProcessor  # only if there is such a model

    return SentencePieceProcessor(model_proto=model)


def fields_in(message: Any) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a protocol-buffer message; a value is an integer or bytes.

    Raises:
        LookupError, ValueError: it is not such a message.
    """
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
            continue
        length = number() if key & 7 == 2 else {1: 8, 5: 4}[key & 7]
        if at + length > len(message):
            raise ValueError("cut short")
        yield key >> 3, message[at : at + length]
        at += length


def split_marked(data: bytes) -> pa.BinaryArray:
    """The words of normalized texts, each with the marks before it; ``END`` and ``CUT`` are words between texts."""
    values = np.frombuffer(data, dtype=np.uint8)
    first, second, third = SPACE_MARK.encode()
    is_mark = np.zeros(len(values) + 3, dtype=bool)  # where a mark begins, shifted by three: false before the beginning
    is_mark[3:-2] = (values[:-2] == first) & (values[1:-1] == second) & (values[2:] == third)
    starts = is_mark[3:] & ~is_mark[:-3]
    is_edge = values >= CUT[0]
    starts |= is_edge
    starts[1:] |= is_edge[:-1]
    starts[:1] = True
    return binary_array(values, np.flatnonzero(starts))
