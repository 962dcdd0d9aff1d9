"""Losses by context against a separate run for each target and context, and a text with known memory."""

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import ModelConfig
from pipeline.context_use import measure
from pipeline.context_use.changed import changed_contexts
from pipeline.context_use.places import after_contexts, all_targets, choose_targets
from pipeline.data.streams import NO_RESETS, ResetRule
from pipeline.data.windows import ArrayTokens
from pipeline.errors import UserError
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel

VOCAB = 11
CELLS = ["rnn", "lstm", "gru", "gru_reset_before", "mingru", "minlstm", "qrnn"]


def make(cell: str, **settings: Any) -> LanguageModel:
    torch.manual_seed(0)
    values = {"hidden_size": 5, "num_layers": 2, "init_range": 0.8, "dropout": 0.5, **settings}
    return LanguageModel(ModelConfig(cell=cell, **values), VOCAB).double()  # type: ignore[arg-type]


def text(num_tokens: int, *documents: int) -> ArrayTokens:
    ids = np.random.default_rng(2).integers(VOCAB, size=num_tokens)
    return ArrayTokens(ids, np.array([0, *documents]) if documents else None)


def nats_after(model: LanguageModel, ids: list[int], target: int) -> float:
    """The nats of ``target`` after a separate run over ``ids`` from a zero state."""
    with evaluating(model):
        hidden, _ = model(torch.tensor(ids)[:, None], model.initial_state(1))
        return -float(model.head.logits(hidden[-1:])[0, 0].log_softmax(0)[target])


def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.context_use.rows.ROWS_AT_ONCE", 7)
    monkeypatch.setattr("pipeline.context_use.rows.TOKENS_AT_ONCE", 13)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("documents", "within"), [((), 0.0), ((30, 55, 57), 0.0), ((), 0.3)])
def test_every_loss_equals_that_of_a_separate_run(
    cell: str, documents: tuple[int, ...], within: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks(monkeypatch)
    monkeypatch.setattr("pipeline.context_use.places.STRETCH", 5)
    model, tokens = make(cell), text(90, *documents)
    reset = ResetRule(at_documents=bool(documents))
    contexts = [1, 2, 5, 8]
    found = measure(model, tokens, contexts=contexts, num_targets=9, within=within, reset=reset)
    targets = choose_targets(90, 9, before=8)
    pairs = after_contexts(targets, contexts, within=within)
    starts = pairs.starts.reshape(4, 9)
    ids = tokens.array.tolist()
    assert found.targets.places.tolist() == targets.places.tolist() == [8, 9, 10, 11, 49, 50, 51, 52, 53]
    assert found.types.tolist() == [ids[place] for place in targets.places]
    for n, place in enumerate(targets.places.tolist()):
        begin = max(
            (start for start in documents if start < place), default=0
        )  # the beginning of its document, if documents count
        assert found.whole[n] == pytest.approx(nats_after(model, ids[begin:place], ids[place]), abs=1e-9)
        for c, context in enumerate(contexts):
            start = int(starts[c, n])
            assert context <= place - start <= context * (1 + within)
            assert within or place - start == context
            expected = nats_after(model, ids[max(begin, start) : place], ids[place])
            assert found.nats["dropped"][context][n] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("cell", "num_targets", "documents"),
    [("lstm", None, ()), ("lstm", 5, (12, 21)), ("gru", None, (12, 21)), ("qrnn", 5, ())],
)
def test_shuffled_and_replaced_contexts(
    cell: str, num_targets: int | None, documents: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks(monkeypatch)
    model, tokens = make(cell), text(26, *documents)
    reset = ResetRule(at_documents=bool(documents))
    contexts, length, changes = [1, 3, 4], 6, ["dropped", "shuffled", "replaced"]
    found = measure(
        model, tokens, contexts=contexts, changes=changes, num_targets=num_targets, length=length, reset=reset,
        within=0, seed=4,
    )  # fmt: skip
    targets = all_targets(26) if num_targets is None else choose_targets(26, 5, before=4 + length)
    ids = tokens.array.tolist()
    for change in changes:
        changed = changed_contexts(change, tokens, length=length, longest=4, reset=reset, seed=4)
        for n, place in enumerate(targets.places.tolist()):
            begin = max((start for start in documents if start < place), default=0)
            for context in contexts:
                start = max(0, place - context)
                before: list[int] = []
                if changed is not None and start > begin:
                    rows, counts = changed(np.array([start]))
                    before = rows[0, length - counts[0] :].tolist()
                expected = nats_after(model, [*before, *ids[max(begin, start) : place]], ids[place])
                assert found.nats[change][context][n] == pytest.approx(expected, abs=1e-9), (change, place, context)


def test_the_texts_that_contexts_are_changed_into() -> None:
    tokens = ArrayTokens(np.arange(100) % VOCAB * 100 + np.arange(100), np.array([0, 40, 70]))
    starts = np.array([3, 50, 75])
    shuffled = changed_contexts("shuffled", tokens, length=6, longest=10, reset=NO_RESETS, seed=1)
    assert shuffled is not None
    rows, counts = shuffled(starts)
    assert counts.tolist() == [3, 6, 6]
    for row, count, start in zip(rows, counts, starts, strict=True):
        assert sorted(row[6 - count :]) == tokens.array[start - count : start].tolist()
    assert (shuffled(starts[::-1])[0] == rows[::-1]).all()  # it does not depend on the other rows
    replaced = changed_contexts("replaced", tokens, length=6, longest=10, reset=NO_RESETS, seed=1)
    assert replaced is not None
    own = [range(40), range(40, 70), range(70, 100)]
    for seed_start in range(3, 95):
        row = replaced(np.array([seed_start]))[0][0] % 100
        document = next(each for each in own if seed_start in each)
        assert (np.diff(row) == 1).all()
        assert not set(row.tolist()) & set(document), "of the same document"
        near = range(seed_start - 6, seed_start + 11)
        assert not set(row.tolist()) & set(near)
    at_documents = changed_contexts("replaced", tokens, length=6, longest=10, reset=ResetRule(True), seed=1)
    assert at_documents is not None
    assert at_documents(np.array([0, 40, 43, 70, 99]))[1].tolist() == [0, 0, 3, 0, 6]
    none = changed_contexts("replaced", text(20), length=9, longest=5, reset=NO_RESETS, seed=1)
    assert none is not None
    with pytest.raises(UserError, match=r"^change: a text of 20 tokens is too short: no other 9 can replace"):
        none(np.array([10]))


def shift_register(num_types: int, memory: int) -> LanguageModel:
    """A tanh RNN that predicts the token ``memory`` places back: each input moves on by one group of units per step."""
    size = num_types * memory
    config = ModelConfig(cell="rnn", hidden_size=size, embedding_size=num_types, num_layers=1)
    model = LanguageModel(config, num_types).double()
    layer: Any = model.recurrence.layers[0]
    head: Any = model.head
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.embedding.weight.copy_(torch.eye(num_types))
        layer.weight_ih_l0[:num_types] = 1e-3 * torch.eye(num_types)  # so small that tanh x ≈ x
        layer.weight_hh_l0[num_types:, :-num_types] = torch.eye(size - num_types)
        head.weight[:, -num_types:] = 3e3 * torch.eye(num_types)
    return model


@pytest.mark.parametrize("memory", [7, 23, 41])
def test_the_curve_breaks_where_the_memory_of_a_text_ends(memory: int) -> None:
    """Each token repeats the one ``memory`` before it, or, one time in four, is random: less context tells nothing."""
    source = np.random.default_rng(1)
    ids = source.integers(4, size=6000)
    for place in range(memory, len(ids)):
        if source.random() < 0.75:
            ids[place] = ids[place - memory]
    model = shift_register(4, memory)
    found = measure(model, ArrayTokens(ids), contexts=[1, 2, 3, 5, 10, 20, 30, 50, 60], share=0.01)
    curve = found.curve("dropped")
    effective = curve.effective(0.01)
    assert effective is not None
    assert (
        0.99 * memory <= effective <= 1.1 * memory
    )  # contexts can be a little longer than k, which also helps a little
    for point in curve.points:
        if point.context < memory / 1.1:
            assert point.nats.value == pytest.approx(np.log(4))
        elif point.context >= memory:
            assert point.increase.value == pytest.approx(0, abs=1e-9)
            assert point.nats.high < 1.1
        assert point.nats.number == 1000
    exact = measure(model, ArrayTokens(ids), contexts=[memory - 1, memory], within=0, num_targets=100)
    before, at = exact.curve("dropped").points
    assert before.nats.value == pytest.approx(np.log(4))
    assert at.increase.value == pytest.approx(0, abs=1e-9)


def test_without_a_number_every_token_is_a_target_once() -> None:
    model, tokens = make("gru"), text(60)
    found = measure(model, tokens, contexts=[2, 5], num_targets=None, within=0)
    ids = tokens.array.tolist()
    assert found.types.tolist() == ids[1:]
    assert found.whole[-1] == pytest.approx(nats_after(model, ids[:-1], ids[-1]), abs=1e-9)
    assert found.nats["dropped"][5][0] == pytest.approx(nats_after(model, ids[:1], ids[1]), abs=1e-9)
    # rows that begin at 0 to 54 serve both contexts, those at 55 to 57 only the shorter one
    assert found.num_read == {"whole": 59, "dropped": 55 * 5 + 3 * 2}


def test_the_tokens_read_are_as_many_as_planned() -> None:
    planned: list[int] = []
    done: list[int] = []
    measure(
        make("lstm"), text(500), contexts=[3, 9], changes=["dropped", "replaced"], num_targets=50,
        on_plan=planned.append, on_tokens=done.append,
    )  # fmt: skip
    assert planned == [sum(done)]


def test_the_plan_grows_when_further_contexts_are_measured() -> None:
    planned: list[int] = []
    done: list[int] = []
    found = measure(
        shift_register(4, 7), ArrayTokens(np.resize([0, 1, 1, 2, 3, 0, 2], 900)), contexts=[1, 20],
        changes=["dropped", "shuffled"], num_targets=50, share=0.01, on_plan=planned.append, on_tokens=done.append,
    )  # fmt: skip
    assert len(planned) == 1 + sum(len(nats) - 2 for nats in found.nats.values())
    assert 7 in found.nats["dropped"]
    assert planned == sorted(planned)
    assert planned[-1] == sum(done)


def test_a_text_that_is_too_short_is_refused() -> None:
    with pytest.raises(UserError, match=r"^contexts: 50 tokens before a target need a longer text than the 50 tokens"):
        measure(make("rnn"), text(50), contexts=[50])
    with pytest.raises(UserError, match="nothing to score"):
        measure(make("rnn"), text(1), contexts=[5], num_targets=None)
