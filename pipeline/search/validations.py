"""What the folder of a trial holds that the journal of its search may not know yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.training import checkpoint
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import read

FINITE = ("loss", "perplexity")  # of a validation that went well


def past_validations(folder: Path, *, after_tokens: int) -> list[dict[str, Any]]:
    """The figures of validations that a trial made up to its last checkpoint, but did not report.

    Its driver may have been killed between the two, or its search had no journal.
    """
    directory = RunDirectory(folder)
    found = checkpoint.manifests(folder)
    last = found[-1][1]["step"] if found else 0
    past = [r for r in read(directory.metrics) if r["kind"] == "valid" and r["step"] <= last]
    past = [r for r in past if all(name in r for name in ("tokens", *FINITE)) and r["tokens"] > after_tokens]
    # what was not finite is null in the record; bits per byte may be missing
    return [
        {
            "tokens": record["tokens"],
            **{name: math.inf if record[name] is None else record[name] for name in FINITE},
            "bits_per_byte": record.get("bits_per_byte"),
        }
        for record in past
    ]


def figures_of(folder: Path) -> dict[str, Any]:
    """The best perplexity that a trial has reached (None: none that is finite), its tokens and its seconds."""
    manifests = [manifest for _, manifest in checkpoint.manifests(folder)]
    best = [m["best_perplexity"] for m in manifests if m["best_perplexity"] is not None]
    last: Mapping[str, Any] = manifests[-1] if manifests else {"tokens": 0, "seconds": 0.0}
    return {
        "perplexity": min(filter(math.isfinite, best), default=None),
        "tokens": last["tokens"],
        "seconds": round(last["seconds"], 1),
    }
