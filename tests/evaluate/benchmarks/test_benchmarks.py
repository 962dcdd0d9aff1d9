"""Each benchmark against sums computed token by token, as one would by hand, and against known answers."""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.evaluate.benchmarks import BENCHMARKS, Figure, Scorer, published, read_benchmark
from pipeline.evaluate.benchmarks.babylm_reading import share_explained
from pipeline.evaluate.benchmarks.base import Judged, figures_of, likeliest_first
from pipeline.evaluate.benchmarks.blimp import PARADIGMS
from pipeline.evaluate.benchmarks.word_forms import WordForms
from pipeline.model.language_model import LanguageModel
from tests import benchmark_samples as samples


@pytest.fixture(scope="module", params=["word", "char", "bpe"])
def tokenizer(request: pytest.FixtureRequest, tiny_text: Path) -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind=request.param), [tiny_text.read_text()], num_documents=2)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(hidden_size=6, num_layers=1), tokenizer.vocab_size).double().eval()


class ByHand:
    """Scores by a model that is asked for one token after another."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    def log_p(self, ids: list[int]) -> tuple[list[float], np.ndarray]:
        """ln p of each of ``ids``, and of every type as the next token: (V,)."""
        state, found = self.model.initial_state(1), []
        with torch.no_grad():
            for current, following in pairwise([*self.tokenizer.start_ids.tolist(), *ids, -1]):
                hidden, state = self.model(torch.tensor([[current]]), state)
                log_p = self.model.head.logits(hidden)[0, 0].log_softmax(0)
                found.append(float(log_p[following]))
        return found[:-1], log_p.numpy()

    def sentence(self, text: str) -> float:
        """Nats of a text, including its end."""
        return -sum(self.log_p(self.tokenizer.encode_document(text).tolist())[0])

    def continuation(self, prefix: str, text: str) -> float:
        """Nats of exactly these words after others: their tokens, and ending there, given that the prefix has ended."""
        before, behind = self._until(prefix), self._until(f"{prefix} {text}")
        if self.tokenizer.kind == "word":
            return behind[0] - before[0]
        return behind[0] + behind[1] - before[0] - before[1]

    def _until(self, text: str) -> tuple[float, float]:
        """Nats of the tokens of a text, and of its last word ending there."""
        ids = [token for token in self.tokenizer.encode(text).tolist() if token != self.tokenizer.eos_id]
        log_p, behind = self.log_p(ids)
        tokenizer = self.tokenizer
        over = [
            i for i in range(tokenizer.vocab_size) if tokenizer.decode_bytes(i)[:1].isspace() or i == tokenizer.eos_id
        ]
        return -sum(log_p), -float(np.logaddexp.reduce(behind[over]))


def figures(name: str, folder: Path, model: LanguageModel, tokenizer: Tokenizer) -> dict[str, Figure]:
    outcome = read_benchmark(f"{name}={folder}").score(Scorer(model, tokenizer))
    assert outcome.words > 0
    return {figure.group: figure for figure in outcome.figures}


def test_blimp(model: LanguageModel, tokenizer: Tokenizer, sample: Callable[[str], Path]) -> None:
    by_hand, folder = ByHand(model, tokenizer), sample("blimp")
    one, two = samples.blimp_pairs("adjunct_island")
    right: dict[str, list[bool]] = {
        "blimp": [by_hand.sentence(p["sentence_good"]) < by_hand.sentence(p["sentence_bad"]) for p in (one, two)],  # type: ignore[arg-type]
        "blimp-one-prefix": [
            by_hand.continuation("the cat sat on a", "mat") < by_hand.continuation("the cat sat on a", "that")
        ],
        "blimp-two-prefix": [by_hand.continuation("the", "dog") < by_hand.continuation("one", "dog")],
    }
    for name, expected in right.items():
        found = figures(name, folder, model, tokenizer)
        share = sum(expected) / len(expected)
        assert list(found)[:2] == ["all", "anaphor_agreement"]
        assert found["all"].items == 67 * len(expected)
        assert found["all"].value == pytest.approx(share)
        assert found["others"].items == 65 * len(expected)
        assert found["adjunct_island"].value == share
        assert found["adjunct_island"].level == 2
    assert read_benchmark(f"blimp={folder}").num_texts == 4 * 67


def test_continuations_have_the_nats_of_one_token_after_another(model: LanguageModel, tokenizer: Tokenizer) -> None:
    by_hand, scorer = ByHand(model, tokenizer), Scorer(model, tokenizer)
    options = [("the cat sat on a", "mat"), ("the", "dog ran to its home"), ("some old", "river")]
    assert scorer.continuations(options) == pytest.approx([by_hand.continuation(*option) for option in options])
    assert scorer.sentences(["the cat sat", "its home"]) == pytest.approx(
        [by_hand.sentence("the cat sat"), by_hand.sentence("its home")]
    )
    assert scorer.num_words == 6 + 6 + 3 + 3 + 2
    assert scorer.num_unknown == 0
    scorer.sentences(["the zebra saw one jackal", "a cat", "the zebra"])
    scorer.continuations([("the zebra", "ran")])
    assert scorer.num_unknown == (0 if tokenizer.kind == "bpe" else 4)


def test_syntaxgym(model: LanguageModel, tokenizer: Tokenizer, sample: Callable[[str], Path]) -> None:
    found = figures("syntaxgym", sample("syntaxgym"), model, tokenizer)
    assert list(found) == ["all", "agreement", "order"]
    by_hand = ByHand(model, tokenizer)
    second = [by_hand.continuation("the cat", word) for word in ("sat", "mat")]
    whole = []
    for text in ("the cat sat on a mat", "the cat mat on a sat"):
        first, *others = text.split(" ", 1)
        (rows,) = Scorer(model, tokenizer).words([[first, *others]])
        whole.append(sum(row.nats for part in rows for row in part))
    assert found["order"].value == (second[0] < second[1] and whole[0] < whole[1])


def test_agreement(model: LanguageModel, tokenizer: Tokenizer, sample: Callable[[str], Path]) -> None:
    folder = sample("agreement")
    found = figures("agreement", folder, model, tokenizer)
    assert [(group, figure.items) for group, figure in found.items()] == [
        ("all", 5), ("original", 2), ("original N_V", 2), ("nonce", 3), ("nonce N_V", 3)
    ]  # fmt: skip
    by_hand = ByHand(model, tokenizer)
    if tokenizer.kind != "word":  # it does not know the wrong forms: both can be <unk>
        first = by_hand.continuation("the dog that ran", "sat") < by_hand.continuation("the dog that ran", "sit")
        second = by_hand.continuation("one mat and a cat", "ran") < by_hand.continuation("one mat and a cat", "run")
        assert found["original"].value == (first + second) / 2
    read = read_benchmark(f"agreement={folder}")
    assert read.variant == "agreement"


def test_marvin_linzen(model: LanguageModel, tokenizer: Tokenizer, sample: Callable[[str], Path]) -> None:
    found = figures("marvin-linzen", sample("marvin-linzen"), model, tokenizer)
    assert {group for group, figure in found.items() if figure.level == 1} == {"agreement", "reflexives", "npi"}
    assert found["prep"].items == 4  # animate and inanimate together, with two lists each
    assert found["simple_npi over ungrammatical"].items == 4
    assert {"vp_coord", "npi_across over intrusive", "reflexives_across"} < found.keys()
    by_hand = ByHand(model, tokenizer)
    written = WordForms(tokenizer)
    good, bad = (by_hand.sentence(written(f"{text} .")) for text in ("the cat sat", "the cat mat"))
    assert found["vp_coord"].value == (good < bad)


def test_natural_stories(model: LanguageModel, tokenizer: Tokenizer, sample: Callable[[str], Path]) -> None:
    folder = sample("natural-stories")
    found = figures("natural-stories", folder, model, tokenizer)
    is_unknown = tokenizer.kind == "char"  # the first word, because of its capital
    assert [(group, figure.items, figure.unit) for group, figure in found.items()] == [
        ("all", 17 - is_unknown, "r"), ("story 1", 10 - is_unknown, "r"), ("story 2", 7, "r")
    ]  # fmt: skip
    words = [text.split() for text in samples.STORIES.values()]
    nats = [sum(r.nats for r in rows) for text in Scorer(model, tokenizer).words(words) for rows in text]
    times = [300 + 7 * len(word) + zone + 0.5 for text in words for zone, word in enumerate(text, start=1)]
    assert found["all"].value == pytest.approx(np.corrcoef(nats[is_unknown:], times[is_unknown:])[0, 1])
    assert found["all"].low < found["all"].value < found["all"].high


def test_babylm(model: LanguageModel, tokenizer: Tokenizer, sample: Callable[[str], Path]) -> None:
    folder = sample("babylm")
    found = figures("babylm", folder, model, tokenizer)
    assert [group for group, figure in found.items() if figure.level == 1] == [
        "BLiMP", "BLiMP supplement", "EWoK", "entity tracking", "COMPS", "wug adjectives", "wug past tense",
        "reading, eye tracking", "reading, self-paced",
    ]  # fmt: skip
    by_hand = ByHand(model, tokenizer)
    assert found["BLiMP"].value == (by_hand.sentence("the cat sat") < by_hand.sentence("the cat that"))
    assert (found["BLiMP"].items, found["BLiMP supplement: two"].items) == (3, 2)
    if tokenizer.kind != "word":
        options = [by_hand.continuation("the mat and the cat sat by", o) for o in ("the river", "a home", "one dog")]
        assert found["entity tracking"].value == pytest.approx(float(options[0] < min(options[1:])))
    assert {"entity tracking: regular_0_ops", "entity tracking: move_contents_1_ops"} < found.keys()
    shares = []
    for word in ("dog", "mat", "home", "river"):
        first, second = (by_hand.sentence(f"the cat sat by {text}") for text in (word, f"one {word}"))
        shares.append(1 / (1 + math.exp(first - second)))
    ranks = np.argsort(np.argsort(shares))
    assert found["wug adjectives"].value == pytest.approx(np.corrcoef(ranks, [3, 0, 1, 2])[0, 1])
    assert 0 <= found["reading, self-paced"].value <= 1
    # the folder of a single task
    alone = figures("babylm", folder / "comps", model, tokenizer)
    assert alone == {group: figure for group, figure in found.items() if group.startswith("COMPS")}


def test_the_share_that_surprisal_explains() -> None:
    """If times are exactly a sum of length and surprisal, surprisal explains all that length leaves."""
    source = np.random.default_rng(1)
    length, surprisal = source.normal(size=(2, 40))
    assert share_explained([length], surprisal, 3 * length + 2 * surprisal + 7) == pytest.approx(1)
    times = 3 * length + source.normal(size=40)
    missing = surprisal.copy()
    missing[3] = np.nan
    kept = np.arange(40) != 3

    def variance_left(*columns: np.ndarray) -> float:
        design = np.column_stack([np.ones(39), *(column[kept] for column in columns)])
        projection = design @ np.linalg.solve(design.T @ design, design.T)
        return float(np.square(times[kept] - projection @ times[kept]).sum())

    left = variance_left(length)
    expected = (left - variance_left(length, surprisal)) / left
    assert share_explained([length], missing, times) == pytest.approx(expected)
    assert math.isnan(share_explained([length[:3]], surprisal[:3], times[:3]))


def test_there_is_no_share_where_the_predictors_leave_nothing() -> None:
    source = np.random.default_rng(1)
    length, surprisal = source.normal(size=(2, 40))
    for times in (np.full(40, 250.0), 2.0 * length, 3 * length + 7):
        assert math.isnan(share_explained([length], surprisal, times))


def test_ties_are_wrong_and_counted() -> None:
    assert likeliest_first([1.0, 2.0, 3.0]) == Judged(True, False)
    assert likeliest_first([1.0, 1.0, 3.0]) == Judged(False, True)
    assert likeliest_first([2.0, 1.0, 2.0]) == Judged(False, False)
    items = [
        ("a", "x", Judged(True)),
        ("a", "x", Judged(False, True)),
        ("a", "y", Judged(True)),
        ("b", "b", Judged(True)),
    ]
    found = {figure.group: figure for figure in figures_of(items)}
    assert {group: (figure.value, figure.ties, figure.items) for group, figure in found.items()} == {
        "all": (pytest.approx((0.5 + 1 + 1) / 3), 1, 4), "a": (0.75, 1, 3), "x": (0.5, 1, 2), "y": (1, 0, 1),
        "b": (1, 0, 1),
    }  # fmt: skip
    pooled = {figure.group: figure.value for figure in figures_of(items, is_pooled=True)}
    assert (pooled["all"], pooled["a"], pooled["x"]) == (0.75, pytest.approx(2 / 3), 0.5)
    # Wilson's interval of 1 of 2, worked out by hand with z² = 3.8415
    assert (found["x"].low, found["x"].high) == pytest.approx((0.0945, 0.9055), abs=1e-4)
    assert found["a"].low < 0.75 < found["a"].high


def test_words_are_spelt_as_in_the_vocabulary() -> None:
    def forms(text: str) -> WordForms:
        return WordForms(train_tokenizer(TokenizerConfig(kind="word"), [text], num_documents=2))

    treebank = forms("Mr. Smith did n't see Jane 's cat , herself .")
    assert treebank("Jane's cat can't see \"herself\".") == "Jane 's cat ca n't see herself ."
    assert treebank("Mr. Smith, did") == "Mr. Smith , did"
    mikolov = forms("mr. smith did n't see jane 's cat herself N times")
    assert mikolov("Mr. Smith didn't see Jane's cat, herself.") == "mr. smith did n't see jane 's cat herself"
    assert (mikolov(","), mikolov(" . ")) == ("", "")
    assert mikolov.notes == ["in lower case", "n't 's apart", "without punctuation"]
    plain = forms("The cat, he said, can't see.")
    assert plain.notes == []
    assert plain("Jane's cat can't.") == "Jane's cat can't."


def test_published_figures_name_existing_groups() -> None:
    blimp = published("blimp")
    assert {one.model: (one.figures["all"], one.figures["island_effects"]) for one in blimp} == {
        "LSTM": (69.8, 46.6), "5-gram": (61.2, 57.2), "TXL": (69.6, 48.3), "GPT-2": (83.0, 72.7)
    }  # fmt: skip
    assert len(PARADIGMS) == len(set(PARADIGMS)) == 67
    for one in blimp:
        assert set(PARADIGMS) < one.figures.keys()
        assert len(one.figures) == 67 + 12 + 1
        assert one.figures["all"] == pytest.approx(np.mean([one.figures[name] for name in PARADIGMS]), abs=0.1)
    for one in published("syntaxgym"):
        suites = [value for name, value in one.figures.items() if name != "all"]
        assert len(suites) == 31
        assert one.figures["all"] == pytest.approx(np.mean(suites), abs=0.1)
    assert published("marvin-linzen") == []
    assert all(json.dumps(kind.name) and kind.title and kind.source for kind in BENCHMARKS.values())
