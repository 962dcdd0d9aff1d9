"""Words of whole texts at once, against Python's own ``split`` and a dictionary."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import WordTokenizer, pieces, train_tokenizer

SPACES = [chr(point) for point in range(0x110000) if chr(point).isspace()]
WORDS = ["the", "cat", "naïve", "東京", "😀", "\u200b", "<eos>", "<unk>", "unseen", "e\u0301"]
texts = st.lists(st.one_of(st.sampled_from([*WORDS, *SPACES, "\n"]), st.characters(codec="utf-8"))).map("".join)


@cache
def tokenizer_of(eos: str) -> WordTokenizer:
    text = " ".join(WORDS[:6] * 3)
    found = train_tokenizer(TokenizerConfig(kind="word", eos=eos), [text], num_documents=2)  # type: ignore[arg-type]
    assert isinstance(found, WordTokenizer)
    return found


def plain_ids(tokenizer: WordTokenizer, text: str, *, ends: bool) -> list[int]:
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    end_of_line = [tokenizer.eos_id] if tokenizer.eos == "line" else []
    ids = [i for line in lines for i in [*(tokenizer.id_of.get(word, 0) for word in line.split()), *end_of_line]]
    return ids + [tokenizer.eos_id] * (ends and tokenizer.eos == "document")  # type: ignore[list-item]


@given(st.lists(st.tuples(texts, st.booleans()), max_size=5), st.sampled_from(["line", "document", "none"]))
def test_documents_get_the_ids_that_python_gives(documents: list[tuple[str, bool]], eos: str) -> None:
    tokenizer = tokenizer_of(eos)
    expected = [plain_ids(tokenizer, text, ends=ends) for text, ends in documents]
    ids, lengths = tokenizer.encode_documents([t for t, _ in documents], ends=[e for _, e in documents])
    assert ids.tolist() == [i for row in expected for i in row]
    assert lengths.tolist() == [len(row) for row in expected]
    assert ids.dtype == tokenizer.dtype


def test_all_white_space_of_unicode_and_nothing_else_separates_words() -> None:
    tokenizer = tokenizer_of("line")
    assert len(SPACES) == 29
    text = "".join(f"the{space}cat " for space in SPACES) + "\u180e\u200b\u2060\ufeff"
    assert tokenizer.encode(text).tolist() == plain_ids(tokenizer, text, ends=False)
    assert tokenizer.encode(text).tolist()[-2:] == [0, tokenizer.eos_id]


@pytest.mark.parametrize("eos", ["line", "document", "none"])
def test_long_texts_cut_into_pieces_get_the_ids_of_the_whole(eos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "GROUP_BYTES", 7)
    tokenizer = tokenizer_of(eos)
    text = "the cat\u3000 \n\n naïve\tthe\r\nunseen\x85 cat the"
    assert tokenizer.encode(text).tolist() == plain_ids(tokenizer, text, ends=False)
