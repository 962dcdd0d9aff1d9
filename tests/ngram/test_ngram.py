"""n-gram models against Kneser-Ney by hand, against plain dictionaries, and by sums to one."""

import itertools
import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import models, pre_tokenizers

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.data.tokenizer.loaded import LoadedTokenizer
from pipeline.data.windows import ArrayTokens
from pipeline.errors import UserError
from pipeline.ngram import TrainingText, held_out_nats, train_ngram, training_text
from pipeline.ngram.kneser_ney import USUAL_DISCOUNTS, discounts_of
from pipeline.ngram.model import BEGIN_ID, NGramModel

LINES = ["a b a b", "a b c", "b c a", "a"]


def text_of(lines: list[str]) -> TrainingText:
    words = ["<unk>", "<s>", "</s>", *sorted({word for line in lines for word in line.split()})]
    ids = [words.index(word) for line in lines for word in ["<s>", *line.split(), "</s>"]]
    return TrainingText(words, np.array(ids))


def drawn(num_lines: int, num_words: int, *, seed: int = 1) -> list[str]:
    """Sentences of words, few of which are frequent, as in a language."""
    source = np.random.default_rng(seed)
    words = [f"w{i}" for i in range(num_words)]
    share = 1 / np.arange(1, num_words + 1)
    return [
        " ".join(source.choice(words, size=source.integers(1, 12), p=share / share.sum())) for _ in range(num_lines)
    ]


def p_of(model: NGramModel, *words: str) -> float:
    """p of the last word after the others."""
    return float(np.exp(model.log_probabilities(np.array([[model.id_of[word] for word in words]]))[0][0]))


def test_bigrams_by_hand() -> None:
    # the bigrams: <s>a 3, <s>b 1, ab 3, ba 1, bc 2, b</s> 1, c</s> 1, ca 1, a</s> 2
    # the different words before each: a 3 (<s> b c), b 2 (<s> a), c 1 (b), </s> 3 (b c a); 9 in all
    # no word has four before it, so D for words is 0.5, 1, 1.5; for bigrams t = 5, 2, 2, 0, so it is the same
    model = train_ngram(text_of(LINES), 2)
    assert model.orders_without_discounts == [1, 2]
    assert model.discounts == [USUAL_DISCOUNTS, USUAL_DISCOUNTS]
    left = (1.5 + 1 + 0.5 + 1.5) / 9
    a, b, c, end = 1.5 / 9 + left / 5, 1 / 9 + left / 5, 0.5 / 9 + left / 5, 1.5 / 9 + left / 5
    for word, p in {"a": a, "b": b, "c": c, "</s>": end, "<unk>": left / 5}.items():
        assert p_of(model, word) == pytest.approx(p)
    # after b: a 1, c 2, </s> 1, and a weight of (0.5 + 1 + 0.5) / 4
    assert p_of(model, "b", "a") == pytest.approx(0.5 / 4 + 2 / 4 * a)
    assert p_of(model, "b", "c") == pytest.approx(1 / 4 + 2 / 4 * c)
    assert p_of(model, "b", "b") == pytest.approx(2 / 4 * b)
    # the beginning of a sentence: a 3, b 1
    assert p_of(model, "<s>", "a") == pytest.approx(1.5 / 4 + 2 / 4 * a)
    assert p_of(model, "<s>", "<unk>") == pytest.approx(2 / 4 * left / 5)
    # nothing is known about what comes after </s>, or after an unknown word
    assert p_of(model, "</s>", "c") == p_of(model, "<unk>", "c") == pytest.approx(c)


def test_discounts_by_hand() -> None:
    # 8 counts of one, 4 of two, 2 of three, 1 of four
    adjusted = np.repeat([1, 2, 3, 4, 9, 0], [8, 4, 2, 1, 3, 2])
    y = 8 / 16
    assert discounts_of(adjusted) == pytest.approx((1 - 2 * y * 4 / 8, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2))
    assert discounts_of(np.array([1, 1, 2, 3])) is None


def plain_p(lines: list[str], order: int) -> dict[tuple[str, ...], float]:
    """p of the last word of every n-gram, computed with dictionaries from the module's equations."""
    sentences = [["<s>", *line.split(), "</s>"] for line in lines]
    raw: Counter[tuple[str, ...]] = Counter()
    for sentence, n in itertools.product(sentences, range(1, order + 1)):
        raw.update(tuple(sentence[i : i + n]) for i in range(len(sentence) - n + 1))
    before: Counter[tuple[str, ...]] = Counter(ngram[1:] for ngram in raw if len(ngram) > 1)
    words = sorted({word for line in lines for word in line.split()} | {"</s>", "<unk>"})
    found: dict[tuple[str, ...], float] = {}
    for n in range(1, order + 1):
        adjusted = {
            g: raw[g] if n == order or g[0] == "<s>" else before[g] for g in raw if len(g) == n and g != ("<s>",)
        }
        d = discounts_of(np.array(list(adjusted.values()))) or USUAL_DISCOUNTS
        for context in {g[:-1] for g in raw if len(g) == n}:
            counts = {word: adjusted.get((*context, word), 0) for word in words}
            total = sum(counts.values())
            if not total:
                continue
            left = sum(d[min(a, 3) - 1] for a in counts.values() if a) / total
            for word, a in counts.items():
                shorter = found[*context[1:], word] if n > 1 else 1 / len(words)
                found[*context, word] = (a - (d[min(a, 3) - 1] if a else 0)) / total + left * shorter
    return found


def backed_off(found: dict[tuple[str, ...], float], words: tuple[str, ...]) -> float:
    return next(found[words[i:]] for i in range(len(words)) if words[i:] in found)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_every_probability_equals_that_of_the_equations(order: int) -> None:
    lines = drawn(150, 14)
    found, model = plain_p(lines, order), train_ngram(text_of(lines), order)
    assert len(found) > 15 ** min(order, 2)
    source = np.random.default_rng(2)
    known = sorted(found)
    asked = [known[i] for i in source.integers(0, len(known), 400)]
    asked += [tuple(source.choice(model.words[2:], size=order)) for _ in range(400)]  # most of these do not occur
    for words in asked:
        assert p_of(model, *words) == pytest.approx(backed_off(found, words), rel=1e-12)


@pytest.mark.parametrize("lines", [LINES, drawn(60, 9), ["a"]], ids=["few", "more", "one word"])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_probabilities_of_all_words_sum_to_one(lines: list[str], order: int) -> None:
    model = train_ngram(text_of(lines), order)
    words = [i for i in range(len(model.words)) if i != BEGIN_ID]
    sentence = [model.id_of[word] for word in ["<s>", *lines[0].split()]]
    source = np.random.default_rng(3)
    seen = [sentence[:n] for n in range(1, len(sentence) + 1)]
    unseen = [source.choice(words, size=n).tolist() for n in range(1, 7) for _ in range(5)]
    for context in [[], *seen, *unseen]:
        questions = np.array([[*context, word] for word in words])
        assert np.exp(model.log_probabilities(questions)[0]).sum() == pytest.approx(1, abs=1e-12)


def test_the_length_of_the_longest_ngram_found() -> None:
    model = train_ngram(text_of(LINES), 3)
    cases = {"a b c": 3, "c b c": 2, "</s> b c": 2, "a a c": 1, "a b b": 1, "<s> a b": 3, "b": 1}
    for words, order in cases.items():
        ids = [model.id_of[word] for word in words.split()]
        padded = [-1] * (3 - len(ids)) + ids
        for question in (ids, padded, [5, *ids]):  # words before the longest n-gram are ignored
            assert model.log_probabilities(np.array([question]))[1].tolist() == [order], words
    log_p, orders = model.log_probabilities(np.array([[4, 3, -1]]))
    assert math.isnan(log_p[0])
    assert orders.tolist() == [0]


def test_a_short_text_has_no_long_ngrams() -> None:
    assert train_ngram(text_of(["a", "b"]), 5).num_ngrams == [5, 4, 2]
    for order in (0, 6):
        with pytest.raises(UserError, match=f"order: {order} is not from 1 to 5"):
            train_ngram(text_of(["a"]), order)
    with pytest.raises(UserError, match="has no word to count"):
        train_ngram(text_of([]), 2)


# -- words of tokens


def tokens_of(tokenizer: Tokenizer, texts: list[str]) -> ArrayTokens:
    parts = [tokenizer.encode_document(text) for text in texts]
    return ArrayTokens(np.concatenate(parts), np.unique(np.cumsum([0, *map(len, parts[:-1])])))


@pytest.mark.parametrize("kind", ["word", "char", "byte", "bpe"])
@pytest.mark.parametrize("eos", ["none", "document", "line"])
def test_words_of_tokens(kind: str, eos: str) -> None:
    if eos == "line" and kind != "word":
        pytest.skip("only tokenizers of words end lines")
    texts = ["the  cat sat\non a mät", "a dog\n", "", "the cat"]
    tokenizer = train_tokenizer(TokenizerConfig(kind=kind, eos=eos), texts * 3, num_documents=12)  # type: ignore[arg-type]
    found = training_text(tokens_of(tokenizer, texts), tokenizer)
    sentences = (
        [text.split() for text in texts] if eos != "line" else [line.split() for t in texts for line in t.split("\n")]
    )
    if eos == "none" or kind != "word":  # empty documents that no token ends
        sentences = [sentence for sentence in sentences if sentence or eos == "document"]
    if eos == "line":
        sentences = [["the", "cat", "sat"], ["on", "a", "mät"], ["a", "dog"], ["the", "cat"]]
    assert [found.words[i] for i in found.ids] == [
        word for sentence in sentences for word in ["<s>", *sentence, "</s>"]
    ]
    assert len(set(found.words)) == len(found.words)
    counts = found.counts()
    assert (counts["a"], counts["the"], counts["</s>"]) == (2, 2, len(sentences))


def test_words_that_look_like_marks_are_not_marks() -> None:
    texts = ["a <s> b </s> <unk>", "a b"]
    for kind in ("word", "char"):
        tokenizer = train_tokenizer(TokenizerConfig(kind=kind, eos="document"), texts * 3, num_documents=6)  # type: ignore[arg-type]
        found = training_text(tokens_of(tokenizer, texts), tokenizer)
        assert " ".join(found.words[i] for i in found.ids) == "<s> a <unk> b <unk> <unk> </s> <s> a b </s>"


def test_nats_of_a_held_out_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ngram.held_out.WORDS_AT_ONCE", 7)
    lines, others = drawn(60, 9), [*drawn(9, 12, seed=5), "new w1 new"]
    model, text = train_ngram(text_of(lines), 3), text_of(others)
    nats, unknown = 0.0, 0
    for line in others:
        known = [word if word in model.id_of else "<unk>" for word in ["<s>", *line.split(), "</s>"]]
        unknown += known.count("<unk>")
        nats -= sum(math.log(p_of(model, *known[max(0, i - 2) : i + 1])) for i in range(1, len(known)))
    found = held_out_nats(model, text)
    assert found.nats == pytest.approx(nats)
    assert found.words == sum(len(line.split()) + 1 for line in others)
    assert found.unknown == unknown >= 2


@pytest.mark.parametrize("kind", ["word", "char", "byte", "bpe"])
def test_words_are_those_of_str_split_whatever_the_white_space(kind: str) -> None:
    spaces = "".join(chr(c) for c in range(0x110000) if chr(c).isspace())
    texts = ["le chat\u00a0: «\u202fla\u3000souris\u2009»", spaces.join("abé") + spaces, f"{spaces}é"]
    tokenizer = train_tokenizer(TokenizerConfig(kind=kind, eos="document"), texts * 3, num_documents=9)  # type: ignore[arg-type]
    found = training_text(tokens_of(tokenizer, texts), tokenizer)
    assert [found.words[i] for i in found.ids] == [word for text in texts for word in ["<s>", *text.split(), "</s>"]]


@pytest.mark.parametrize(("kind", "text"), [("word", "the zebra sat"), ("char", "the <s> sat")])
def test_unknown_words_that_the_text_itself_has_are_counted(kind: str, text: str) -> None:
    texts = ["the cat sat", "a dog <s>"] * 3
    tokenizer = train_tokenizer(TokenizerConfig(kind=kind, eos="document"), texts, num_documents=6)  # type: ignore[arg-type]
    model = train_ngram(training_text(tokens_of(tokenizer, texts), tokenizer), 2)
    held_out = training_text(tokens_of(tokenizer, [text]), tokenizer)
    assert [held_out.words[i] for i in held_out.ids] == ["<s>", "the", "<unk>", "sat", "</s>"]
    assert held_out_nats(model, held_out)[1:] == (4, 1)


def word_level() -> LoadedTokenizer:
    """A tokenizer of words made elsewhere, whose own ``<unk>`` has another name."""
    engine = HuggingFaceTokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2, "sat": 3}, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return LoadedTokenizer("document", engine)


def test_words_of_which_a_tokenizer_does_not_know_all_are_unknown() -> None:
    characters = train_tokenizer(TokenizerConfig(kind="char", eos="document"), ["the cat sat"] * 3, num_documents=3)
    for tokenizer in (word_level(), characters):
        text = training_text(tokens_of(tokenizer, ["the dog sat", "the bird sat"]), tokenizer)
        assert [text.words[i] for i in text.ids] == ["<s>", "the", "<unk>", "sat", "</s>"] * 2
        model = train_ngram(text, 2)
        assert p_of(model, "the", "<unk>") > 0.4  # nothing else has followed
        held_out = training_text(tokens_of(tokenizer, ["the bug sat"]), tokenizer)
        assert held_out_nats(model, held_out)[1:] == (4, 1)


def test_a_long_word_takes_no_memory_for_each_of_the_others() -> None:
    model = train_ngram(text_of(LINES), 2)
    text = text_of(["a" * 1_000_000, *["a b"] * 20_000])
    tracemalloc.start()
    held_out_nats(model, text)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50e6
