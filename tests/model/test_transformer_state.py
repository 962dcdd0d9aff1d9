"""The state that attention carries: the same however a text is cut, between resets, and around the ring."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.model.evaluating import evaluating
from pipeline.model.segments import Segments
from pipeline.model.state import concatenate, detach, select
from pipeline.model.stepper import Stepper
from tests.model.transformers import CPU, STREAMS, TRANSFORMERS, VOCAB, make, read, tokens


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_how_a_text_is_cut_into_windows_changes_nothing(name: str) -> None:
    model = make(name)
    inputs = tokens(23)
    whole, end = read(model, inputs, [23])
    for lengths in ([1] * 23, [5, 4, 14], [2, 1, 7, 13], [7, 7, 7, 2]):
        found, state = read(model, inputs, lengths)
        torch.testing.assert_close(found, whole, rtol=1e-11, atol=1e-12)
        after = [read(model, tokens(8, seed=2), [8], each)[0] for each in (state, end)]
        torch.testing.assert_close(*after, rtol=1e-11, atol=1e-12)


def resets_at(length: int, *places: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((length, STREAMS), dtype=bool)
    for step, stream in places:
        mask[step, stream] = True
    return mask


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize(
    "resets",
    [
        resets_at(9, (0, 1), (3, 1), (4, 1), (8, 1), (5, 2)),
        resets_at(9, (0, 0), (0, 2)),
        np.ones((9, STREAMS), dtype=bool),
        resets_at(9),
    ],
)
def test_each_stretch_between_resets_is_as_if_run_alone(name: str, resets: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    model = make(name)
    before, inputs, after = tokens(6), tokens(9, seed=2), tokens(9, seed=3)
    state = detach(read(model, before, [6])[1])
    expected, ends = [], []
    for stream in range(STREAMS):
        own, column = select(state, slice(stream, stream + 1)), inputs[:, stream : stream + 1]
        cuts = sorted({0, *np.flatnonzero(resets[:, stream]).tolist(), 9})
        parts = []
        for begin, end in itertools.pairwise(cuts):
            own = model.initial_state(1) if resets[begin, stream] else own
            hidden, own = model(column[begin:end], own)
            parts.append(hidden)
        expected.append(torch.cat(parts))
        ends.append(own)
    found, end_state = model(inputs, state, Segments(resets, device=CPU))
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=1e-11, atol=1e-12)
    # streams at different places side by side
    torch.testing.assert_close(
        read(model, after, [4, 5], end_state)[0], read(model, after, [9], concatenate(ends))[0], rtol=1e-11, atol=1e-12
    )
    ours, theirs = (
        torch.autograd.grad(hidden.pow(3).sum(), list(model.recurrence.parameters()), allow_unused=True)
        for hidden in (found, torch.cat(expected, dim=1))
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_no_gradient_flows_into_the_previous_window() -> None:
    model = make("rotary, SwiGLU, grouped")
    inputs = tokens(8)
    gradients = []
    for state in (read(model, inputs[:4], [4])[1], model.initial_state(STREAMS)):
        carried = detach(state)
        hidden, _ = model(inputs[4:], carried)
        gradients.append(torch.autograd.grad(hidden.pow(3).sum(), model.embedding.weight)[0])
    used = torch.zeros(VOCAB, dtype=torch.bool).scatter_(0, inputs[4:].flatten(), True)
    for gradient in gradients:
        assert not gradient[~used].any()
    assert not torch.allclose(*gradients)  # but the carried state does matter


def test_counts_wrap_around_before_float32_cannot_hold_them() -> None:
    """Reading at a count of 2^24 − 2 gives the same as 2^23 tokens earlier, also from there on."""
    model = make("rotary, SwiGLU, grouped")
    before, inputs = tokens(6), tokens(9, seed=2)
    _, (keys, values, counts) = read(model, before, [6])
    found = []
    for number in (2**24 - 2, 2**23 - 2):
        state = (torch.zeros_like(keys), torch.zeros_like(values), counts.clone())
        state[2][..., 0] = number
        hidden, state = read(model, torch.cat([before, inputs]), [6, 5, 4], state)
        found.append(hidden[6:])
        assert state[2][..., 0].unique().tolist() == [2**23 + 13]
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_single_steps_go_around_the_ring(name: str) -> None:
    """Windows and single steps alternate, with streams at different places side by side."""
    model = make(name)
    inputs = tokens(40)
    starts = resets_at(6, (2, 1), (5, 2))
    with evaluating(model):
        hidden, expected_state = model(inputs[:6], model.initial_state(STREAMS), Segments(starts, device=CPU))
        state = select(expected_state, torch.arange(STREAMS))  # steps overwrite their state
        whole, _ = model(inputs[6:], expected_state)
        expected = model.head.logits(whole)
        stepper = Stepper(model)
        at = 6
        for length in (3, 9, 1, 4, 14):
            for token in inputs[at : at + length]:
                logits, state = stepper(token, state)
                torch.testing.assert_close(logits, expected[at - 6], rtol=1e-10, atol=1e-11)
                at += 1
            state = select(state, torch.arange(STREAMS))
            if at < 38:
                hidden, state = model(inputs[at : at + 1], state)
                torch.testing.assert_close(model.head.logits(hidden[0]), expected[at - 6], rtol=1e-10, atol=1e-11)
                at += 1


def test_a_state_saved_before_the_ring_was_introduced_can_be_continued() -> None:
    model = make("beside an LSTM")
    expected, _ = read(model, tokens(12), [6, 6])
    *parts, count = read(model, tokens(12)[:6], [6])[1]
    found, _ = read(model, tokens(12)[6:], [6], (*parts, count[..., :1]))
    torch.testing.assert_close(found, expected[6:])


def test_the_state_does_not_grow() -> None:
    for name in TRANSFORMERS:
        model = make(name)
        shapes = [part.shape for part in model.initial_state(STREAMS)]
        for length in (1, 3, 40):
            assert [part.shape for part in read(model, tokens(length), [length])[1]] == shapes
