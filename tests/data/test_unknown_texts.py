"""The piece of text behind each <unk>: known answers, and for random models parts of the text in its order."""

import random

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import models, normalizers, pre_tokenizers

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import LoadedTokenizer, SentencePieceTokenizer, Tokenizer, train_tokenizer
from tests.data.sentencepiece_models import random_model, random_text

KNOWN = {"[UNK]": 0, "the": 1, "end": 2, "of": 3, "##s": 4, "sea": 5}


def loaded(model: models.Model, *, lowercase: bool = False) -> Tokenizer:
    engine = HuggingFaceTokenizer(model)
    engine.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    if lowercase:
        engine.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])  # type: ignore[assignment]
    return LoadedTokenizer("document", engine)


def test_known_answers() -> None:
    text = "The end of  Éire's\n\tsea-side <unk> sea"
    words, characters = (
        train_tokenizer(TokenizerConfig(kind=kind), ["The end of the sea\n"], num_documents=1)  # type: ignore[arg-type]
        for kind in ("word", "char")
    )
    assert words.texts_of_unknown(text) == ["Éire's", "sea-side", "<unk>"]
    assert characters.texts_of_unknown(text) == [*"Éir'", "\t", "-", *"i<uk>"]
    assert train_tokenizer(TokenizerConfig(kind="byte"), [""], num_documents=1).texts_of_unknown(text) == []
    level = loaded(models.WordLevel(KNOWN, unk_token="[UNK]"))
    assert level.texts_of_unknown("the end zzz yyy of [UNK]") == ["zzz", "yyy", "[", "UNK", "]"]
    pieces = loaded(models.WordPiece(KNOWN, unk_token="[UNK]"), lowercase=True)
    assert pieces.texts_of_unknown("THE ends of Éire sea") == ["Éire"]
    with_scores = models.Unigram([("[UNK]", 0.0), ("the", -1.0), ("s", -2.0), ("e", -2.0)], unk_id=0)
    assert loaded(with_scores).texts_of_unknown("these xxs") == ["xx"]


@pytest.mark.parametrize("seed", range(8))
def test_unknown_parts_are_those_of_the_text_in_its_order(seed: int) -> None:
    tokenizer, source = SentencePieceTokenizer("document", random_model(seed)), random.Random(seed)
    for _ in range(30):
        text = random_text(source) + source.choice([" дом", " 雪国 x", ""])
        found = tokenizer.texts_of_unknown(text)
        assert len(found) == (tokenizer.encode(text) == tokenizer.unk_id).sum()
        at = 0
        for part in found:
            assert part is not None
            at = text.index(part, at) + len(part)
