"""Draw the table of variants: perplexity over size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.errors import UserError


def draw(rows: Sequence[dict[str, Any]]) -> Any:
    """Return a matplotlib figure of ``rows`` with ``variant``, ``bytes`` and ``perplexity``, both axes logarithmic.

    Raises ``UserError`` if matplotlib is not installed, or if no perplexity is finite.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, StrMethodFormatter
    except ImportError:
        raise UserError("drawing needs matplotlib; install the extra: pip install 'recurray[figures]'") from None
    rows = [row for row in rows if math.isfinite(row["perplexity"])]
    if not rows:
        raise UserError("no perplexity is finite")
    figure = Figure(figsize=(7.2, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    places: dict[tuple[float, float], list[str]] = {}  # forms that would be drawn in the same place share a point
    for row in rows:
        place = (float(f"{row['bytes'] / 1e6:.3g}"), float(f"{row['perplexity']:.3g}"))
        places.setdefault(place, []).append(row["variant"])
    middle = math.sqrt(min(places)[0] * max(places)[0])
    for place, names in places.items():
        axes.scatter(*place, s=28)
        # on the side that has room, and below the point if the label of one just above would be in the way
        side = "right" if place[0] > middle else "left"
        offset = (-5 if side == "right" else 5, -10 if any(is_just_above(other, place) for other in places) else 4)
        axes.annotate(", ".join(names), place, offset, textcoords="offset points", fontsize=8, ha=side)
    axes.set(xscale="log", yscale="log", xlabel="MB", ylabel="perplexity")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axis.set_minor_formatter("")
    axes.margins(x=0.25, y=0.15)
    axes.grid(alpha=0.3)
    return figure


def is_just_above(other: tuple[float, float], place: tuple[float, float]) -> bool:
    """Return whether ``other`` has about the size of ``place`` and slightly more perplexity."""
    return 0.8 < other[0] / place[0] < 1.25 and 1 < other[1] / place[1] < 1.15
