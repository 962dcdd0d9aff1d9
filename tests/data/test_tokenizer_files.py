"""Damaged tokenizer files of any kind: refused in a sentence, or read as a tokenizer that encodes and decodes."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import ByteTokenizer, train_tokenizer
from pipeline.data.tokenizer.files import parse
from pipeline.errors import UserError
from tests.data.sentencepiece_models import train

TEXT = "the end of it all, the other end\n" * 3
VALUES: list[Any] = [None, 0, -1, 5, 1e9, 1 << 32, (1 << 32) - 1, "x", "", [], {}, True, "▁"]


def hugging_face() -> bytes:
    engine = HuggingFaceTokenizer(models.BPE({"t": 0, "h": 1, "e": 2, "th": 3, "▁": 4, "<unk>": 5}, [("t", "h")]))
    engine.model.unk_token = "<unk>"
    engine.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", "▁")])
    engine.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    engine.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    engine.add_special_tokens(["<s>", "[UNK]"])
    return engine.to_str().encode()


def files() -> dict[str, bytes]:
    """Kind of tokenizer → the bytes of its file."""
    kinds = ("byte", "char", "word", "bpe")
    made = {kind: train_tokenizer(TokenizerConfig(kind=kind), [TEXT], num_documents=2) for kind in kinds}  # type: ignore[arg-type]
    found = {kind: tokenizer.serialized for kind, tokenizer in made.items()}
    model = train(["the end of it all"] * 3, normalization_rule_name="identity", vocab_size=40)
    return {**found, "sentencepiece": parse(model, "document").serialized, "hugging face": hugging_face()}


def changed(data: bytes, source: random.Random) -> bytes:
    """``data`` with one bit, or one of its values as JSON, changed."""
    if source.random() < 0.5:
        at = source.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << source.randrange(8)]) + data[at + 1 :]
    values = place = json.loads(data)
    while True:
        key = source.choice(list(place)) if isinstance(place, dict) else source.randrange(len(place))
        if not isinstance(place[key], dict | list) or not place[key] or source.random() < 0.2:
            break
        place = place[key]
    place[key] = source.choice(VALUES)
    return json.dumps(values).encode()


def test_a_damaged_tokenizer_file_is_refused_or_encodes() -> None:
    num_refused = num_read = 0
    for name, data in files().items():
        source = random.Random(name)
        for _ in range(60):
            try:
                tokenizer = parse(changed(data, source), "document")
                tokenizer.decode(tokenizer.encode(TEXT))
                num_read += 1
            except UserError:
                num_refused += 1
    assert num_refused > 100
    assert num_read > 20


def test_a_character_map_that_makes_hugging_face_panic_is_refused() -> None:
    values = json.loads(hugging_face())
    values["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    with pytest.raises(UserError, match=r"not a tokenizer\.json of Hugging Face \(Precompiled"):
        parse(json.dumps(values).encode(), "none")


def test_a_tokenizer_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ByteTokenizer("none").save(tmp_path / "tokenizer.json")
    config = TokenizerConfig(path="~/tokenizer.json")
    assert train_tokenizer(config, [], num_documents=1).kind == "byte"
