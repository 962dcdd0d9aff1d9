"""Held-out figures against a plain loop that scores one token at a time."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import config as configuration
from pipeline import metrics
from pipeline.config import ModelConfig, TokenizerConfig, TrainConfig
from pipeline.data.streams import ResetRule
from pipeline.data.tokenizer import train_tokenizer
from pipeline.data.windows import ArrayTokens
from pipeline.data.word_counts import WordBegins
from pipeline.evaluate import (
    Breakdown,
    HeldOut,
    compare,
    count_words,
    evaluate,
    held_out,
    perplexity_interval,
    statistics,
    text_held_out,
)
from pipeline.evaluate.breakdown import count_types
from pipeline.evaluate.held_out import laid_out
from pipeline.evaluate.surprisal import surprisal_rows
from pipeline.model.language_model import LanguageModel

VOCAB = 17


@pytest.fixture
def model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(hidden_size=6, num_layers=2, dropout=0.5), VOCAB).double()


def token_by_token(model: LanguageModel, ids: np.ndarray) -> float:  # type: ignore[type-arg]
    model.eval()
    state, nats = model.initial_state(1), 0.0
    with torch.no_grad():
        for current, following in itertools.pairwise(ids):
            hidden, state = model(torch.tensor([[int(current)]]), state)
            nats -= model.head.logits(hidden)[0, 0].log_softmax(0)[int(following)].item()
    return nats


@pytest.mark.parametrize("num_tokens", [2, 3, 57, 200])
def test_one_stream_is_the_exact_figure(model: LanguageModel, num_tokens: int) -> None:
    ids = np.random.default_rng(1).integers(0, VOCAB, num_tokens).astype(np.uint16)
    score = evaluate(model, HeldOut(ArrayTokens(ids), None), streams=1, bptt=10)
    assert score.tokens == num_tokens - 1
    assert score.nats == pytest.approx(token_by_token(model, ids), rel=1e-10)
    assert score.perplexity == pytest.approx(math.exp(score.nats / (num_tokens - 1)))


def test_each_of_several_streams_is_scored_from_a_zero_state(model: LanguageModel) -> None:
    ids = np.random.default_rng(1).integers(0, VOCAB, 104).astype(np.uint16)
    score = evaluate(model, HeldOut(ArrayTokens(ids), None), streams=4, bptt=10)
    bounds = [0, 25, 51, 77, 103]  # ⌊b·103/4⌋
    parts = [token_by_token(model, ids[a : b + 1]) for a, b in itertools.pairwise(bounds)]
    assert score.tokens == 103
    assert score.nats == pytest.approx(sum(parts), rel=1e-10)


@pytest.mark.parametrize(("streams", "bounds"), [(1, []), (3, [33, 66])])
def test_states_reset_at_documents(model: LanguageModel, streams: int, bounds: list[int]) -> None:
    ids = np.random.default_rng(1).integers(0, VOCAB, 100).astype(np.uint16)
    rule = ResetRule(at_documents=True)
    score = evaluate(
        model, HeldOut(ArrayTokens(ids, starts=np.array([0, 5, 6, 40, 70])), None), streams=streams, bptt=10, reset=rule
    )
    cuts = sorted([0, 5, 6, 40, 70, 99, *bounds])
    parts = [token_by_token(model, ids[a : b + 1]) for a, b in itertools.pairwise(cuts)]
    assert score.tokens == 99
    assert score.nats == pytest.approx(sum(parts), rel=1e-10)


def test_states_reset_every_few_windows(model: LanguageModel) -> None:
    ids = np.random.default_rng(1).integers(0, VOCAB, 100).astype(np.uint16)
    rule = ResetRule.of(TrainConfig(reset_state="windows", reset_every_windows=3, bptt=10))
    score = evaluate(model, HeldOut(ArrayTokens(ids), None), streams=1, bptt=10, reset=rule)
    parts = [token_by_token(model, ids[a : b + 1]) for a, b in itertools.pairwise([0, 30, 60, 90, 99])]
    assert score.nats == pytest.approx(sum(parts), rel=1e-10)


def test_dropout_is_off_and_the_mode_is_restored(model: LanguageModel) -> None:
    ids = np.arange(80, dtype=np.uint16) % VOCAB
    model.train()
    first = evaluate(model, HeldOut(ArrayTokens(ids), None), streams=2, bptt=10)
    assert model.training
    assert evaluate(model, HeldOut(ArrayTokens(ids), None), streams=2, bptt=10) == first


def test_bits_per_byte_counts_the_bytes_of_the_scored_text() -> None:
    text = "éa b é" * 3
    tokenizer = train_tokenizer(TokenizerConfig(kind="char"), [text], num_documents=1)
    ids = tokenizer.encode(text)
    whole = held_out(tokenizer, ArrayTokens(ids), ids[:1], num_bytes=len(text.encode()), num_unknown=0)
    assert whole.num_bytes == len(text.encode()) - 2  # the first character is not scored
    unknown = held_out(tokenizer, ArrayTokens(ids), ids[:1], num_bytes=9, num_unknown=2)
    assert (unknown.num_bytes, "<unk>" in unknown.why_not) == (None, True)
    words = train_tokenizer(TokenizerConfig(kind="word"), [text], num_documents=1)
    assert held_out(words, ArrayTokens(ids), ids[:1], num_bytes=9, num_unknown=0).num_bytes is None


@pytest.mark.parametrize(("text", "begin_id"), [("a", None), ("", 256)])
def test_a_text_of_which_no_byte_is_scored_has_no_bits_per_byte(text: str, begin_id: int | None) -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="byte"), [], num_documents=2)
    tokens = ArrayTokens(tokenizer.encode_document(text), np.array([0]))
    held = laid_out(tokenizer, tokens, begin_id, num_bytes=len(text), num_unknown=0)
    score = evaluate(LanguageModel(ModelConfig(hidden_size=4), 257), held, streams=2, bptt=4)
    assert score.tokens == 1  # <eos>
    assert (score.bits_per_byte, score.why_not) == (None, "no byte of the text is scored")


def test_streams_with_burn_in_begin_with_the_state_of_the_tokens_before(model: LanguageModel) -> None:
    ids = np.random.default_rng(1).integers(0, VOCAB, 104).astype(np.uint16)
    text = HeldOut(ArrayTokens(ids), None)
    breakdown = Breakdown(text.tokens, VOCAB)
    score = evaluate(model, text, streams=4, bptt=10, burn_in=30, breakdown=breakdown)
    # 30 tokens early, except the first two streams, which have none or fewer before them
    expected = 0.0
    for start, stop in itertools.pairwise([0, 25, 51, 77, 103]):
        early = max(0, start - 30)
        expected += token_by_token(model, ids[early : stop + 1]) - token_by_token(model, ids[early : start + 1])
    assert score.tokens == 103
    assert score.nats == pytest.approx(expected, rel=1e-10)
    exact = evaluate(model, text, streams=1, bptt=10)
    whole = evaluate(model, text, streams=4, bptt=10, burn_in=1000)
    assert whole.nats == pytest.approx(exact.nats, rel=1e-10)
    for sums in (breakdown.by_type, breakdown.by_position, breakdown.by_unit):
        assert sums.sum(1) == pytest.approx([score.nats, 103], rel=1e-10)


@pytest.mark.parametrize(
    ("num_tokens", "unit"),
    [(86, "22 stretches of 4 tokens"), (25_000, "25 stretches of 1,000 tokens"), (1, "1 stretch of 1 token")],
)
def test_a_text_of_few_documents_is_resampled_in_at_least_twenty_stretches(num_tokens: int, unit: str) -> None:
    assert Breakdown(ArrayTokens(np.zeros(num_tokens, dtype=np.int64), np.array([0, 5])), 4).unit == unit


def test_a_breakdown_sorts_nats_by_document_position_and_count() -> None:
    breakdown = Breakdown(ArrayTokens(np.zeros(100, dtype=np.int64), np.array([0, 5, 40])), 4)
    targets = np.array([[1, 2], [3, -100]])  # at places 4, 5 and 39
    breakdown.add(np.array([4, 39]), targets, np.array([[1.0, 2.0], [4.0, 0.0]]))
    assert [(g.name, g.nats, g.tokens) for g in breakdown.position_groups()] == [
        ("0 to 9", 5.0, 2),
        ("10 to 99", 2.0, 1),
    ]
    counts = np.array([9, 0, 1, 10])
    assert [(g.name, g.nats) for g in breakdown.frequency_groups(counts)] == [
        ("0", 1.0),
        ("1 to 9", 2.0),
        ("10 to 99", 4.0),
    ]
    assert breakdown.unit == "20 stretches of 5 tokens"
    assert [sums.tolist() for sums in breakdown.per_unit()] == [[1.0, 4.0, 2.0], [1, 1, 1]]


def test_the_types_of_a_text_are_counted_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.evaluate.breakdown.TOKENS_AT_ONCE", 3)
    assert count_types(ArrayTokens(np.array([0, 3, 3, 1, 3, 0, 3, 1])), 5).tolist() == [2, 2, 0, 4, 0]


def test_tokens_before_the_first_document_count_in_its_unit() -> None:
    breakdown = Breakdown(ArrayTokens(np.zeros(100, dtype=np.int64), np.arange(5, 100, 4)), 4)
    assert breakdown.unit == "24 documents"
    breakdown.add(np.array([2]), np.array([[1], [1], [1], [1]]), np.array([[1.0], [2.0], [4.0], [8.0]]))
    assert [sums.tolist() for sums in breakdown.per_unit()] == [[15.0], [4.0]]
    assert [(group.name, group.tokens) for group in breakdown.position_groups()] == [("0 to 9", 4)]


def test_the_interval_of_several_groups_weighs_them() -> None:
    # all of one and none of the other are right, so that nothing varies
    assert statistics.share_interval([10, 0], [10, 5], weights=[0.9, 0.1]) == pytest.approx((0.9, 0.9))
    # 0.5 · 60 % ± 1.96 · 0.5 · √(0.6 · 0.4 / 600), the other half being certain
    half = 1.96 * 0.5 * math.sqrt(0.6 * 0.4 / 600)
    found = statistics.share_interval([360, 9], [600, 9], weights=[0.5, 0.5])
    assert found == pytest.approx((0.8 - half, 0.8 + half), abs=0.15 * half)


def test_correlations_and_deviations_by_hand() -> None:
    # ranks 4, 1, 2.5, 2.5, 6, 5 and 3, 1.5, 1.5, 5.5, 4, 5.5: squares of 17 and 16.5, products of 9
    found = statistics.rank_correlation([3, 1, 2, 2, 5, 4], [2, 1, 1, 4, 3, 4])
    assert found == pytest.approx(9 / math.sqrt(17 * 16.5))
    # atanh 0.5 = 0.549306, give or take 1.959964 / √27 = 0.377195
    assert statistics.correlation_interval(0.5, 30) == pytest.approx((math.tanh(0.172111), math.tanh(0.926501)))
    # of ranks: atanh 0.8 = 1.098612, 1.959964 · √(1.32 / 47) = 0.328463
    of_ranks = statistics.correlation_interval(0.8, 50, is_of_ranks=True)
    assert of_ranks == pytest.approx((math.tanh(0.770149), math.tanh(1.427075)), abs=1e-6)
    assert all(map(math.isnan, (*statistics.correlation_interval(0.5, 3), *statistics.correlation_interval(1.0, 9))))
    assert statistics.mean_and_deviation([1.0, 2.0, 6.0]) == pytest.approx((3.0, math.sqrt(7)))
    assert math.isnan(statistics.mean_and_deviation([1.0])[1])


def test_intervals_and_paired_tests_of_known_samples() -> None:
    tokens = np.full(400, 10.0)
    nats = np.random.default_rng(1).normal(30, 4, 400)
    low, high = perplexity_interval(nats, tokens)
    mean, error = nats.mean() / 10, nats.std() / 10 / math.sqrt(400)
    assert [math.log(low), math.log(high)] == pytest.approx([mean - 1.96 * error, mean + 1.96 * error], abs=0.003)
    noise = np.random.default_rng(2).normal(0, 1, 400)
    better = compare(nats, nats + 0.3 + noise, tokens)
    assert better.difference == pytest.approx((0.3 + noise.mean()) / 10)
    error = noise.std() / 10 / math.sqrt(400)
    assert [better.low, better.high] == pytest.approx(
        [better.difference - 1.96 * error, better.difference + 1.96 * error], abs=0.2 * error
    )
    assert better.p_value == 1 / 2001  # never 0: no random choice of signs is as large, the one observed is
    assert compare(nats, nats, tokens).p_value == 1.0
    # of the 8 ways to set the signs of three equal differences, 2 are as large
    assert compare(np.zeros(3), np.ones(3), np.ones(3)).p_value == pytest.approx(0.25, abs=0.03)
    assert math.isnan(compare(np.array([1.0, np.nan]), np.ones(2), np.ones(2)).p_value)  # nothing is as large as nan


def test_perplexities_that_overflow_or_fill_a_line_are_shown_in_few_digits() -> None:
    assert perplexity_interval(np.full(3, 9000.0), np.full(3, 10.0)) == (math.inf, math.inf)
    assert [metrics.shown(figure) for figure in (1234.5678, 1.5e40, math.inf)] == ["1,234.568", "1.5e+40", "inf"]


@pytest.mark.parametrize("text", ["éa b é\n\n  one two\tthree", "éa\u00a0b\u3000é\n\n  one\u2009 two\tthree"])
@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_words_and_line_ends_are_counted_across_tokens(
    monkeypatch: pytest.MonkeyPatch, at_once: int, text: str
) -> None:
    monkeypatch.setitem(count_words.__globals__, "TOKENS_AT_ONCE", at_once)  # a function has the name of its module
    for kind in ("char", "byte", "bpe"):
        tokenizer = train_tokenizer(TokenizerConfig(kind=kind, eos="none"), [text * 3], num_documents=1)  # type: ignore[arg-type]
        ids = np.concatenate([tokenizer.encode("x")[:1], tokenizer.encode(text)])  # the first token is not scored
        assert count_words(tokenizer, ArrayTokens(ids)) == (6, 2)


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@pytest.mark.parametrize(("eos", "num_ends"), [("document", 3), ("none", 0)])
def test_no_word_of_a_stream_continues_in_the_next_document(kind: str, eos: str, num_ends: int) -> None:
    """As a run counts its words, and the table of surprisal has them; each end is scored, so it is counted as well."""
    texts = ["x ab ba", "ab", "a"]
    tokenizer = train_tokenizer(TokenizerConfig(kind=kind, eos=eos), texts, num_documents=3)  # type: ignore[arg-type]
    ids, lengths = tokenizer.encode_documents(texts)
    starts = np.cumsum(lengths) - lengths
    assert count_words(tokenizer, ArrayTokens(ids, starts)) == (4, num_ends)
    assert WordBegins(tokenizer)(ids, starts)[1:].sum() == 4  # all but the first token


@pytest.mark.parametrize("streams", [1, 3, 50])
@pytest.mark.parametrize("bptt", [4, 100])
def test_documents_are_scored_as_each_alone(model: LanguageModel, streams: int, bptt: int) -> None:
    begin, lengths = VOCAB - 1, [5, 1, 11, 2, 2, 30, 7]
    ids = np.random.default_rng(1).integers(0, VOCAB, sum(lengths)).astype(np.uint16)
    bounds = np.cumsum([0, *lengths]).tolist()
    text = HeldOut(ArrayTokens(ids, starts=np.array(bounds[:-1])), None, begin_id=begin)
    score = evaluate(model, text, streams=streams, bptt=bptt)
    parts = [token_by_token(model, np.append(begin, ids[a:b])) for a, b in itertools.pairwise(bounds)]
    assert (score.tokens, score.num_parts, score.layout) == (sum(lengths), len(lengths), "documents")
    assert score.nats == pytest.approx(sum(parts), rel=1e-12)


def test_a_text_is_scored_in_the_documents_that_the_corpus_has(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("bé\nab\n\nbab\n", encoding="utf-8")
    usual = ["data.layout=documents", "corpus.document=line", "tokenizer.kind=byte"]
    # what is left out of the training text for its length is scored nevertheless
    config = configuration.load(None, [*usual, "corpus.min_characters=3", "corpus.max_characters=4"])
    tokenizer = train_tokenizer(config.tokenizer, [], num_documents=2)
    text = text_held_out(tokenizer, str(path), config.corpus, layout="documents")
    assert len(text.tokens) == 3 + 1 + 2 + 1 + 3 + 1  # each with an <eos>
    assert text.tokens.document_starts(0, 99).tolist() == [0, 4, 7]
    assert (text.num_bytes, text.begin_id) == (8, 256)
    path.write_text("\n\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"names\.txt has 0 tokens"):
        text_held_out(tokenizer, str(path), config.corpus, layout="documents")


def test_documents_end_words_and_lines_and_their_surprisal_is_their_score(model: LanguageModel) -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="char"), ["ab ba", "a"], num_documents=2)
    ids, lengths = tokenizer.encode_documents(["ab ba", "ab", "a"])
    tokens = ArrayTokens(ids, starts=np.cumsum(lengths) - lengths)
    assert count_words(tokenizer, tokens, layout="documents") == (4, 3)
    text = HeldOut(tokens, None, begin_id=tokenizer.eos_id)
    rows = [row for row in surprisal_rows(model, tokenizer, text) if row.level == "token"]
    assert [row.document for row in rows] == [0] * 6 + [1] * 3 + [2] * 2
    assert sum(row.nats for row in rows) == pytest.approx(evaluate(model, text, streams=2, bptt=9).nats, rel=1e-6)
