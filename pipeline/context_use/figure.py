"""Draw the context use of several models: the loss after k tokens, and below it how far back gradients flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.context_use.curve import Curve

# the smallest increase and share shown
FLOOR = 1e-4
DASHES = {"dropped": "-", "shuffled": "--", "replaced": ":"}


@dataclass(frozen=True)
class Drawn:
    """What is drawn for a model: curves by change, and the share of the gradient left k steps back, k = 1, 2, …"""

    curves: Mapping[str, Curve]
    shares: Sequence[float] = ()


def draw(models: Mapping[str, Drawn], *, share: float) -> Any:
    """Return a matplotlib figure of ``models`` by name: what is lost above, what gradients still flow below, by k."""
    from matplotlib.figure import Figure

    has_shares = any(len(drawn.shares) for drawn in models.values())
    figure = Figure(figsize=(7.2, 6.4 if has_shares else 4.2), dpi=110, layout="constrained")
    axes = figure.subplots(2 if has_shares else 1, sharex=True, squeeze=False)[:, 0]
    for index, (name, drawn) in enumerate(models.items()):
        color = f"C{index}"
        for change, curve in drawn.curves.items():
            label = name if list(drawn.curves) == ["dropped"] else f"{name}: {change}"
            _draw_curve(axes[0], curve, label=label, color=color, line=DASHES[change])
            if change == "dropped" and (end := curve.effective(share)) is not None:
                axes[0].axvline(end, color=color, linestyle=":", linewidth=1)
        if len(drawn.shares):
            axes[1].plot(np.arange(1, len(drawn.shares) + 1), drawn.shares, label=name, color=color)
    axes[0].axhline(100 * share, color="grey", linestyle="--", linewidth=1, label=f"{100 * share:.3g} %")
    axes[0].set(xscale="log", yscale="log", ylabel="perplexity above that\nwith the whole context, %")
    axes[0].set_ylim(bottom=100 * share / 10)
    if has_shares:
        axes[1].axhline(share, color="grey", linestyle="--", linewidth=1, label=f"{100 * share:.3g} %")
        axes[1].set(yscale="log", ylabel="‖∂loss(t)/∂state(t−k)‖\nover that at k = 1")
        axes[1].set_ylim(bottom=FLOOR)
    axes[-1].set_xlabel("k: tokens of context kept, and steps that a gradient flows back")
    for each in axes:
        each.grid(alpha=0.3)
        each.legend(fontsize="small")
    return figure


def _draw_curve(axes: Any, curve: Curve, *, label: str, color: str, line: str) -> None:
    """Draw the increase of perplexity in percent, with its interval; decreases are left out."""
    contexts = [point.context for point in curve.points]
    value, low, high = (
        100 * np.expm1([getattr(point.increase, name) for point in curve.points]) for name in ("value", "low", "high")
    )
    axes.plot(contexts, np.where(value > 0, value, np.nan), line, marker="o", markersize=3, label=label, color=color)
    axes.fill_between(contexts, np.maximum(low, 1e-9), np.maximum(high, 1e-9), alpha=0.15, color=color, linewidth=0)
