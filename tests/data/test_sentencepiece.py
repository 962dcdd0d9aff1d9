"""SentencePiece models: the package's ids and texts, for texts cut or whole, whatever options a model has."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from pipeline.data.corpus import Slice, find_sources
from pipeline.data.corpus.slices import group
from pipeline.data.tokenizer import LoadedTokenizer, SentencePieceTokenizer, Tokenizer, load_tokenizer, pieces
from pipeline.data.tokenizer.files import parse
from pipeline.errors import UserError
from tests.data.corpora import corpus_config, texts_in
from tests.data.sentencepiece_models import WORDS, random_model, random_text, train

FOLDER = Path(__file__).parent / "sentencepiece"
LINES = [" ".join(random.Random(line).choices(WORDS, k=12)) for line in range(150)]
Processor = sentencepiece.SentencePieceProcessor


def rows_of(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    ids, lengths = tokenizer.encode_documents(texts, ends=[False] * len(texts))
    return [row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]


def check_against_package(model: bytes, *, seed: int) -> bool:
    """Compare ids, texts and cuts with the package's; return whether words are looked up."""
    source = random.Random(f"texts {seed}")
    reference, tokenizer = Processor(model_proto=model), SentencePieceTokenizer("document", model)
    texts = [random_text(source) for _ in range(300)]
    expected = [reference.encode(text) for text in texts]
    assert rows_of(tokenizer, texts) == expected
    sampled = [source.choices(range(reference.get_piece_size()), k=12) for _ in range(30)]
    for ids in [*expected, *sampled]:
        assert tokenizer.decode([*ids, tokenizer.num_types]) == reference.decode(ids)
    for text, ids in zip(texts, expected, strict=True):
        data = text.encode()
        if len(data) > 1 and (cut := tokenizer.safe_cut(data, source.randrange(1, len(data)))) is not None:
            assert reference.encode(data[:cut].decode()) + reference.encode(data[cut:].decode()) == ids
    return tokenizer._word_ids is not None


def test_models_of_random_options_give_the_ids_and_texts_of_the_package() -> None:
    are_looked_up = [check_against_package(random_model(seed), seed=seed) for seed in range(20)]
    assert 5 <= sum(are_looked_up) <= 15


@pytest.mark.slow
@pytest.mark.parametrize("first", range(20, 220, 20))
def test_many_models_of_random_options_give_the_ids_and_texts_of_the_package(first: int) -> None:
    for seed in range(first, first + 20):
        check_against_package(random_model(seed), seed=seed)


# Known answers, by names of types: a symbol given to the trainer is one type, and matched as it is written.
@pytest.mark.parametrize(
    ("options", "text", "names"),
    [
        # white space that normalization would turn into blanks stays if it is a symbol, and only then
        ({"user_defined_symbols": ["\n", "\r"]}, "the river\r\n", "▁the ▁river \r \n"),
        ({"user_defined_symbols": ["\n"], "model_type": "bpe"}, "the the", "▁the ▁the"),
        # only the symbol itself counts, not text that normalization makes equal to it
        (
            {"user_defined_symbols": ["QUEEN"], "normalization_rule_name": "nmt_nfkc_cf"},
            "queen QUEEN", "▁queen ▁ QUEEN",
        ),
        # before a symbol stands the dummy prefix at the beginning, and elsewhere the blank
        ({"user_defined_symbols": ["<n>"]}, "<n> the <n>", "▁ <n> ▁the ▁ <n>"),
        # a control symbol spelt out in a text is plain text
        ({"control_symbols": ["[SEP]"], "model_type": "char"}, "[SEP]", "▁ [ S E P ]"),
        # no rule changes line ends, and white space is kept
        (
            {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "byte_fallback": True,
             "vocab_size": 556},
            "the  the\r\n", "▁the ▁ ▁the <0x0D> <0x0A>",
        ),
        ({"treat_whitespace_as_suffix": True}, "the river", "the▁ river▁"),
        ({"model_type": "char"}, "the river", "▁ t h e ▁ r i v e r"),
        # two unknown words are one type, as they are in SentencePiece
        ({"model_type": "word"}, "the harbour ship river", "▁the <unk> ▁river"),
    ],
)  # fmt: skip
def test_ids_by_the_names_of_their_types(options: dict[str, object], text: str, names: str) -> None:
    lines = [line.replace("\x00", "") for line in LINES] + ["[ S E P ]", "the river queen"] * 30
    tokenizer = SentencePieceTokenizer("none", train(lines, **options))
    assert [tokenizer.processor.id_to_piece(i) for i in tokenizer.encode(text).tolist()] == names.split(" ")


def test_two_unknown_words_are_counted_as_one_type_in_each_text() -> None:
    tokenizer = SentencePieceTokenizer("document", train(LINES, model_type="word"))
    assert tokenizer._word_ids is not None
    unknown, end = tokenizer.unk_id, tokenizer.eos_id
    ids, lengths = tokenizer.encode_documents(["aa bb", "cc dd ee", "ff"], ends=[True, False, True])
    assert ids.tolist() == [unknown, end, unknown, unknown, end]
    assert lengths.tolist() == [2, 1, 2]


@pytest.mark.parametrize("options", [{}, {"model_type": "bpe"}, {"model_type": "bpe", "split_by_whitespace": False}])
def test_long_texts_are_cut_where_the_ids_stay_the_same(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train(LINES, **options)
    tokenizer = SentencePieceTokenizer("none", model)
    text = "".join(random_text(random.Random(seed)) for seed in range(40))
    expected = Processor(model_proto=model).encode(text)
    monkeypatch.setattr(pieces, "GROUP_BYTES", 60)
    assert tokenizer.encode(text).tolist() == expected
    data = text.encode()
    cuts = {tokenizer.safe_cut(data, start) for start in range(1, len(data), 7)} - {None}
    assert (len(cuts) > 20) == ("split_by_whitespace" not in options)


def test_a_text_is_not_cut_within_a_match_of_the_model_s_own_rules(tmp_path: Path) -> None:
    # "the river" → "QUEEN", as code points
    rule = " ".join(f"{ord(c):X}" for c in "the river") + "\t" + " ".join(f"{ord(c):X}" for c in "QUEEN")
    (tmp_path / "rules.tsv").write_text(rule + "\n")
    model = train(LINES, normalization_rule_tsv=str(tmp_path / "rules.tsv"), model_type="bpe")
    tokenizer, data = SentencePieceTokenizer("none", model), b"stone the river stone"
    assert tokenizer.processor.normalize("the river") == "▁QUEEN"
    assert [tokenizer.safe_cut(data, start) for start in (1, 6, 10)] == [5, 15, 15]


def test_a_range_does_not_end_within_a_match_of_the_model_s_own_rules(tmp_path: Path) -> None:
    rule = " ".join(f"{ord(c):X}" for c in "the lanterns of it") + "\t" + " ".join(f"{ord(c):X}" for c in "QUEEN")
    (tmp_path / "rules.tsv").write_text(rule + "\n")
    model = train(LINES, normalization_rule_tsv=str(tmp_path / "rules.tsv"), model_type="bpe")
    tokenizer, text = SentencePieceTokenizer("none", model), "stone the lanterns of it and others " * 20
    (tmp_path / "a.txt").write_text(text)
    (source,) = find_sources("train", corpus_config(tmp_path / "a.txt").corpus)
    expected = tokenizer.encode(text).tolist()
    for num_bytes in range(300, 330):
        parts = list(group([Slice.whole(source)], num_bytes, tokenizer.safe_cut))
        assert len(parts) > 1
        assert [token for part in parts for text in texts_in(part) for token in tokenizer.encode(text)] == expected


def test_a_sentencepiece_tokenizer_is_saved_and_loaded_unchanged(tmp_path: Path) -> None:
    model = random_model(3)
    first, second = (SentencePieceTokenizer("document", model) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    first.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert isinstance(again, SentencePieceTokenizer)
    assert again.fingerprint == first.fingerprint
    assert again.model == model
    assert (again.vocab_size, again.eos_id, again.unk_id) == (first.vocab_size, first.eos_id, first.unk_id)


@pytest.mark.parametrize("name", ["unigram", "bpe"])
def test_ids_are_those_of_release_0_2_3(name: str) -> None:
    expected = json.loads((FOLDER / "ids.json").read_text())
    found = parse((FOLDER / f"{name}.model").read_bytes(), "none")
    assert found.vocab_size == {"unigram": 90, "bpe": 340}[name]
    assert (found.unk_id is None) == (name == "bpe")
    assert rows_of(found, expected["texts"]) == expected[name]


def test_a_tokenizer_saved_before_the_package_was_used_keeps_its_ids() -> None:
    found = load_tokenizer(FOLDER / "saved-before.json")
    assert isinstance(found, LoadedTokenizer)
    assert found.eos_id == 90
    # in both, SentencePiece has 4, the dummy prefix, before 3, the symbol
    assert found.encode("<sep> the cat").tolist() == [3, 33, 4, 73, 62, 85]
    assert found.encode(" a <sep> b").tolist() == [4, 62, 3, 4, 81]
    assert (
        found.encode("loon on nekine baer erki").tolist()
        == json.loads((FOLDER / "ids.json").read_text())["unigram"][0][: len(found.encode("loon on nekine baer erki"))]
    )


def test_the_bytes_of_types_make_up_the_text() -> None:
    for seed in range(20):
        model, source = random_model(seed), random.Random(seed)
        reference, tokenizer = Processor(model_proto=model), SentencePieceTokenizer("document", model)
        controls = [i for i in range(tokenizer.num_types) if reference.is_control(i)]
        shown = [i for i in range(tokenizer.num_types) if not reference.is_unknown(i) and i not in controls]
        stone = next(i for i in shown if reference.id_to_piece(i).strip("▁").isalpha())
        for _ in range(20):
            ids = [stone, *source.choices(shown, k=20), stone]
            found = b"".join(map(tokenizer.decode_bytes, ids)).decode(errors="replace")
            # bytes that form no character are shown by different numbers of marks
            texts = [re.sub("\ufffd+", "\ufffd", text.lstrip(" ")) for text in (found, reference.decode(ids))]
            assert texts[0] == texts[1]
        assert {tokenizer.decode_bytes(i) for i in [*controls, tokenizer.num_types]} == {b""}


def test_an_unknown_character_within_a_word_does_not_split_it() -> None:
    tokenizer = SentencePieceTokenizer("none", train(LINES, model_type="char"))
    ids = tokenizer.encode("the h♛t stone")
    assert b"".join(map(tokenizer.decode_bytes, ids)).decode() == " the h\u2047t stone"
    assert tokenizer.decode(ids) == "the h \u2047 t stone"  # as SentencePiece itself decodes it


@pytest.mark.parametrize(
    ("options", "is_lossless"),
    [
        ({}, False),
        ({"add_dummy_prefix": False, "remove_extra_whitespaces": False}, True),
        ({"add_dummy_prefix": False}, False),
    ],
)
def test_a_model_is_lossless_only_if_its_types_make_up_the_whole_text(
    options: dict[str, object], is_lossless: bool
) -> None:
    options = {"normalization_rule_name": "identity", "byte_fallback": True, "vocab_size": 556, **options}
    assert SentencePieceTokenizer("none", train(LINES, **options)).is_lossless == is_lossless


def test_a_model_cut_short_anywhere_is_refused() -> None:
    model = (FOLDER / "bpe.model").read_bytes()
    for length in range(0, len(model), 3):
        with pytest.raises(ValueError, match=r"not a SentencePiece model|empty"):
            parse(model[:length], "none")


def test_a_model_with_any_bit_changed_is_refused_or_encodes() -> None:
    model, source = (FOLDER / "unigram.model").read_bytes(), random.Random(0)
    num_refused = 0
    for _ in range(300):
        at = source.randrange(len(model))
        damaged = model[:at] + bytes([model[at] ^ 1 << source.randrange(8)]) + model[at + 1 :]
        try:
            found = parse(damaged, "none")
        except UserError:
            num_refused += 1
        else:
            assert found.encode("the cat sat").max() < found.vocab_size
    assert 0 < num_refused < 300
