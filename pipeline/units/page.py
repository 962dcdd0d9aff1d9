"""One self-contained HTML page: a text coloured by the state of any unit, and which units track what.

The template, ``page.html``, contains the page's program; the data are put into it as JSON, states as base64 of int8.
Letters: N tokens, U units of a layer and part.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.units.ranking import Finding
from pipeline.units.states import Numbers, States, Unit

TEMPLATE = Path(__file__).with_name("page.html")
LARGEST = 127  # of int8


def page_of(states: States, findings: Sequence[Finding], *, title: str, start: Unit, num_tokens: int) -> str:
    """Return the page of the first ``num_tokens`` tokens, which opens with the unit ``start``."""
    number = min(num_tokens, len(states))
    data = {
        "title": title,
        "pieces": states.pieces[:number],
        "nats": [round(nats, 3) if math.isfinite(nats) else None for nats in states.nats[:number].tolist()],
        "groups": [
            {"layer": layer, "part": part, **quantised(values[:number])}
            for (layer, part), values in states.values.items()
        ],
        "features": [feature_of(finding, number) for finding in findings],
        "start": str(start),
    }
    # nothing in a script may look like its end or like a comment
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    before, after = TEMPLATE.read_text(encoding="utf-8").split("{{data}}")
    return before.replace("{{title}}", html.escape(title)) + text + after


def quantised(values: Numbers) -> dict[str, Any]:
    """Return (N, U) values as U rows of N int8, with the largest of each row: value = int8 · largest ÷ 127."""
    values = np.nan_to_num(values)
    largest = np.abs(values).max(0, initial=0.0)  # (U,)
    scaled = np.rint(values / np.where(largest > 0, largest, 1) * LARGEST).astype(np.int8)  # (N, U)
    rows = np.ascontiguousarray(scaled.T)
    return {
        "size": values.shape[1],
        "largest": [float(f"{value:.6g}") for value in largest.tolist()],
        "states": base64.b64encode(rows.tobytes()).decode(),
    }


def feature_of(finding: Finding, number: int) -> dict[str, Any]:
    """Return what the page says about a feature, and its labels at the tokens shown."""
    found = finding.to_json()
    probe = found.pop("probe")
    labels = [int(value) if value == int(value) else value for value in finding.feature.values[:number].tolist()]
    return {**found, "num_probe": len(probe), "probe": probe[:10], "labels": labels}
