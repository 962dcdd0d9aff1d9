"""Tokens become text: what is final, and what is not. Bytes that are no text."""

import io

import numpy as np
import pytest

from jobs.terminal.conversation import Conversation
from pipeline.data.tokenizer import ByteTokenizer
from pipeline.generate.text import UntilStop, text_of
from tests.generate.test_generate import make_model, make_tokenizer


def test_pieces_are_whole_characters() -> None:
    tokenizer = make_tokenizer("byte")
    pieces = list(text_of(tokenizer, [*"aé😀".encode(), 0xE2, 0x82]))
    assert pieces == ["a", "é", "😀", "\ufffd"]
    noise = np.random.default_rng(0).integers(0, 256, 2000).tolist()
    "".join(text_of(tokenizer, noise)).encode()  # raises an error if the text is not valid


def test_words_are_spaced_to_continue_the_prompt() -> None:
    tokenizer = make_tokenizer("word")
    ids = tokenizer.encode("cat sat\nthe")[:-1].tolist()
    assert "".join(text_of(tokenizer, ids, after="the")) == " cat sat\nthe"
    assert "".join(text_of(tokenizer, ids, after="")) == "cat sat\nthe"


def test_text_ends_before_the_first_stop_string() -> None:
    for stops, expected in ((["cd"], "ab"), (["xy", "e"], "abcd"), (["bcdz", "cde"], "ab"), (["fz"], "abcdef")):
        for size in (1, 2, 3):
            until = UntilStop(stops)
            pieces = [until.push("abcdef"[i : i + size]) for i in range(0, 6, size)]
            assert "".join(pieces) + until.finish() == expected
    until = UntilStop(["stop"])
    assert [until.push(character) for character in "a stp"] == ["a", " ", "", "", "stp"]


def test_a_character_does_not_go_on_in_the_next_document() -> None:
    tokenizer = ByteTokenizer("document")
    end = tokenizer.eos_id
    assert end == 256
    first, rest = "€".encode()[:2], "€".encode()[2:]
    assert "".join(text_of(tokenizer, [97, *first, end, *rest, 98])) == "a\ufffd\n\n\ufffdb"
    assert "".join(text_of(tokenizer, [*first, *rest, end, 98])) == "€\n\nb"


def test_a_conversation_goes_on_after_a_line_that_is_not_utf_8(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n/set tokens 1\nthe\n"), encoding="utf-8"))
    Conversation(make_model(256), ByteTokenizer("none"), 4, 1).run()
    written, complaints = capsys.readouterr()
    assert complaints.splitlines()[1:] == ["error: prompt: 'caf\\udce9' is not UTF-8"]
    assert "the" in written
