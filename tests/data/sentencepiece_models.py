"""SentencePiece models trained with random options, and texts that hit the odd cases of all of them."""

import io
import random
from typing import Any

import sentencepiece

WORDS = [
    *("the", "The", "THE", "queen", "QUEEN", "river", "hello", "stone", "lantern", "don't", "foo-bar", "x=1", "3.14"),
    *(
        "Ⅳ",
        "ﬁne",
        "naïve",
        "café",
        "cafe\u0301",
        "e\u0301",
        "\u0301",
        "ß",
        "İ",
        "東京",
        "日本語",
        "ﾊﾝｶｸ",
        "😀",
        "👍🏽",
        "½",
    ),
    *("<s>", "</s>", "<unk>", "<0x41>", "[MASK]", "<n>", "▁", "▁a", "a▁b", "zzz", "qqq", "☃", "☃☃"),
    *("\u200b", "\u00ad", "\u3000", "\u00a0", "\ufeff"),
]
SPACES = ["  ", "   ", "\n", "\r\n", "\t", "\n\n", "", "\u3000", "\u00a0", " \n ", "\x00", "\x01", "\u2028", "▁"]
SYMBOLS = [
    *("\n", "\r", "\t", "\n\n", "  ", " x", "a b", "river stone", "▁", "▁the", "foo▁bar"),
    *("<n>", "QUEEN", "queen", "the", "[MASK]", "zzz", "x=1", "😀", "Ⅳ", "e\u0301"),
]
CONTROLS = ["<ctl>", "<a b>", "[SEP]", "▁ctl", "hello", "lantern"]


def random_text(source: random.Random) -> str:
    """Up to 30 words with all kinds of white space around them; sometimes an empty text."""
    start = source.choice(SPACES) if source.random() < 0.2 else ""
    words = source.choices(WORDS, k=source.choice([0, 1, 2, 3, 5, 10, 30]))
    return start + "".join(word + source.choice([" "] * 10 + SPACES) for word in words)


def train(lines: list[str], **options: Any) -> bytes:
    """The model file that SentencePiece's trainer makes from ``lines``."""
    file = io.BytesIO()
    options = {"vocab_size": 300, "hard_vocab_limit": False, "minloglevel": 3, "num_threads": 1, **options}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=file, **options)
    return file.getvalue()


def random_model(seed: int) -> bytes:
    """A model trained on 150 lines with options drawn by ``seed``: any kind, and any option that changes the ids."""
    source = random.Random(seed)
    byte_fallback = source.random() < 0.4
    kind = source.choice(["unigram", "bpe", "bpe", "char", "word"])
    options = {
        "model_type": kind,
        "vocab_size": source.choice([90, 200, 400]) + 256 * byte_fallback,
        "byte_fallback": byte_fallback,
        "normalization_rule_name": source.choice(["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"]),
        "add_dummy_prefix": source.random() < 0.6,
        "remove_extra_whitespaces": source.random() < 0.6,
        "treat_whitespace_as_suffix": source.random() < 0.2,
        "split_by_whitespace": source.random() < 0.8,
        "split_by_number": source.random() < 0.5,
        "split_by_unicode_script": source.random() < 0.5,
        "split_digits": source.random() < 0.3,
        "allow_whitespace_only_pieces": source.random() < 0.3,
        "character_coverage": source.choice([1.0, 0.98]),
        "max_sentencepiece_length": source.choice([4, 8, 16]),
        "user_defined_symbols": source.sample(SYMBOLS, source.choice([0, 0, 1, 3])),
        "control_symbols": source.sample(CONTROLS, source.choice([0, 0, 1, 2])),
        "required_chars": source.choice(["", "ж♛"]),
        "unk_surface": source.choice([" \u2047 ", "", "<?>", " [UNK] "]),
    }
    return train([" ".join(source.choices(WORDS, k=12)) for _ in range(150)], **options)
