"""Words counted from tokens equal those of ``str.split``, for every kind of tokenizer, wherever the text is cut."""

import random
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, pre_tokenizers

from pipeline.config import DataConfig, TokenizerConfig, TrainConfig
from pipeline.data.documents import Documents
from pipeline.data.streams import Streams
from pipeline.data.tokenizer import ByteTokenizer, LoadedTokenizer, SentencePieceTokenizer, Tokenizer, train_tokenizer
from pipeline.data.windows import ArrayTokens
from pipeline.data.word_counts import WordBegins
from pipeline.errors import UserError
from tests.data.sentencepiece_models import train
from tests.evaluate.test_words import bpe_apart, bpe_behind, word_piece

# every kind of white space in Python, of one, two and three bytes in UTF-8
SPACES = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"
# what only looks like white space, and characters of one to four bytes
OTHERS = "abAB.,'-3\x00\u200b\ufeff\u00a1é\u2010東京\u2027\u3001😀"
PLAIN = "the cat's mat, it's 3.5 (or so); no-one sat. a b ab ba"


def random_text(source: random.Random, *, spaces: str = SPACES, others: str = OTHERS) -> str:
    parts = source.choices([spaces, others], weights=[1, 2], k=source.randrange(40))
    return "".join(source.choice(part) for part in parts)


def texts(num: int, **characters: str) -> list[str]:
    source = random.Random(4)
    return [random_text(source, **characters) for _ in range(num)]


def trained(kind: str, **settings: object) -> Tokenizer:
    documents = [*texts(60), PLAIN]
    config = TokenizerConfig(kind=kind, **{"eos": "document", **settings})  # type: ignore[arg-type]
    return train_tokenizer(config, documents, num_documents=len(documents))


def sentencepiece(model_type: str, **options: object) -> Tokenizer:
    lines = [PLAIN, *(" ".join(text.split()) for text in texts(60)), *[OTHERS[:8]] * 9]
    return SentencePieceTokenizer(
        "document", train(lines, vocab_size=400, model_type=model_type, hard_vocab_limit=False, **options)
    )


AS_IT_IS = {"normalization_rule_name": "identity", "byte_fallback": True}
TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "byte": lambda: ByteTokenizer("document"),
    "byte, no end": lambda: ByteTokenizer("none"),
    "char": lambda: trained("char"),
    "word": lambda: trained("word"),
    "word, by line": lambda: trained("word", eos="line"),
    "bpe": lambda: trained("bpe", vocab_size=400),
    "bpe, no end": lambda: trained("bpe", vocab_size=400, eos="none"),
    "unigram": lambda: sentencepiece("unigram", **AS_IT_IS, remove_extra_whitespaces=False),
    "sentencepiece bpe": lambda: sentencepiece("bpe", **AS_IT_IS),
}
MAKE = cache(lambda name: TOKENIZERS[name]())


@pytest.mark.parametrize("name", TOKENIZERS)
def test_words_of_random_texts_are_those_of_split(name: str) -> None:
    tokenizer = MAKE(name)
    begins = WordBegins(tokenizer)
    documents = texts(200)
    ids, lengths = tokenizer.encode_documents(documents)
    starts = np.cumsum(lengths) - lengths
    found = begins(ids, starts[lengths > 0])
    expected = [len(text.split()) for text in documents]
    assert [int(part.sum()) for part in np.split(found, starts[1:])] == expected
    if tokenizer.is_lossless:  # the tokens stand for the whole text
        rows = np.split(ids, starts[1:])
        assert [len(tokenizer.decode(row).split()) for row in rows] == expected
    # any part of the sequence has the counts that it has in the whole
    tokens, source = ArrayTokens(ids, starts=np.unique(starts[lengths > 0])), random.Random(5)
    for _ in range(100):
        start, stop = sorted(source.choices(range(len(ids) + 1), k=2))
        assert begins.of_part(tokens, start, stop).tolist() == found[start:stop].tolist()


@pytest.mark.parametrize("make", [bpe_behind, bpe_apart, word_piece])
def test_words_are_counted_wherever_a_tokenizer_puts_the_white_space(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    begins = WordBegins(tokenizer)
    for text in texts(100, spaces=" ", others="ab"):
        ids = tokenizer.encode(text)
        assert begins(ids, np.zeros(min(1, len(ids)), dtype=np.int64)).sum() == len(text.split())


def test_words_of_a_normalizing_model_in_texts_without_odd_characters() -> None:
    for model_type in ("unigram", "bpe"):
        tokenizer = sentencepiece(model_type)
        begins = WordBegins(tokenizer)
        for text in texts(100, spaces=" \n\t\u3000", others="abc.,é"):
            ids = tokenizer.encode(text)
            assert begins(ids, np.zeros(min(1, len(ids)), dtype=np.int64)).sum() == len(text.split())


def test_a_tokenizer_that_loses_white_space_is_refused() -> None:
    types = ["[UNK]", "one", "two", ",", "'", "the"]
    engine = HuggingFaceTokenizer(models.WordLevel({t: i for i, t in enumerate(types)}, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()  # separates punctuation from words
    with pytest.raises(UserError, match=r"does not keep the white space .* in 'one, one' it finds 3 words, not 2"):
        WordBegins(LoadedTokenizer("document", engine))
    engine = HuggingFaceTokenizer(models.BPE({"a": 0, "b": 1}, []))
    engine.pre_tokenizer, engine.decoder = pre_tokenizers.WhitespaceSplit(), decoders.Fuse()
    with pytest.raises(UserError, match="does not keep the white space between words"):
        WordBegins(LoadedTokenizer("document", engine))


def starts_of_words(text: str) -> np.ndarray:
    """1 at each character that begins a word."""
    before = " " + text
    return np.array([b.isspace() < a.isspace() for a, b in zip(before, text, strict=False)], dtype=np.int64)


@pytest.mark.parametrize("order", ["same", "rotated"])
def test_words_of_streams_are_added_up_over_all_of_them(order: str) -> None:
    text = "".join(texts(60, spaces=" \n"))
    tokenizer = trained("char", eos="none")
    tokens, expected = ArrayTokens(tokenizer.encode(text)), starts_of_words(text)
    train = TrainConfig(bptt=7, batch_size=5, epoch_order=order, window_lengths="random")  # type: ignore[arg-type]
    data = Streams.of(tokens, train, word_begins=WordBegins(tokenizer))
    words, length = data.words, data.tokens_per_stream
    assert words is not None
    assert words.per_epoch == expected[: 5 * length].sum()
    read = 0
    for epoch in (0, 1, 4):
        read = epoch * words.per_epoch
        for window in data.windows(epoch=epoch):
            assert words.after(epoch, window.position) == read
            for row, offset in enumerate(data.offsets(epoch).tolist()):
                places = (np.arange(window.position, window.next_position) + offset) % length
                read += int(expected[row * length + places].sum())
    assert words.after(5, 0) == read == 5 * words.per_epoch


def test_words_of_documents_are_added_up_as_far_as_they_are_read() -> None:
    tokenizer = MAKE("char")
    documents = [text for text in texts(50, spaces=" \n") if text]
    ids, lengths = tokenizer.encode_documents(documents)
    tokens = ArrayTokens(ids, starts=np.cumsum(lengths) - lengths)
    train = TrainConfig(bptt=12, batch_size=4)
    assert tokenizer.eos_id is not None
    how = {"begin_id": tokenizer.eos_id, "word_begins": WordBegins(tokenizer)}
    data = Documents.of(tokens, DataConfig(layout="documents"), train, **how)  # type: ignore[arg-type]
    assert data.words is not None
    assert data.words.per_epoch == sum(len(text[:12].split()) for text in documents)
    for epoch in (0, 2):
        read = epoch * data.words.per_epoch
        for window in data.windows(epoch=epoch):
            assert data.words.after(epoch, window.position) == read
            columns = window.targets.T  # (B, T): the documents' own tokens
            read += sum(len(tokenizer.decode(column[column >= 0]).split()) for column in columns)
        assert data.words.after(epoch + 1, 0) == read
