"""Sparse probes against the conditions for a minimum, areas under curves by hand, parts of a text."""

import numpy as np
import pytest

from pipeline.units import probes
from pipeline.units.probes import Parts, area_under_curve, control_labels, correlations, fit_probe, fit_sparse, score_of


@pytest.mark.parametrize("is_number", [True, False])
def test_weights_are_a_minimum_of_the_penalised_loss(is_number: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "STEPS", 3000)
    source = np.random.default_rng(1)
    states = source.normal(size=(3000, 8))
    wanted = states[:, 2] - 0.5 * states[:, 5] + 0.3 * source.normal(size=3000)
    labels = wanted if is_number else (wanted > 0.4).astype(float)
    penalty = 0.05
    weights = fit_sparse(states, labels, penalty, np.zeros(9), is_number=is_number)
    predictions = states @ weights[:-1] + weights[-1]
    if not is_number:
        predictions = 1 / (1 + np.exp(-predictions))
    gradient = (predictions - labels) @ states / 3000
    assert (predictions - labels).mean() == pytest.approx(0, abs=1e-8)
    used = weights[:-1] != 0
    assert set(np.flatnonzero(used)) == {2, 5}
    np.testing.assert_allclose(gradient[used], -penalty * np.sign(weights[:-1][used]), atol=1e-8)
    assert (np.abs(gradient[~used]) < penalty).all()


def test_scores_by_hand() -> None:
    labels = np.array([1.0, 0, 1, 0])
    assert area_under_curve(np.array([0.9, 0.8, 0.4, 0.1]), labels) == 0.75
    assert area_under_curve(np.array([1.0, 1, 1, 1]), labels) == 0.5
    assert area_under_curve(np.array([1.0, 2, 3, 4]), np.ones(4)) == 0.5
    assert score_of(np.array([1.0, 2, 3]), np.array([1.0, 2, 6]), is_number=True) == pytest.approx(1 - 9 / 14)
    states = np.array([[1.0, 5, 0], [2, 5, 1], [3, 5, 0]])
    assert correlations(states, np.array([2.0, 4, 6])).tolist() == pytest.approx([1, 0, 0])


def test_parts_of_a_text() -> None:
    for number in (100, 999, 20_000):
        parts = Parts.of(number)
        both = np.concatenate([parts.fit, parts.choose, parts.judge])
        assert sorted(both.tolist()) == list(range(number))
        assert len(parts.judge) == pytest.approx(number / 5, rel=0.1)


def test_control_labels_are_the_same_for_all_tokens_of_a_type() -> None:
    ids = np.random.default_rng(1).integers(50, size=2000)
    labels = control_labels(ids, np.arange(2000.0) % 7, seed=3)
    assert {len(set(labels[ids == token])) for token in range(50)} == {1}
    assert set(labels) <= set(range(7))
    assert (labels == control_labels(ids, np.arange(2000.0) % 7, seed=3)).all()


def test_a_probe_is_as_sparse_as_it_can_be() -> None:
    source = np.random.default_rng(2)
    states = source.normal(size=(2000, 300)).astype(np.float32)
    labels = (states[:, 17] + 0.2 * source.normal(size=2000) > 0).astype(float)
    probe = fit_probe(states, labels, Parts.of(2000), is_number=False)
    assert probe.units[0] == 17
    assert len(probe.units) < 5
    assert probe.score > 0.97
    noise = fit_probe(states, source.integers(2, size=2000).astype(float), Parts.of(2000), is_number=False)
    assert 0.4 < noise.score < 0.6
