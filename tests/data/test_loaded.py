"""Tokenizers of Hugging Face taken as they are: the ids that it gives, cut or whole, and clear refusals of others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from pipeline import config as configuration
from pipeline.config import Config, TokenizerConfig
from pipeline.data.prepare import count_tokens, prepare_in_process
from pipeline.data.tokenizer import LoadedTokenizer, load_tokenizer, pieces, train_tokenizer

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
    monkeypatch.setattr(pieces, "GROUP_CHARACTERS", 60)
    assert tokenizer.encode(TEXT).tolist() == expected
    assert (tokenizer._word_ids is not None) == (name == "gpt2")
    data = TEXT.encode()
    cuts = {tokenizer.safe_cut(data, start) for start in range(1, 400, 7)} - {None}
    assert (len(cuts) > 10) == (name != "llama")  # whose merges may cross spaces
    for cut in cuts:
        head, tail = (tokenizer.encode(part.decode()).tolist() for part in (data[:cut], data[cut:]))
        assert head + tail == expected


@pytest.mark.parametrize("name", KINDS)
def test_saved_and_decoded_as_text(name: str, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("changes", "content", "sentence"),
    [
        ({"vocab_size": 100}, None, r"tokenizer\.vocab_size: .* leave it out"),
        ({"kind": "word"}, None, r"tokenizer\.kind: .* leave it out"),
        ({}, None, r"tokenizer\.path: .*tokenizer\.json"),
        ({}, b"\x0a\x0b", r"tokenizer\.path: .*json: neither a tokenizer\.json .* and not a SentencePiece model"),
        ({}, b"", r"tokenizer\.path: .*json: neither a tokenizer\.json .* and not a SentencePiece model"),
        ({}, b'{"a": 1}', r"tokenizer\.path: .*tokenizer\.json: not a tokenizer\.json of Hugging Face"),
        ({"eos": "line"}, b'{"kind": "byte", "eos": "none"}', r"tokenizer\.eos"),
        ({"eos": "document"}, b'{"kind": "byte", "eos": "none"}', r"tokenizer\.eos: .* made with none, not document"),
    ],
)
def test_what_is_no_tokenizer_is_refused(
    changes: dict[str, object], content: bytes | None, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        train_tokenizer(TokenizerConfig(path=str(path), **changes), [], num_documents=1)  # type: ignore[arg-type]


def test_a_decoder_that_is_not_known_is_refused(tmp_path: Path) -> None:
    values = json.loads(gpt2().to_str())
    values["decoder"] = {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"tokenizer\.path: .*its decoder, CTC, is not known"):
        train_tokenizer(TokenizerConfig(path=str(tmp_path / "tokenizer.json")), [], num_documents=1)


# ids of SentencePiece 0.2.3: a Unigram model with rules of its own, a BPE model with byte fallback
PIECES = Path(__file__).parent / "sentencepiece"


@pytest.mark.parametrize("name", ["unigram", "bpe"])
def test_sentencepiece_models_give_the_ids_of_sentencepiece(name: str) -> None:
    expected = json.loads((PIECES / "ids.json").read_text())
    found = train_tokenizer(TokenizerConfig(path=str(PIECES / f"{name}.model")), [], num_documents=1)
    assert found.vocab_size == {"unigram": 90, "bpe": 340}[name]
    assert (found.unk_id is None) == (name == "bpe")
    for text, ids in zip(expected["texts"], expected[name], strict=True):
        assert found.encode(text).tolist() == ids
    text = "they said: it's naïve 😀"
    shown = text if name == "bpe" else text.replace(":", "<unk>").replace("😀", "<unk>")
    assert found.decode(found.encode(text)) == shown
    assert b"".join(map(found.decode_bytes, found.encode(text))).decode() == f" {shown}"


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_a_damaged_sentencepiece_model_is_refused(tmp_path: Path, share: float) -> None:
    data = (PIECES / "bpe.model").read_bytes()
    (tmp_path / "damaged.model").write_bytes(data[: round(len(data) * share)])
    with pytest.raises(ValueError, match=r"damaged\.model: neither .* and not a SentencePiece model"):
        train_tokenizer(TokenizerConfig(path=str(tmp_path / "damaged.model")), [], num_documents=1)
