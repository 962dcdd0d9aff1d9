"""The table of variants, drawn: perplexity over size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def draw(rows: Sequence[dict[str, Any]]) -> Any:
    """A matplotlib figure of ``rows`` with ``variant``, ``bytes`` and ``perplexity``, both axes logarithmic.

    Raises ``ValueError`` where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, StrMethodFormatter
    except ImportError:
        raise ValueError("drawing needs matplotlib; install the extra: pip install 'recurray[figures]'") from None
    figure = Figure(figsize=(7.2, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    places: dict[tuple[float, float], list[str]] = {}  # forms that differ in nothing that is drawn share a point
    for row in rows:
        place = (float(f"{row['bytes'] / 1e6:.3g}"), float(f"{row['perplexity']:.3g}"))
        places.setdefault(place, []).append(row["variant"])
    for (megabytes, perplexity), names in places.items():
        axes.scatter(megabytes, perplexity, s=28)
        axes.annotate(", ".join(names), (megabytes, perplexity), (5, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="MB", ylabel="perplexity")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axis.set_minor_formatter("")
    axes.margins(x=0.25, y=0.15)
    axes.grid(alpha=0.3)
    return figure
