"""A trained model's losses by position in the context and by frequency, against plain sums."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from pipeline.compare.scores import DEPTHS, by_depth, context_windows, depth_groups, rows_of
from pipeline.config import ModelConfig
from pipeline.data.streams import ResetRule
from pipeline.data.windows import ArrayTokens
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel

VOCAB = 11


def test_depth_groups_by_hand() -> None:
    groups = depth_groups(np.array([5.0, 3.0, 1.0, 2.0, 2.0]), 10)
    assert [(group.first, group.last, group.nats, group.tokens) for group in groups] == [
        (1, 1, 5.0, 10), (2, 3, 4.0, 20), (4, 5, 4.0, 20),
    ]  # fmt: skip
    assert [group.last for group in depth_groups(np.ones(512), 1)] == [*(first - 1 for first in DEPTHS[1:]), 512]


def test_rows_are_spread_evenly_without_repetition() -> None:
    assert rows_of(1_000, 100).tolist() == sorted(set(rows_of(1_000, 100).tolist()))
    assert rows_of(1_000, 100)[[0, -1]].tolist() == [0, 899]
    assert rows_of(103, 100).tolist() == [0, 1, 2]
    tokens = ArrayTokens(np.arange(50) % VOCAB)
    windows = list(context_windows(tokens, np.array([0, 7]), 20))
    inputs, targets = (np.concatenate([getattr(window, name) for window in windows]) for name in ("inputs", "targets"))
    assert inputs[:, 1].tolist() == [place % VOCAB for place in range(7, 27)]
    assert targets[:, 1].tolist() == [place % VOCAB for place in range(8, 28)]
    assert [window.begins for window in windows] == [True] + [False] * (len(windows) - 1)


@pytest.mark.parametrize("cell", ["lstm", "mingru"])
def test_loss_by_depth_is_that_of_rows_from_a_zero_state(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(cell=cell, hidden_size=6, num_layers=1), VOCAB)  # type: ignore[arg-type]
    tokens = ArrayTokens(np.random.default_rng(1).integers(VOCAB, size=80))
    monkeypatch.setattr("pipeline.compare.scores.LONGEST_CONTEXT", 13)
    monkeypatch.setattr("pipeline.compare.scores.TOKENS_AT_ONCE", 300)  # several windows
    groups = by_depth(model, tokens, precision="float32")
    starts = rows_of(80, 13)
    sums = np.zeros(13)
    with evaluating(model):
        for start in starts:
            ids = torch.from_numpy(tokens.array[start : start + 14]).unsqueeze(1)
            hidden, _ = model(ids[:-1], model.initial_state(1))
            sums += model.head.token_nats(hidden, ids[1:])[:, 0].double().numpy()
    for group in groups:
        assert group.last is not None
        assert group.nats == pytest.approx(sums[group.first - 1 : group.last].sum(), rel=1e-5)
        assert group.tokens == len(starts) * (group.last - group.first + 1)


def nats_of(model: LanguageModel, ids: np.ndarray) -> list[float]:
    """Of each of ``ids`` but the first, read from a zero state on."""
    tokens = torch.from_numpy(ids).unsqueeze(1)
    with evaluating(model):
        hidden, _ = model(tokens[:-1], model.initial_state(1))
        return model.head.token_nats(hidden, tokens[1:])[:, 0].double().tolist()


@pytest.mark.parametrize("rule", [ResetRule(at_documents=True), ResetRule(every_tokens=4)])
def test_states_are_made_zero_as_in_training(rule: ResetRule, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(cell="gru", hidden_size=6, num_layers=1, init_range=0.8), VOCAB)
    tokens = ArrayTokens(np.random.default_rng(1).integers(VOCAB, size=80), np.array([0, 5, 33, 34, 60]))
    monkeypatch.setattr("pipeline.compare.scores.LONGEST_CONTEXT", 13)
    monkeypatch.setattr("pipeline.compare.scores.TOKENS_AT_ONCE", 300)  # several windows
    groups = by_depth(model, tokens, precision="float32", reset=rule)
    starts = rows_of(80, 13)
    sums = np.zeros(13)
    for start in starts.tolist():
        places = range(start, start + 13) if rule.at_documents else range(13)
        cuts = [
            k for k, place in enumerate(places) if (place in (5, 33, 34, 60) if rule.at_documents else place % 4 == 0)
        ]
        for begin, end in pairwise(sorted({0, *cuts, 13})):
            sums[begin:end] += nats_of(model, tokens.array[start + begin : start + end + 1])
    assert [group.nats for group in groups] == pytest.approx(
        [sums[g.first - 1 : g.last].sum() for g in groups], rel=1e-5
    )


def test_loss_by_depth_of_documents_is_that_of_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document is read after the end of a text, so its first token has a depth of 1."""
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(cell="gru", hidden_size=6, num_layers=1, init_range=0.8), VOCAB)
    starts = np.array([0, 5, 33, 34, 60])
    tokens = ArrayTokens(np.random.default_rng(1).integers(VOCAB, size=80), starts)
    monkeypatch.setattr("pipeline.compare.scores.LONGEST_CONTEXT", 21)
    monkeypatch.setattr("pipeline.compare.scores.ROWS_AT_ONCE", 2)
    monkeypatch.setattr("pipeline.compare.scores.TOKENS_AT_ONCE", 12)
    groups = by_depth(model, tokens, precision="float32", begin_id=3)
    sums, counts = np.zeros((2, 40))
    for begin, end in pairwise([*starts.tolist(), 80]):
        nats = nats_of(model, np.append(3, tokens.array[begin:end]))
        sums[: len(nats)] += nats
        counts[: len(nats)] += 1
    assert [(group.first, group.last) for group in groups] == [(1, 1), (2, 3), (4, 7), (8, 15), (16, 21)]
    for group in groups:
        own = slice(group.first - 1, group.last)
        assert group.nats == pytest.approx(sums[own].sum(), rel=1e-5)
        assert group.tokens == counts[own].sum()
    short = by_depth(model, ArrayTokens(tokens.array[:9], np.arange(0, 9, 3)), precision="float32", begin_id=3)
    assert [(group.last, group.tokens) for group in short] == [(1, 3), (3, 6)]  # as long as the documents are
