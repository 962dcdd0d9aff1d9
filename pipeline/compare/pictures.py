"""The pictures of a comparison, each as an SVG image: curves, costs, and loss by context and by frequency."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from typing import Any

from pipeline.compare.advantages import LEAST_TOKENS, losses_by_part, mean_of
from pipeline.compare.findings import Findings, GroupFindings, Row
from pipeline.errors import UserError
from pipeline.search.pictures import new_figure

# of Okabe & Ito 2008, which color-blind people can tell apart; then the same, dashed
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":")
METADATA = re.compile(r"(?s)<metadata>.*?</metadata>")  # names the pages of vocabularies


def pictures_of(findings: Findings) -> tuple[dict[str, str], str]:
    """Caption → SVG, for the main group; and why there are none, or an empty string."""
    found = findings.main
    makers: dict[str, Callable[[GroupFindings], Any]] = {
        "Perplexity on the held-out text: the mean over seeds (dot), each seed (line), and 95 % for other text (bar)":
            perplexities,
        "Validation perplexity over tokens, and over training time, the mean over seeds": curves,
        "Peak memory of training by window length": window_memory,
        "One more token after a context: its time, and the state that holds the context": contexts,
        "Loss by the number of tokens read before, from a zero state on": depths,
        "Loss by how often the token's type occurs in the training text, above the lowest of all": frequencies,
    }  # fmt: skip
    try:
        made = {caption: as_svg(maker(found)) for caption, maker in makers.items()}
    except UserError as error:
        return {}, f"there are no pictures: {error}"
    if findings.laws:
        made["Loss over tokens of each size, and the fitted L(N, D)"] = as_svg(laws(findings))
    return made, ""


def as_svg(figure: Any) -> str:
    """The picture as an SVG element, the same text for the same figure; letters stay text."""
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "recurray"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    svg = METADATA.sub("", stream.getvalue())
    return svg[svg.index("<svg") :]


def styles(found: GroupFindings) -> dict[str, dict[str, Any]]:
    """The same color and dashes for a variant in all pictures, in the order of their names."""
    names = sorted(row.name for row in found.rows)
    return {
        name: {"color": COLORS[i % len(COLORS)], "linestyle": DASHES[i // len(COLORS) % len(DASHES)], "label": name}
        for i, name in enumerate(names)
    }


def perplexities(found: GroupFindings) -> Any:
    """A line for each variant, the best on top."""
    figure = new_figure(8, 1.2 + 0.4 * len(found.rows))
    axes = figure.add_subplot()
    rows = list(reversed(found.rows))
    for place, row in enumerate(rows):
        low, high = row.text_interval
        color = styles(found)[row.name]["color"]
        axes.plot([low, high], [place, place], color=color, linewidth=5, alpha=0.3, solid_capstyle="butt")
        axes.plot([math.exp(loss) for loss in row.losses], [place] * len(row.losses), "|", color=color, markersize=12)
        axes.plot(row.confirmed.perplexity, place, "o", color=color)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("perplexity")
    axes.grid(alpha=0.3, axis="x")
    return figure


def curves(found: GroupFindings) -> Any:
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2, sharey=True)
    for row in found.rows:
        tokens, losses = mean_curve(row)
        style = styles(found)[row.name]
        perplexity = [math.exp(loss) for loss in losses]
        left.plot(tokens, perplexity, **style)
        right.plot([place * row.cost.training.median for place in tokens], perplexity, **style)
    right.axvline(found.seconds, color="#999999", linewidth=0.8, linestyle="--")
    left.set(xlabel="tokens", ylabel="validation perplexity", yscale="log")
    right.set_xlabel("seconds of training (dashed: where equal time is read)")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    best = min(math.exp(min(mean_curve(row)[1])) for row in found.rows)
    left.set_ylim(best * 0.97, best * 3)
    plain(left)
    left.legend()
    return figure


def mean_curve(row: Row) -> tuple[list[int], list[float]]:
    """Tokens of its validations, and the loss averaged over seeds."""
    points: dict[int, list[float]] = {}
    for curve in row.curves.values():
        for tokens, loss in curve:
            points.setdefault(tokens, []).append(loss)
    whole = {tokens: losses for tokens, losses in sorted(points.items()) if len(losses) == len(row.curves)}
    return list(whole), [sum(losses) / len(losses) for losses in whole.values()]


def window_memory(found: GroupFindings) -> Any:
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    for row in found.rows:
        points = [(length, peak / 1e6) for length, peak in row.cost.peaks.items() if peak is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", **styles(found)[row.name])
    axes.set(xlabel="window length, tokens", ylabel="MB", xscale="log", yscale="log")
    axes.set_xticks(list(found.rows[0].cost.peaks))
    plain(axes)
    axes.legend()
    return figure


def contexts(found: GroupFindings) -> Any:
    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2)
    for row in found.rows:
        places = list(row.cost.contexts)
        style = styles(found)[row.name]
        left.plot(places, [after.timing.median * 1e3 for after in row.cost.contexts.values()], marker="o", **style)
        right.plot(places, [after.state_bytes / 1e3 for after in row.cost.contexts.values()], marker="o", **style)
    for axes, unit in ((left, "ms a token"), (right, "kB of state")):
        axes.set(xlabel="tokens read before", ylabel=unit, xscale="log", yscale="log")
        axes.set_xticks(list(found.rows[0].cost.contexts))
        plain(axes)
    left.legend()
    return figure


def depths(found: GroupFindings) -> Any:
    figure = new_figure(8, 4)
    axes = figure.add_subplot()
    for row in found.rows:
        parts = row.parts("depths")
        axes.plot(
            [part.first for part in parts], [mean_of(part) for part in parts], marker=".", **styles(found)[row.name]
        )
    axes.set(xlabel="tokens read before, from", ylabel="nats a token", xscale="log")
    axes.set_xticks([part.first for part in found.rows[0].parts("depths")])
    plain(axes)
    axes.legend()
    return figure


def frequencies(found: GroupFindings) -> Any:
    """Loss above the lowest, because variants differ less than rare and frequent types do."""
    figure = new_figure(8, 4)
    axes = figure.add_subplot()
    parts = [*losses_by_part(found, "frequencies")]
    names = [part.name.replace(" ", "\n", 1) for part, _ in parts]
    for row in found.rows:
        above = [losses[row.name] - min(losses.values()) for _, losses in parts]
        axes.plot(range(len(names)), above, marker=".", **styles(found)[row.name])
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel(f"times in the training text (parts of {LEAST_TOKENS} tokens and more)")
    axes.set_ylabel("nats a token above the lowest")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def laws(findings: Findings) -> Any:
    """A panel for each variant: a dot for each run, a line for each size."""
    names = list(findings.laws)
    figure = new_figure(4.2 * min(3, len(names)), 3.6 * math.ceil(len(names) / 3))
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(math.ceil(len(names) / 3), min(3, len(names)), place)
        rows = [row for found in findings.groups for row in found.rows if row.name == name]
        lengths = sorted({row.group.tokens for row in rows})
        for number, target in enumerate(sorted({row.group.target for row in rows})):
            color = COLORS[number % len(COLORS)]
            points = [(row.group.tokens, loss) for row in rows if row.group.target == target for loss in row.losses]
            axes.plot(*zip(*points, strict=True), "o", color=color, label=f"N = {target:,}", markersize=4)
            axes.plot(lengths, [findings.laws[name].loss(target, tokens) for tokens in lengths], color=color)
        axes.set(title=name, xlabel="D, tokens", ylabel="nats a token", xscale="log")
        axes.legend(fontsize=7)
    return figure


def plain(axes: Any) -> None:
    """Label logarithmic axes with plain numbers; draw a grid."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            if axis.axis_name == "y":
                axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(lambda value, _: f"{value:,g}")
            axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
