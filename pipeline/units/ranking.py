"""What predicts each feature of a text: single units, and a sparse probe alongside its control task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.units.features import Feature, Numbers
from pipeline.units.probes import Parts, control_labels, correlations, fit_probe, one_unit_score
from pipeline.units.states import States, Unit

# units named for each feature
MOST_NAMED = 10
# tokens in each of the three parts at which a label has to differ from its usual value
FEWEST = 5
# draws of labels for a control task, until they differ
MOST_DRAWS = 100


@dataclass(frozen=True)
class Ranked:
    """A unit, its correlation with the label where it was fitted, and how well it alone predicts it elsewhere."""

    unit: Unit
    correlation: float
    score: float


@dataclass(frozen=True)
class Finding:
    """What predicts one feature. Scores are R² for numbers, else the area under the ROC curve (½: nothing)."""

    feature: Feature
    units: list[Ranked]  # the largest correlation first, in absolute value
    probe: list[tuple[Unit, float]]  # the units of the sparse probe with their weights, the largest first
    score: float  # of the probe
    control: float  # of the same probe on the control task

    @property
    def selectivity(self) -> float:
        """Return how much better the probe does than on labels that are random by type (Hewitt & Liang 2019)."""
        return self.score - self.control

    def to_json(self) -> dict[str, Any]:
        return {
            "feature": self.feature.name,
            "measure": "r2" if self.feature.is_number else "auc",
            "units": [{"unit": str(r.unit), "correlation": r.correlation, "score": r.score} for r in self.units],
            "probe": [{"unit": str(unit), "weight": weight} for unit, weight in self.probe],
            "score": self.score,
            "control": self.control,
            "selectivity": self.selectivity,
        }


def rank_units(
    states: States,
    features: Sequence[Feature],
    *,
    seed: int = 1,
    on_feature: Callable[[int], None] = lambda number: None,
) -> list[Finding]:
    """Find the units of ``states`` that predict each of ``features``; features that hardly differ are left out."""
    matrix, units = states.matrix(), states.units
    parts = Parts.of(len(states))
    fit = np.concatenate([parts.fit, parts.choose])
    found = []
    for feature in features:
        on_feature(1)
        if not differs(feature.values, parts):
            continue
        r = correlations(matrix[fit], feature.values[fit])
        best = np.argsort(-np.abs(r), kind="stable")[:MOST_NAMED].tolist()
        ranked = [
            Ranked(
                units[index],
                float(r[index]),
                one_unit_score(matrix[:, index], feature.values, parts, is_number=feature.is_number),
            )
            for index in best
        ]
        probe = fit_probe(matrix, feature.values, parts, is_number=feature.is_number)
        labels = differing_control(states, feature, parts, seed=seed)
        control = fit_probe(matrix, labels, parts, is_number=feature.is_number)
        named = [(units[index], float(weight)) for index, weight in zip(probe.units, probe.weights, strict=True)]
        found.append(Finding(feature, ranked, named, probe.score, control.score))
    return found


def differing_control(states: States, feature: Feature, parts: Parts, *, seed: int) -> Numbers:
    """Return labels of the control task, drawn until they are not all alike, as those of a rare feature may be."""
    for attempt in range(MOST_DRAWS):
        labels = control_labels(states.ids, feature.values, seed=seed + attempt)
        if differs(labels, parts):
            break
    return labels


def differs(labels: Numbers, parts: Parts) -> bool:
    """Return whether (N,) ``labels`` differ from the usual one at enough tokens of each part."""
    usual = np.median(labels)
    return all(int((labels[part] != usual).sum()) >= FEWEST for part in (parts.fit, parts.choose, parts.judge))
