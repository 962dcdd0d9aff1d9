"""Schedules as lists worked by hand."""

import math

import pytest

from pipeline.config import OptimizerConfig
from pipeline.training.schedules import drops_now, learning_rate


def rates(total_steps: int, steps_per_epoch: int = 2, **settings: object) -> list[float]:
    config = OptimizerConfig(lr=1.0, **settings)  # type: ignore[arg-type]
    return [
        learning_rate(config, step=step, total_steps=total_steps, epoch=step // steps_per_epoch)
        for step in range(total_steps)
    ]


def test_constant_with_warm_up() -> None:
    assert rates(6, schedule="constant", warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_step_decay_as_in_zaremba() -> None:
    # lr · 0.5^max(epoch + 1 − 4, 0), epochs from 0
    assert rates(14, schedule="step", decay_after_epochs=4, decay_factor=0.5) == (
        [1.0] * 8 + [0.5] * 2 + [0.25] * 2 + [0.125] * 2
    )


def test_step_decay_after_named_epochs() -> None:
    found = rates(12, schedule="step", decay_at_epochs=[2, 5], decay_factor=0.1)
    assert found == pytest.approx([1.0] * 4 + [0.1] * 6 + [0.01] * 2)


def test_cosine() -> None:
    half = math.sqrt(0.5)
    expected = [1.0, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert rates(4, schedule="cosine") == pytest.approx(expected)
    assert rates(4, schedule="cosine", final_lr_ratio=0.1) == pytest.approx([0.1 + 0.9 * rate for rate in expected])


def test_cosine_stays_at_its_end() -> None:
    config = OptimizerConfig(lr=1.0, schedule="cosine", final_lr_ratio=0.1)
    assert [learning_rate(config, step=step, total_steps=4) for step in (4, 6, 99)] == pytest.approx([0.1] * 3)


def test_one_cycle_rises_to_its_peak_and_falls_to_the_end() -> None:
    found = rates(11, schedule="1cycle", peak_fraction=0.3, final_lr_ratio=0.01)
    assert found[0] == pytest.approx(1 / 25)
    assert found[3] == pytest.approx(1.0)
    assert found[10] == pytest.approx(0.01)
    assert found[:4] == sorted(found[:4])
    assert found[3:] == sorted(found[3:], reverse=True)


def test_inverse_square_root_after_its_warm_up() -> None:
    found = rates(16, schedule="inverse_sqrt", warmup_steps=4)
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[8] == pytest.approx(2 / 3)  # √(4/9)
    assert found[15] == pytest.approx(0.5)  # √(4/16)
    assert rates(4, schedule="inverse_sqrt")[3] == pytest.approx(0.5)  # without a warm-up: 1/√4


def test_plateau_lowers_the_rate_whenever_its_patience_is_over() -> None:
    config = OptimizerConfig(lr=8.0, schedule="plateau", decay_factor=0.25, plateau_patience=2)
    # validations since the best:     best, worse, worse (drop), worse, worse (drop), best
    assert [drops_now(config, num_worse) for num_worse in (0, 1, 2, 3, 4, 0)] == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]
    assert [learning_rate(config, step=9, total_steps=99, num_drops=n) for n in (0, 1, 2)] == [8.0, 2.0, 0.5]
    assert not drops_now(OptimizerConfig(schedule="cosine"), 2)
