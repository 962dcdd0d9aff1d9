"""Tokens become text: what is final, and what is not. Bytes that are no text."""

import io

import pytest

from jobs.terminal.conversation import Conversation
from pipeline.data.tokenizer import ByteTokenizer
from pipeline.generate.text import text_of
from tests.generate.test_generate import make_model


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
