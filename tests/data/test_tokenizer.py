"""Each tokenizer against ids written by hand, and the promise that safe cuts change nothing."""

import random
from collections import Counter

import numpy as np
import pytest

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import Tokenizer, load_tokenizer, pieces, train_tokenizer
from pipeline.data.tokenizer.training import Counts, count

TEXT = "the cat sat\nthe mat\n\non the mat"
UNICODE = "naïve café — 東京\n 日本語\u3000text\n\tαβγ\r\nend 😀 ok\n" * 40


def make(kind: str, text: str = TEXT, *, num_documents: int = 1, **settings: object) -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind=kind, **settings), [text], num_documents=num_documents)  # type: ignore[arg-type]


def test_words_with_eos_per_line() -> None:
    tokenizer = make("word")
    # <unk>, <eos>, then by decreasing count, then by text
    assert tokenizer.types == ["<unk>", "<eos>", "the", "mat", "cat", "on", "sat"]  # type: ignore[attr-defined]
    assert tokenizer.encode(TEXT).tolist() == [2, 4, 6, 1, 2, 3, 1, 1, 5, 2, 3, 1]
    assert tokenizer.decode(tokenizer.encode(TEXT)) == "the cat sat\nthe mat\n\non the mat\n"
    assert tokenizer.encode("the dog").tolist() == [2, 0, 1]
    assert tokenizer.unknown_in("the dog") == {"dog"}


def test_unk_in_the_text_is_the_unknown_type() -> None:
    tokenizer = make("word", "a <unk> a b\n", eos="none")
    assert tokenizer.types == ["<unk>", "a", "b"]  # type: ignore[attr-defined]
    assert tokenizer.encode("b <unk> zzz").tolist() == [2, 0, 0]


def test_vocabulary_cut_off_by_size_and_by_count() -> None:
    assert make("word", vocab_size=3).types == ["<unk>", "<eos>", "the"]  # type: ignore[attr-defined]
    assert make("word", min_count=2).types == ["<unk>", "<eos>", "the", "mat"]  # type: ignore[attr-defined]
    assert make("char", "aab", min_count=2).types == ["<unk>", "a"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        ("word", {"min_count": 9}, "tokenizer.min_count: with 9, no word of the training text has a type of its own"),
        ("word", {"vocab_size": 2}, "tokenizer.vocab_size: with 2, no word of the training text has a type of its own"),
        ("char", {"min_count": 99}, "tokenizer.min_count: with 99, no char of the training text has a type of its own"),
    ],
)
def test_a_vocabulary_without_a_type_is_refused(kind: str, settings: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}; all would be <unk>$"):
        make(kind, num_documents=2, **settings)
    assert make(kind, " \n" if kind == "word" else "", **settings).vocab_size <= 2  # there is nothing to know


def test_the_token_before_a_text_for_each_tokenizer() -> None:
    assert make("word").start_ids.tolist() == [1]
    assert make("word", eos="none").start_ids.tolist() == [0]  # white space is not a word
    assert make("char", "ab\n").start_ids.tolist() == make("char", "ab\n").encode("\n").tolist()


def test_characters() -> None:
    tokenizer = make("char", "abca😀")
    assert tokenizer.vocab_size == 5
    assert tokenizer.encode("a😀z").tolist() == [1, 4, 0]
    assert tokenizer.encode("caz").tolist() == [3, 1, 0]
    assert tokenizer.decode([1, 4, 0]) == "a😀\ufffd"
    assert tokenizer.unknown_in("az") == {"z"}


def test_bytes_are_themselves() -> None:
    tokenizer = make("byte", num_documents=2)
    assert tokenizer.vocab_size == 257
    assert tokenizer.encode_document("é").tolist() == [0xC3, 0xA9, 256]
    assert tokenizer.encode_document("é", ends=False).tolist() == [0xC3, 0xA9]
    assert tokenizer.decode([0xC3, 0xA9, 256]) == "é"
    ids, lengths = tokenizer.encode_utf8([b"a", b"", b"bc", b"d"], ends=[False, True, True, False])
    assert ids.tolist() == [97, 256, 98, 99, 256, 100]
    assert lengths.tolist() == [1, 1, 3, 1]
    assert tokenizer.encode_utf8([b"a", b"bc"])[0].tolist() == [97, 256, 98, 99, 256]


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_lossless_kinds_give_the_text_back(kind: str) -> None:
    tokenizer = make(kind, UNICODE)
    ids = tokenizer.encode(UNICODE)
    assert tokenizer.decode(ids) == UNICODE
    assert b"".join(tokenizer.decode_bytes(int(i)) for i in ids) == UNICODE.encode()


def test_eos_spelt_out_in_a_text_is_not_taken_for_the_special_type() -> None:
    tokenizer = make("bpe", "words and <eos> words\n" * 50, num_documents=2)
    assert tokenizer.eos_id is not None
    assert tokenizer.eos_id not in tokenizer.encode("a <eos> b")
    assert tokenizer.decode(tokenizer.encode_document("a <eos> b")) == "a <eos> b"


@pytest.mark.parametrize("kind", ["byte", "char", "word", "bpe"])
@pytest.mark.parametrize(
    "text", [TEXT * 30, UNICODE, "no newline at all " * 30, "\n\n \n  \n" * 20, "a\nb\u3000\n東\nc" * 20]
)
def test_pieces_cut_where_it_is_safe_encode_as_the_whole(kind: str, text: str) -> None:
    tokenizer = make(kind, text)
    data = text.encode()
    whole = tokenizer.encode_document(text)
    source = random.Random(0)
    for _ in range(20):
        cut = tokenizer.safe_cut(data, source.randrange(1, len(data)))
        if cut is None:
            continue
        head = tokenizer.encode_document(data[:cut].decode(), ends=False)
        tail = tokenizer.encode_document(data[cut:].decode())
        np.testing.assert_array_equal(np.concatenate([head, tail]), whole)


@pytest.mark.parametrize("kind", ["byte", "char", "word", "bpe"])
def test_a_saved_and_loaded_tokenizer_is_the_same(kind: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    tokenizer = make(kind, UNICODE)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.fingerprint == tokenizer.fingerprint
    del loaded.serialized  # the bytes of the file; when made again they are the same
    assert loaded.serialized == tokenizer.serialized
    np.testing.assert_array_equal(loaded.encode(UNICODE), tokenizer.encode(UNICODE))
    (tmp_path / "tokenizer.json").write_text('{"kind": "char"')
    with pytest.raises(ValueError, match=r"tokenizer\.json: not a tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kind": "char", "eos": "line"}, r"tokenizer\.eos"),
        ({"kind": "byte", "vocab_size": 100}, r"tokenizer\.vocab_size"),
        ({"kind": "bpe", "vocab_size": 100}, r"tokenizer\.vocab_size"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_the_order_and_the_cuts_of_the_texts_do_not_change_the_tokenizer(kind: str) -> None:
    config = TokenizerConfig(kind=kind, min_count=2)  # type: ignore[arg-type]
    texts = [f"{UNICODE}{word} {word * 2}\n" for word in ("one", "two", "two", "<eos>", "\u3000", "")]
    first = train_tokenizer(config, texts, num_documents=2)
    for other in (texts[::-1], ["".join(texts)], [f"{line}\n" for text in texts for line in text.split("\n")[:-1]]):
        if kind == "bpe" and len(other) > len(texts):  # \r\n is one word at a text's end, two elsewhere
            continue
        assert train_tokenizer(config, other, num_documents=2).fingerprint == first.fingerprint


def test_counts_of_parts_add_up_to_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [TEXT, UNICODE, "", "a\u2003b \x00 c"]
    words = Counter(word for text in texts for word in text.split())
    characters = Counter("".join(texts))
    batches = [[text.encode() for text in texts], [], [texts[1].encode()]]
    words.update(texts[1].split())
    characters.update(texts[1])
    for group_bytes in (5, 1 << 20):
        monkeypatch.setattr(pieces, "GROUP_BYTES", group_bytes)
        for kind, expected in (("word", words), ("char", characters)):
            assert numbers_of(count(kind, batches)) == expected
            parts = [count(kind, [[text]]) for batch in batches for text in batch]
            assert numbers_of(Counts.sum_of(parts)) == expected
    assert numbers_of(Counts.sum_of([])) == {}


def numbers_of(counts: Counts) -> dict[str, int]:
    pairs = zip(counts.texts.to_pylist(), counts.numbers.tolist(), strict=True)
    return {text.decode(): number for text, number in pairs}


def test_types_of_equal_count_are_in_the_order_of_their_characters() -> None:
    # U+FF21 comes before U+1F600, though not in UTF-16
    tokenizer = make("word", "b \U0001f600 \uff21 é a B é b", vocab_size=8)
    assert tokenizer.types == ["<unk>", "<eos>", "b", "é", "B", "a", "\uff21", "\U0001f600"]  # type: ignore[attr-defined]
    # the special types take no other type's place
    assert make("word", "<eos> <eos> <unk> b a a", vocab_size=4).types == ["<unk>", "<eos>", "a", "b"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["byte", "char", "word", "bpe"])
@pytest.mark.parametrize("eos", ["document", "none"])
def test_many_documents_encoded_at_once_get_the_ids_of_each_alone(
    kind: str, eos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = make(kind, UNICODE, eos=eos)
    lines = UNICODE.split("\n")[:6]
    for texts in ([*lines, "", "new ü", ""], ["", ""], ["", "one"], ["ascii", "", "only"], []):
        for ends in ([True] * len(texts), [False] * len(texts), [n % 3 > 0 for n in range(len(texts))]):
            expected = [tokenizer.encode_document(t, ends=e).tolist() for t, e in zip(texts, ends, strict=True)]
            for group_bytes in (3, 1 << 20):
                monkeypatch.setattr(pieces, "GROUP_BYTES", group_bytes)
                ids, lengths = tokenizer.encode_utf8([text.encode() for text in texts], ends=ends)
                assert ids.tolist() == [i for row in expected for i in row]
                assert lengths.tolist() == [len(row) for row in expected]
                assert ids.dtype == tokenizer.dtype
