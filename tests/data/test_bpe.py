"""Byte-pair encoding with looked-up words, against Hugging Face, which merges every text from scratch."""

import time
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import BpeTokenizer, pretokens, train_tokenizer, word_ids
from pipeline.data.tokenizer import bpe as module
from pipeline.data.tokenizer import pieces as groups
from pipeline.data.tokenizer.characters import CUT, END
from pipeline.data.tokenizer.pretokens import classify, split_pretokens

TEXT = (
    "It's what they'll've said: don't I'd've thought; we're 3.14 x2² ½ ٣٤ 'tis\r\n"
    "def f(x):\n    return {'a': -x ** 2}  # naïve — “café” 東京\u3000日本語 नमस्ते e\u0301 😀\u00a0\u2028\n\n"
) * 20
# characters at which words of every kind begin and end, and others
characters = st.one_of(
    st.sampled_from(list(" \n\t\r'stmdrevlabXY09.,!_-éßñ東日αβ١²½\u3000\u00a0\u2028\u0085\x1c\x00\u0301\u200d😀")),
    st.characters(codec="utf-8"),
)
texts = st.text(characters, max_size=40)


@cache
def tokenizer_of(eos: str = "document") -> BpeTokenizer:
    found = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=400, eos=eos), [TEXT], num_documents=2)  # type: ignore[arg-type]
    assert isinstance(found, BpeTokenizer)
    assert found._word_ids is not None
    return found


def merged(tokenizer: BpeTokenizer, text: str) -> list[int]:
    return tokenizer.engine.encode(text, add_special_tokens=False).ids


def words_of(text: str) -> list[bytes]:
    found = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    return [text[start:stop].encode() for _, (start, stop) in found]


@given(texts, texts)
def test_words_of_joined_texts_are_those_of_hugging_face(one: str, two: str) -> None:
    data = one.encode() + END + two.encode() + CUT
    assert split_pretokens(data).to_pylist() == [*words_of(one), END, *words_of(two), CUT]


def test_every_character_of_unicode_between_letters_and_after_a_space() -> None:
    points = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000 and chr(p) != "'"]
    text = "".join(f"a{chr(p)}a {chr(p)}." for p in points[:20_000] + points[20_000::37])
    assert split_pretokens(text.encode()).to_pylist() == words_of(text)


def test_white_space_of_hugging_face_is_white_space_to_python_too() -> None:
    # otherwise a text could be cut inside white space
    points = [chr(p) for p in range(0x110000) if not 0xD800 <= p < 0xE000]
    spaces = [c for c, kind in zip(points, classify("".join(points)), strict=True) if kind == pretokens.SPACE]
    assert len(spaces) == 25
    assert all(c.isspace() for c in spaces)


@given(st.lists(st.tuples(texts, st.booleans()), max_size=6), st.sampled_from(["document", "none"]))
def test_documents_get_the_ids_of_hugging_face(documents: list[tuple[str, bool]], eos: str) -> None:
    tokenizer = tokenizer_of(eos)
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    expected = [merged(tokenizer, text) + end * ends for text, ends in documents]
    ids, lengths = tokenizer.encode_documents([t for t, _ in documents], ends=[e for _, e in documents])
    assert ids.tolist() == [i for row in expected for i in row]
    assert lengths.tolist() == [len(row) for row in expected]
    assert ids.dtype == tokenizer.dtype


@pytest.mark.parametrize("text", [TEXT, TEXT.replace("\n", " "), "ab" * 2000, " " * 3000, "a \u3000b" * 800])
def test_long_texts_cut_into_pieces_get_the_ids_of_the_whole(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "GROUP_BYTES", 50)
    for tokenizer in (tokenizer_of(), hugging_face_only(monkeypatch)):
        ids, lengths = tokenizer.encode_documents(["a b", text, "", text], ends=[True, True, False, False])
        end = [tokenizer.eos_id]
        expected = [merged(tokenizer, t) for t in ("a b", text, "", text)]
        assert ids.tolist() == [*expected[0], *end, *expected[1], *end, *expected[2], *expected[3]]
        assert lengths.tolist() == [len(expected[0]) + 1, len(expected[1]) + 1, 0, len(expected[3])]


def hugging_face_only(monkeypatch: pytest.MonkeyPatch) -> BpeTokenizer:
    with monkeypatch.context() as patched:
        patched.setattr(module, "has_plain_words", lambda engine: False)
        tokenizer = BpeTokenizer("document", tokenizer_of().engine)
        assert tokenizer._word_ids is None
    return tokenizer


def test_the_fingerprint_does_not_depend_on_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hugging_face_only(monkeypatch).fingerprint == tokenizer_of().fingerprint


def test_words_beyond_the_limit_are_forgotten_and_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of()
    monkeypatch.setattr(word_ids, "MAX_WORDS", 40)
    fresh = BpeTokenizer("none", tokenizer.engine)
    for text in ("a b c d e f", TEXT, "a b c " + " ".join(map(str, range(30)))):
        assert fresh.encode(text).tolist() == merged(tokenizer, text)


def test_another_pre_tokenizer_is_left_to_hugging_face() -> None:
    engine = type(tokenizer_of().engine).from_str(tokenizer_of().engine.to_str())
    engine.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer = BpeTokenizer("none", engine)
    assert tokenizer._word_ids is None
    assert tokenizer.encode("they said: don't").tolist() == merged(tokenizer, "they said: don't")


def test_one_giant_line_takes_time_in_proportion_to_its_length() -> None:
    tokenizer = tokenizer_of()
    line = TEXT.replace("\n", " ")

    def seconds(times: int) -> float:
        start = time.perf_counter()
        tokenizer.encode(line * times)
        return time.perf_counter() - start

    seconds(1)
    assert min(seconds(2000) for _ in range(2)) < 40 * min(seconds(200) for _ in range(3))
