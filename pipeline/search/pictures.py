"""The results of a search in pictures: perplexity over tokens, each setting against the result, pairs, importance.

Each function takes what it shows and returns a matplotlib figure; ``as_png`` turns that into the bytes of a file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from pipeline.errors import UserError
from pipeline.search.domains import LOGARITHMIC, Domain
from pipeline.search.importance import Importance
from pipeline.search.lives import Life
from pipeline.search.naming import short
from pipeline.search.space import Space
from pipeline.search.standing import DONE, LOST, PAUSED, RUNNING, Trial

DOTS_PER_INCH = 110
# a trial that diverged must not squeeze all others into one line: the picture ends at this many times the best
MOST_TIMES_BEST = 6.0
COLORS, GREY = "viridis", "#999999"  # the darker, the better
MARKS = {DONE: "o", PAUSED: "|", LOST: "x", RUNNING: ">"}


def new_figure(width: float, height: float) -> Any:
    """An empty figure, in inches. Raises ``UserError`` if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("matplotlib is not installed: pip install 'recurray[search]'") from None
    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def as_png(figure: Any) -> bytes:
    """The picture as a PNG file, the same bytes for the same figure."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def curves(trials: Sequence[Trial], levels: Sequence[int], unit: str = "perplexity") -> Any:
    """Validation perplexity over tokens of every trial, the best darkest, with the rungs and how many reached them."""
    figure = new_figure(9, 5.5)
    axes = figure.add_subplot()
    ranked = sorted((t for t in trials if t.best_perplexity is not None), key=lambda t: t.best_perplexity or 0.0)
    for rank, trial in reversed(list(enumerate(ranked))):
        points = [(report["tokens"], report["perplexity"]) for report in trial.reports]
        color = colors()(rank / max(1, len(ranked) - 1))
        width = 2.0 if trial.status == DONE else 0.9
        axes.plot(*zip(*points, strict=True), color=color, linewidth=width)
        mark = MARKS.get(trial.status, "|")
        edge = {} if mark in "x|" else {"markeredgecolor": "white"}
        axes.plot(*points[-1], mark, color=color, markersize=7, **edge)
    for level in levels:
        number = sum(trial.tokens >= level for trial in trials)
        axes.axvline(level, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
        axes.annotate(f"{number}", (level, 1.005), xycoords=("data", "axes fraction"), ha="center", color=GREY)
    limit_to_sensible(axes, [report["perplexity"] for trial in ranked for report in trial.reports])
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_ticks(axes.yaxis)
    axes.set_xlabel("tokens trained on (dashed: the rungs; above, how many trials came there)")
    axes.set_ylabel(f"validation {unit}")
    axes.set_title(f"{len(trials)} trials: done ●, paused or stopped |, lost ×", loc="left", pad=22)
    return figure


def against_result(space: Space, trials: Sequence[Trial], unit: str = "perplexity") -> Any:
    """Each setting against the best perplexity of each trial; the more tokens a trial had, the darker and larger."""
    columns = min(3, len(space))
    rows = math.ceil(len(space) / columns)
    figure = new_figure(4.2 * columns, 3.4 * rows)
    shown = [trial for trial in trials if trial.best_perplexity is not None]
    for place, (path, domain) in enumerate(space.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        having = [trial for trial in shown if path in Life.of(trial).now]
        result = [trial.best_perplexity for trial in having]
        scatter(axes, along(axes.xaxis, domain, values_of(having, path)), result, having)
        axes.set_yscale("log")
        limit_to_sensible(axes, [trial.best_perplexity for trial in shown if trial.best_perplexity])
        plain_ticks(axes.yaxis)
        axes.set_xlabel(path)
        if (place - 1) % columns == 0:
            axes.set_ylabel(f"best validation {unit}")
    return figure


def pairs(space: Space, trials: Sequence[Trial], paths: Sequence[str], unit: str = "perplexity") -> Any:
    """Each pair of the settings at ``paths`` against each other, the color being the best perplexity."""
    couples = list(combinations(paths, 2))
    figure = new_figure(5.6 * len(couples), 4.4)
    shown = [trial for trial in trials if trial.best_perplexity is not None]
    for place, (across, up) in enumerate(couples, start=1):
        axes = figure.add_subplot(1, len(couples), place)
        having = [trial for trial in shown if {across, up} <= Life.of(trial).now.keys()]
        having.sort(key=lambda trial: -(trial.best_perplexity or 0.0))  # the best are drawn last, on top
        horizontal = along(axes.xaxis, space[across], values_of(having, across))
        vertical = along(axes.yaxis, space[up], values_of(having, up))
        result = [math.log(trial.best_perplexity or 1.0) for trial in having]
        top = min(result, default=0.0) + math.log(MOST_TIMES_BEST)
        drawn = axes.scatter(
            horizontal, vertical, c=[min(value, top) for value in result], cmap=COLORS, s=sizes(having),
            edgecolors="white", linewidths=0.7,
        )  # fmt: skip
        bar = figure.colorbar(drawn, ax=axes, label=f"best validation {unit}")
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{math.exp(value):.3g}")
        axes.set_xlabel(across)
        axes.set_ylabel(up)
    return figure


def importance(found: Sequence[Importance]) -> Any:
    """The share of each setting as a bar, one panel for each evaluator."""
    shown = [each for each in found if each.shares]
    figure = new_figure(4.6 * max(1, len(shown)), 1.6 + 0.45 * max((len(each.shares) for each in shown), default=1))
    for place, each in enumerate(shown, start=1):
        axes = figure.add_subplot(1, len(shown), place)
        shares = list(reversed(each.shares))
        bars = axes.barh([share.path for share in shares], [share.share for share in shares], color="#3b6ea5")
        axes.bar_label(bars, [f"{share.share:.0%}" for share in shares], padding=3)
        axes.set_xlim(0, 1.15)
        axes.set_title(f"{each.evaluator}, {each.num_trials} trials at {each.tokens:,} tokens", fontsize=9, loc="left")
    return figure


def values_of(trials: Sequence[Trial], path: str) -> list[Any]:
    """The value that each trial has at ``path`` now, as on the leaderboard: a population changes its settings."""
    return [Life.of(trial).now[path] for trial in trials]


def along(axis: Any, domain: Domain, values: Sequence[Any]) -> list[Any]:
    """The places of a setting's ``values`` along ``axis``, which is scaled and labelled for its domain."""
    if not domain.is_range:
        axis.set_ticks(range(len(domain.arguments)), [short(value) for value in domain.arguments])
        axis.axes.margins(0.15)
        return [domain.arguments.index(value) if value in domain.arguments else math.nan for value in values]
    if domain.kind in LOGARITHMIC:
        (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("log")
    return list(values)


def scatter(axes: Any, horizontal: Sequence[Any], vertical: Sequence[Any], trials: Sequence[Trial]) -> None:
    most = max((trial.tokens for trial in trials), default=1)
    shades = [colors()(1 - math.sqrt(trial.tokens / max(1, most))) for trial in trials]
    axes.scatter(horizontal, vertical, c=shades or None, s=sizes(trials), edgecolors="white", linewidths=0.7)


def sizes(trials: Sequence[Trial]) -> list[float]:
    """The area of each dot: the more tokens, the larger."""
    most = max((trial.tokens for trial in trials), default=1)
    return [18 + 70 * trial.tokens / max(1, most) for trial in trials]


def colors() -> Any:
    from matplotlib import colormaps

    return colormaps[COLORS]


def limit_to_sensible(axes: Any, figures: Sequence[float]) -> None:
    """Leave what is far above the best out of the picture."""
    if figures:
        best = min(figures)
        axes.set_ylim(best * 0.97, min(max(figures) * 1.03, best * MOST_TIMES_BEST))


def plain_ticks(axis: Any) -> None:
    """Label a logarithmic axis that spans little with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def lineage(trials: Sequence[Trial], exploits: Sequence[Mapping[str, Any]]) -> Any:
    """The family tree of a population: a lane for each trial over its tokens, an arrow from each donor to its taker.

    Args:
        exploits: each with the ``trial`` that took, its ``donor`` and the ``tokens`` at which it did.
    """
    lanes = {trial.name: lane for lane, trial in enumerate(trials)}
    figure = new_figure(9, 1.4 + 0.5 * len(trials))
    axes = figure.add_subplot()
    best = min((trial.best_perplexity for trial in trials if trial.best_perplexity is not None), default=None)
    for trial in trials:
        is_best = best is not None and trial.best_perplexity == best
        color = "#c44e52" if is_best else "#3b6ea5"
        axes.plot([0, trial.tokens], [lanes[trial.name]] * 2, color=color, linewidth=2.4 if is_best else 1.4)
        label = "" if trial.best_perplexity is None else f" {trial.best_perplexity:,.2f}"
        axes.annotate(label, (trial.tokens, lanes[trial.name]), va="center", fontsize=8)
    for exploit in exploits:
        taker, donor = lanes[exploit["trial"]], lanes[exploit["donor"]]
        arrow = {"arrowstyle": "->", "color": GREY, "connectionstyle": "arc3,rad=0.15", "shrinkA": 2, "shrinkB": 2}
        ends = (exploit["tokens"], taker), (exploit["tokens"], donor)
        axes.annotate("", *ends, arrowprops=arrow)
    axes.set_yticks(range(len(trials)), [f"{trial.number}" for trial in trials])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("tokens (an arrow: the state of the one was taken over by the other; red: the best)")
    axes.set_ylabel("trial")
    return figure
