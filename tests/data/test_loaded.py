"""Hugging Face tokenizers taken as they are: its ids, for a text cut or whole, and clear refusals of others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from pipeline import config as configuration
from pipeline.config import Config, CorpusConfig, TokenizerConfig
from pipeline.data.counting import count_tokens
from pipeline.data.prepare import prepare_in_process
from pipeline.data.tokenizer import LoadedTokenizer, load_tokenizer, pieces, train_tokenizer
from pipeline.errors import UserError
from pipeline.evaluate import text_held_out
from pipeline.evaluate.pairs import read_pairs
from pipeline.generate.text import prompt_ids

TEXT = (
    "It's the end, they'd said; naïve “café” 東京 12345 of <s>  it all.\nThe other end: x=3.\n\n\tThe cat sat 😀.\n"
    * 20
)
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def trained(engine: Tokenizer, trainer: Any) -> Tokenizer:
    engine.train_from_iterator([TEXT], trainer)
    return engine


def gpt2() -> Tokenizer:
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    engine.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    engine.post_processor = processors.ByteLevel(trim_offsets=False)  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(engine, trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>"], initial_alphabet=alphabet))


def gpt4() -> Tokenizer:
    engine = gpt2()
    engine.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(GPT4), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return engine


def llama() -> Tokenizer:
    engine = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    engine.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])  # type: ignore[assignment]
    engine.decoder = decoders.Sequence(  # type: ignore[assignment]
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    alphabet = sorted(set(TEXT) - set("東京😀 ") | {"▁"})
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, limit_alphabet=40)
    return trained(engine, trainer)


def unigram() -> Tokenizer:
    engine = Tokenizer(models.Unigram())
    engine.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    engine.decoder = decoders.Metaspace()  # type: ignore[assignment]
    return trained(engine, trainers.UnigramTrainer(vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"]))


def word_piece() -> Tokenizer:
    engine = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
    engine.normalizer = normalizers.BertNormalizer()  # type: ignore[assignment]
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    engine.decoder = decoders.WordPiece()  # type: ignore[assignment]
    engine.enable_truncation(8)
    engine.enable_padding(length=20)
    return trained(engine, trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[UNK]", "[CLS]"]))


KINDS: dict[str, Callable[[], Tokenizer]] = {
    found.__name__: found for found in (gpt2, gpt4, llama, unigram, word_piece)
}


def load(engine: Tokenizer, path: Path, *, num_documents: int = 2) -> LoadedTokenizer:
    engine.save(str(path))
    found = train_tokenizer(TokenizerConfig(path=str(path)), [], num_documents=num_documents)
    assert isinstance(found, LoadedTokenizer)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_ids_are_those_of_hugging_face_cut_or_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = KINDS[name]()
    tokenizer = load(engine, tmp_path / "tokenizer.json")
    engine.no_padding()
    engine.no_truncation()
    engine.encode_special_tokens = True
    expected = engine.encode(TEXT, add_special_tokens=False).ids
    assert tokenizer.encode_document(TEXT).tolist() == [*expected, tokenizer.eos_id]
    assert tokenizer.eos_id == tokenizer.vocab_size - 1 == engine.get_vocab_size()
    monkeypatch.setattr(pieces, "GROUP_BYTES", 60)
    assert tokenizer.encode(TEXT).tolist() == expected
    assert (tokenizer._word_ids is not None) == (name == "gpt2")
    data = TEXT.encode()
    cuts = {tokenizer.safe_cut(data, start) for start in range(1, 400, 7)} - {None}
    assert (len(cuts) > 10) == (name != "llama")  # its merges can cross spaces
    for cut in cuts:
        head, tail = (tokenizer.encode(part.decode()).tolist() for part in (data[:cut], data[cut:]))
        assert head + tail == expected


@pytest.mark.parametrize("name", KINDS)
def test_a_tokenizer_is_saved_loaded_and_decodes_to_the_text(name: str, tmp_path: Path) -> None:
    tokenizer = load(KINDS[name](), tmp_path / "tokenizer.json")
    tokenizer.save(tmp_path / "saved.json")
    again = load_tokenizer(tmp_path / "saved.json")
    assert again.fingerprint == tokenizer.fingerprint
    assert (again.vocab_size, again.eos_id, again.unk_id) == (tokenizer.vocab_size, tokenizer.eos_id, tokenizer.unk_id)
    text = "the end of it all"
    ids = again.encode_document(text)
    assert again.decode(ids) == text
    assert b"".join(map(again.decode_bytes, ids)).decode().strip() == text
    assert tokenizer.is_lossless == (name in ("gpt2", "gpt4"))
    assert (tokenizer.unk_id is None) == (name in ("gpt2", "gpt4", "llama"))
    if tokenizer.unk_id is not None:
        assert tokenizer.unk_id in tokenizer.encode("ж")


def test_a_corpus_is_prepared_with_it(make_config: Callable[..., Config], tmp_path: Path) -> None:
    path, text = tmp_path / "tokenizer.json", tmp_path / "text.txt"
    gpt4().save(str(path))
    text.write_text(TEXT * 20)
    config = make_config({"corpus.train": [str(text)], "tokenizer.path": str(path), "tokenizer.kind": "bpe"})
    counts = count_tokens(config)
    assert (counts.vocab_size, counts.is_exact) == (300, False)
    corpus = prepare_in_process(config)
    sequence = corpus.splits["train"]
    ids = np.asarray(sequence[0 : len(sequence)])
    np.testing.assert_array_equal(ids, corpus.tokenizer.encode(corpus.tokenizer.decode(ids)))
    own = configuration.with_values(
        config, {"tokenizer.path": str(Path(str(config.data.directory)) / "tokenizer.json"), "data.directory": "x"}
    )
    assert train_tokenizer(own.tokenizer, [], num_documents=1).fingerprint == corpus.tokenizer.fingerprint
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"tokenizer\.file was"):
        prepare_in_process(config)


def without_types(model: str) -> bytes:
    return json.dumps({"version": "1.0", "model": {"type": model, "vocab": {}, "merges": []}}).encode()


@pytest.mark.parametrize(
    ("changes", "content", "sentence"),
    [
        ({"vocab_size": 100}, None, r"tokenizer\.vocab_size: .* leave it out"),
        ({"kind": "word"}, None, r"tokenizer\.kind: .* leave it out"),
        ({}, None, r"tokenizer\.path: .*tokenizer\.json"),
        ({}, b"\x0a\x0b", r"tokenizer\.path: .*json: neither a tokenizer\.json .* and not a SentencePiece model"),
        ({}, b"", r"tokenizer\.path: .*json: the file is empty"),
        ({}, b"[" * 3000, r"tokenizer\.path: .*json: neither a tokenizer\.json .* and not a SentencePiece model"),
        ({}, b"[1, 2]", r"tokenizer\.path: .*json: neither a tokenizer\.json .* and not a SentencePiece model"),
        ({}, b'{"a": 1}', r"tokenizer\.path: .*tokenizer\.json: not a tokenizer\.json of Hugging Face"),
        ({}, without_types("BPE"), r"tokenizer\.path: .*tokenizer\.json: the ids of its types end at -1"),
        ({}, b'{"kind": "byte", "eos": "end"}', r"tokenizer\.path: .*json: not a tokenizer that this program saved"),
        ({}, b'{"kind": "other", "eos": "none"}', r"tokenizer\.path: .*json: not a tokenizer that this program saved"),
        ({}, b'{"kind": "sentencepiece", "eos": "none", "model": "AAAA"}', r"json: not a tokenizer that this program"),
        ({}, b'{"kind": "char", "eos": "none"}', r"tokenizer\.path: .*json: not a tokenizer that this program saved"),
        ({"eos": "line"}, b'{"kind": "byte", "eos": "none"}', r"tokenizer\.eos"),
        ({"eos": "document"}, b'{"kind": "byte", "eos": "none"}', r"tokenizer\.eos: .* made with none, not document"),
    ],
)
def test_a_file_that_is_not_a_usable_tokenizer_is_refused(
    changes: dict[str, object], content: bytes | None, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        train_tokenizer(TokenizerConfig(path=str(path), **changes), [], num_documents=1)  # type: ignore[arg-type]


def test_a_decoder_that_is_not_known_is_refused(tmp_path: Path) -> None:
    values = json.loads(gpt2().to_str())
    values["decoder"] = {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"tokenizer\.path: .*its decoder, CTC, is for speech"):
        train_tokenizer(TokenizerConfig(path=str(tmp_path / "tokenizer.json")), [], num_documents=1)


def without_unknown(kind: str) -> Tokenizer:
    """A tokenizer that knows "the end" and a little more of ``TEXT``, but has no unknown type."""
    if kind == "WordLevel":
        engine = Tokenizer(models.WordLevel({"the": 0, "end": 1, "of": 2, "it": 3}, unk_token="[UNK]"))
        engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
        return engine
    if kind == "WordPiece":
        engine = Tokenizer(models.WordPiece({"the": 0, "en": 1, "##d": 2}, unk_token="[UNK]"))  # type: ignore[call-arg]
        engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
        return engine
    if kind == "Unigram":
        return Tokenizer(models.Unigram([(character, -1.0) for character in "then d"]))
    engine = Tokenizer(models.BPE())
    if kind == "byte-level BPE":
        # trained without initial_alphabet=ByteLevel.alphabet(), which is easily forgotten
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    engine.train_from_iterator(["the end of it"] * 2, trainers.BpeTrainer(vocab_size=40, special_tokens=["<s>"]))
    return engine


@pytest.mark.parametrize("kind", ["WordLevel", "WordPiece", "Unigram", "BPE", "byte-level BPE"])
def test_without_an_unknown_type_the_text_that_has_no_type_is_named(kind: str, tmp_path: Path) -> None:
    engine = without_unknown(kind)
    expected = engine.encode("the end the", add_special_tokens=False).ids
    tokenizer = load(engine, tmp_path / "tokenizer.json")
    assert tokenizer.unk_id is None
    assert tokenizer.encode("the end the").tolist() == expected
    named = "zebra" if kind.startswith("Word") else "z"
    with pytest.raises(UserError, match=f"has no type for '{named}', and none for the unknown"):
        tokenizer.encode("the end zebra the")
    with pytest.raises(UserError, match="has no type for 'é'" if "BPE" in kind else "has no type for"):
        tokenizer.encode_documents(["the end", "the é"])
    assert (tokenizer._word_ids is not None) == (kind == "byte-level BPE")


def test_a_corpus_with_text_that_has_no_type_is_not_prepared(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    path, text = tmp_path / "tokenizer.json", tmp_path / "text.txt"
    without_unknown("WordLevel").save(str(path))
    text.write_text("the end of it all\n" * 100)
    config = make_config({"corpus.train": [str(text)], "tokenizer.path": str(path), "tokenizer.kind": "bpe"})
    with pytest.raises(UserError, match=r"tokenizer\.path\) has no type for 'all'"):
        prepare_in_process(config)
    assert not Path(str(config.data.directory)).exists()


def test_added_types_keep_their_ids_in_a_tokenizer_without_an_unknown_type(tmp_path: Path) -> None:
    engine = without_unknown("BPE")
    engine.add_tokens(["zebra"])
    engine.add_special_tokens(["<end>"])
    tokenizer = load(engine, tmp_path / "tokenizer.json")
    assert tokenizer.encode("the zebra").tolist() == engine.encode("the zebra").ids
    assert engine.token_to_id("zebra") in tokenizer.encode("the zebra")
    with pytest.raises(UserError, match="has no type for '<'"):
        tokenizer.encode("the <end>")  # a special token spelt out in a text is plain text


@pytest.mark.parametrize("kind", ["BPE", "Unigram"])
def test_bytes_replace_the_unknown_type_only_if_there_are_all_256(kind: str, tmp_path: Path) -> None:
    some = [f"<0x{byte:02X}>" for byte in range(128)]
    if kind == "BPE":
        model: Any = models.BPE(
            {name: i for i, name in enumerate(["<unk>", "a", *some])}, [], unk_token="<unk>", byte_fallback=True
        )
    else:
        model = models.Unigram([(name, -1.0) for name in ["<unk>", "a", *some]], 0, True)
    tokenizer = load(Tokenizer(model), tmp_path / "tokenizer.json")
    assert tokenizer.unk_id == 0
    assert tokenizer.encode("aé").tolist()[:2] == [1, 0]


def test_a_text_starts_with_white_space_that_has_a_type(tmp_path: Path) -> None:
    blank = load(without_unknown("Unigram"), tmp_path / "unigram.json", num_documents=1)
    assert blank.start_ids.tolist() == blank.encode(" ").tolist()
    words = load(without_unknown("WordLevel"), tmp_path / "words.json", num_documents=1)
    assert words.start_ids.tolist() == [0]


def test_the_refusal_says_where_the_text_without_a_type_stands(tmp_path: Path) -> None:
    tokenizer = load(without_unknown("WordLevel"), tmp_path / "words.json", num_documents=1)
    (tmp_path / "text.txt").write_text("the end of all")
    (tmp_path / "pairs.jsonl").write_text('{"good": "the end", "bad": "the zebra"}')
    with pytest.raises(UserError, match=r"prompt 2: the tokenizer .* has no type for 'zebra'"):
        prompt_ids(tokenizer, "the zebra", argument="prompt 2")
    with pytest.raises(UserError, match=r"^text: .*text\.txt: the tokenizer .* has no type for 'all'"):
        text_held_out(tokenizer, str(tmp_path / "text.txt"), CorpusConfig(train=["x"]))
    with pytest.raises(
        UserError, match=r"^pairs: .*jsonl line 1 cannot be scored: the tokenizer .* has no type for 'zebra'"
    ):
        read_pairs(str(tmp_path / "pairs.jsonl"), tokenizer)
