"""Tokens drawn from logits: against the softmax, with numbers that depend on seed, prompt and position."""

import math

import numpy as np
import pytest
import torch

from pipeline.config import ModelConfig
from pipeline.generate import beam_search
from pipeline.generate.sampler import NotFiniteError, Sampler, read_prompt, sample_tokens
from pipeline.generate.sampling import BLOCK, SUMMED, Uniforms, draw, draw_by_blocks, filtered
from pipeline.model.language_model import LanguageModel
from pipeline.options import Sampling


def probabilities(logits: torch.Tensor, sampling: Sampling) -> list[float]:
    return filtered(logits.unsqueeze(0), sampling)[0].softmax(0).tolist()  # type: ignore[no-any-return]


def test_filters() -> None:
    logits = torch.log(torch.tensor([0.5, 0.1, 0.3, 0.1]))
    assert probabilities(logits, Sampling()) == pytest.approx([0.5, 0.1, 0.3, 0.1])
    assert probabilities(logits, Sampling(temperature=0)) == [1, 0, 0, 0]
    squared = [0.25, 0.01, 0.09, 0.01]
    assert probabilities(logits, Sampling(temperature=0.5)) == pytest.approx([p / 0.36 for p in squared])
    assert probabilities(logits, Sampling(top_k=2)) == pytest.approx([0.625, 0, 0.375, 0])
    assert probabilities(logits, Sampling(top_p=0.6)) == pytest.approx([0.625, 0, 0.375, 0])
    assert probabilities(logits, Sampling(top_p=0.4)) == [1, 0, 0, 0]
    assert probabilities(logits, Sampling(min_p=0.5)) == pytest.approx([0.625, 0, 0.375, 0])
    assert probabilities(logits, Sampling(min_p=0.7)) == [1, 0, 0, 0]


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_a_temperature_near_zero_takes_the_likeliest(scale: float) -> None:
    logits = scale * torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    uniforms = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for dtype in (torch.float32, torch.float64):
        for temperature in (1e-320, 1e-45, 1e-40, 1e-38, 1e-30, 1e-19, 1e-12):
            sampling = Sampling(temperature=temperature)
            assert draw(logits.to(dtype), uniforms, sampling).tolist() == logits.argmax(1).tolist()
            assert probabilities(logits[0].to(dtype), sampling) == probabilities(logits[0], Sampling(temperature=0))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_k=4), Sampling(top_p=0.8)])
def test_draws_follow_the_softmax(sampling: Sampling) -> None:
    num_draws = 100_000
    torch.manual_seed(1)
    logits = torch.randn(1, 12, dtype=torch.float64) * 2
    expected = np.array(filtered(logits, sampling)[0].softmax(0))
    uniforms = torch.tensor([Uniforms(seed, np.array([2]))[0] for seed in range(num_draws)], dtype=torch.float64)
    drawn = draw(logits.repeat(num_draws, 1), uniforms, sampling)
    observed, kept = np.bincount(drawn, minlength=12), expected > 0
    assert not observed[~kept].any()
    chi_square = ((observed - num_draws * expected)[kept] ** 2 / (num_draws * expected[kept])).sum()
    assert chi_square < 31.3  # 11 degrees of freedom, p = 0.001; with fewer types kept, p is smaller still


def test_the_smallest_and_largest_numbers_draw_the_first_and_last_possible_token() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]]).repeat(2, 1)
    assert draw(logits, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), Sampling()).tolist() == [1, 2]


def test_tokens_found_by_blocks_are_those_of_the_full_cumulative_sum() -> None:
    generator = torch.Generator().manual_seed(3)
    uniforms = torch.rand(400, dtype=torch.float64, generator=generator)
    uniforms[:3] = torch.tensor([0.0, 1 - 2**-53, 0.5], dtype=torch.float64)
    for num_types in (SUMMED - 1, SUMMED, 5 * SUMMED, 5 * SUMMED + 7):
        weights = torch.rand(400, num_types, dtype=torch.float64, generator=generator)
        weights[weights < 0.7] = 0
        weights[2] = 0
        weights[2, num_types // 2] = 1
        cumulative = weights.cumsum(1)
        expected = torch.searchsorted(cumulative, uniforms.unsqueeze(1) * cumulative[:, -1:], right=True).squeeze(1)
        assert draw_by_blocks(weights, uniforms).tolist() == expected.tolist()


def test_each_uniform_number_depends_only_on_seed_prompt_copy_and_position() -> None:
    ids = np.array([3, 1])
    numbers = Uniforms(7, ids)
    in_order = [numbers[position] for position in range(2 * BLOCK + 3)]
    assert len(set(in_order)) == len(in_order)
    assert all(Uniforms(7, ids)[position] == in_order[position] for position in (0, 5, BLOCK, 2 * BLOCK + 2))
    others = [Uniforms(8, ids), Uniforms(7, np.array([1, 3])), Uniforms(7, ids, copy=1)]
    assert len({in_order[0], *(other[0] for other in others)}) == 4
    assert abs(np.mean(in_order) - 0.5) < 4 / np.sqrt(12 * len(in_order))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": 2.0},
        {"repetition_penalty": 0.0}, {"repetition_penalty": math.inf}, {"repetition_penalty": 1e-40},
        {"temperature": math.inf},
        *({name: math.nan} for name in ("temperature", "top_p", "min_p", "repetition_penalty")),
    ],
)  # fmt: skip
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))}: "):
        Sampling(**options)  # type: ignore[arg-type]


def test_outputs_that_are_not_finite_have_no_token() -> None:
    for num_types in (5, SUMMED - 1, 5 * SUMMED, 5 * SUMMED + 7):
        logits = torch.zeros(3, num_types)
        logits[1, 2], logits[2, 3] = torch.nan, torch.inf
        half = torch.full((3,), 0.5, dtype=torch.float64)
        for drawn in (
            draw(logits.clone(), half, Sampling()),
            draw(logits.clone(), half, Sampling(temperature=0)),
            draw_by_blocks(torch.softmax(logits, 1), half),
        ):
            assert drawn[0] < num_types
            assert drawn[1:].tolist() == [num_types] * 2


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_model_without_probabilities_writes_nothing(wrong: float) -> None:
    model = LanguageModel(ModelConfig(hidden_size=4, num_layers=1), 5)
    with torch.no_grad():
        model.head.bias[2] = wrong
    for sampling in (Sampling(), Sampling(temperature=0), Sampling(repetition_penalty=2.0)):
        with pytest.raises(NotFiniteError, match="outputs are not finite"):
            list(sample_tokens(model, np.array([1]), num_tokens=3, seed=1, sampling=sampling))
    for eos_id in (None, 0):
        with pytest.raises(NotFiniteError, match="outputs are not finite"):
            beam_search(model, np.array([1]), num_tokens=3, num_beams=2, eos_id=eos_id)


def test_a_document_that_has_ended_leaves_no_state_if_training_reset_it_there() -> None:
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(hidden_size=5, num_layers=2), 6).double().eval()
    hidden, state = model(torch.tensor([[2], [4]]), model.initial_state(1))
    expected = model.head.logits(hidden[-1])
    logits, end = read_prompt(model, np.array([3, 1, 0, 2, 4]))
    assert not torch.allclose(logits, expected)
    model.reset_after = 0
    logits, end = read_prompt(model, np.array([3, 1, 0, 2, 4]))
    torch.testing.assert_close(logits, expected)
    for mine, theirs in zip(end, state, strict=True):
        torch.testing.assert_close(mine, theirs)
    sampler = Sampler(model, [np.array([3, 0]), np.array([3, 1])], seed=1, sampling=Sampling())
    hidden, _ = model(torch.tensor([[3], [0]]), model.initial_state(1))
    torch.testing.assert_close(sampler.logits[:1], model.head.logits(hidden[-1]))
    assert [bool(part.any()) for part in (sampler.state[0][:, 0], sampler.state[0][:, 1])] == [False, True]
    sampler.tokens = torch.tensor([2, 0])  # as if they had been drawn
    sampler.next()
    assert [bool(part.any()) for part in (sampler.state[0][:, 0], sampler.state[0][:, 1])] == [True, False]
