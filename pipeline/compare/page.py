"""The page of a comparison, which needs no other file: sentences, tables, pictures. No script, no network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from pipeline.compare.findings import Findings, GroupFindings, Row
from pipeline.compare.pictures import pictures_of
from pipeline.compare.sentences import sentences
from pipeline.compare.significance import Difference
from pipeline.compare.speed import Timing
from pipeline.compare.table import PAIRS, TABLE, as_csv, pairs_of, rows_of
from pipeline.evaluate import Group
from pipeline.files import write_file
from pipeline.search.naming import describe

PAGE = "comparison.html"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th:first-child, td:first-child, .text { text-align: left; }
figure { margin: 1.5rem 0; } figcaption { color: #555; } svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; } .note { color: #555; }
"""
HOW = (
    "Losses are nats per token of each run's best checkpoint by validation, and perplexity is the exponential of their "
    "mean over seeds. The interval over seeds is Student's; that for other text is a bootstrap over {unit}. A pair is "
    "tested for other text, by exchanging the two variants' nats of these parts at random (a paired permutation test); "
    "for other seeds, by Student's t, once with the variance pooled over all variants and once with each one's own "
    "(Welch 1947), of which the larger p-value counts; and for both at once, by Student's t with the two errors added "
    "in squares, which also gives the interval of the pair. The largest p-value counts, corrected for all pairs of its "
    "table by Holm's method (1979). "
    "At equal time only seeds are tested. "
    "Times are medians over rounds in which the variants took turns in one process ({machine}); equal time is the "
    "number of tokens times the measured time of one. The perplexity at that time is interpolated linearly between two "
    "validations, with a learning rate that was scheduled for the whole run."
)


def write(directory: Path, findings: Findings) -> str:
    """Write the page and the tables beside it; return what is missing from the page and why, or an empty string.

    Raises:
        UnwritableError: a file could not be written; the former one is unchanged.
    """
    drawn, missing = pictures_of(findings)
    write_file(directory / TABLE, as_csv(rows_of(findings)))
    write_file(directory / PAIRS, as_csv(pairs_of(findings)))
    write_file(directory / PAGE, as_html(findings, drawn, missing))
    return missing


def as_html(findings: Findings, drawn: dict[str, str], missing: str = "") -> str:
    """The whole page; ``drawn``: caption → SVG."""
    parts = [f"<h1>{escape(findings.title)}</h1>"]
    for heading, lines in sentences(findings).items():
        parts.append(f"<h2>{escape(heading)}</h2>")
        parts += [f"<p>{escape(line)}</p>" for line in lines]
    parts.append("<h2>Table</h2>")
    for found in findings.groups:
        parts += list(group_tables(found, findings))
    parts.append("<h2>Pictures</h2>")
    parts += [f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for caption, svg in drawn.items()]
    if missing:
        parts.append(f"<p>{escape(missing)}</p>")
    parts.append("<h2>Parts of the text</h2>")
    parts.append(part_table(findings.main, "depths", "tokens read before"))
    parts.append(part_table(findings.main, "frequencies", "times in the training text"))
    parts.append("<h2>Every pair</h2>")
    for found in findings.groups:
        parts.append(f"<h3>{title_of(found)}</h3>")
        parts.append(pair_table(found.pairs, "at equal tokens: better"))
        parts.append(pair_table(found.time_pairs, f"after {found.seconds:,.1f} s: better"))
    parts.append("<h2>How it was measured</h2>")
    parts.append(f'<p class="note">{escape(HOW.format(unit=findings.unit, machine=findings.machine))}</p>')
    head = f'<meta charset="utf-8"><title>{escape(findings.title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def title_of(found: GroupFindings) -> str:
    return f"{found.group.target:,} parameters, {found.group.tokens:,} tokens"


def group_tables(found: GroupFindings, findings: Findings) -> Iterator[str]:
    """The results of the variants of one group, what they cost, and their settings."""
    yield f"<h3>{title_of(found)}</h3>"
    head = [
        "variant", "parameters", "without embedding", "hidden size", "perplexity", "95 % over seeds",
        "95 % for other text", "bits per byte", "seeds", f"validation perplexity after {found.seconds:,.1f} s",
        "tokens/s", "training, s",
    ]  # fmt: skip
    yield table(head, [result_cells(found, row) for row in found.rows])
    peaks, contexts = found.rows[0].cost.peaks, found.rows[0].cost.contexts
    head = [
        "variant", *(f"peak MB, T {length:,}" for length in peaks),
        *(f"ms a token after {context:,}" for context in contexts), *(f"state kB, {context:,}" for context in contexts),
    ]  # fmt: skip
    yield table(head, [cost_cells(row) for row in found.rows])
    lines = [[row.name, describe({**row.sized.variant.settings, **row.own})] for row in found.rows]
    yield table(["variant", "its own settings"], lines, is_text=True)


def result_cells(found: GroupFindings, row: Row) -> list[str]:
    low, high = row.text_interval
    over_seeds = row.confirmed
    at_time = found.at_time.get(row.name)
    return [
        row.name,
        f"{row.sized.size.parameters:,}",
        f"{row.sized.size.recurrence:,}",
        f"{row.sized.width:,}",
        f"{over_seeds.perplexity:.3f}",
        f"{over_seeds.low:.3f} to {over_seeds.high:.3f}" if over_seeds.low is not None else "one seed",
        f"{low:.3f} to {high:.3f}",
        "not known" if row.bits_per_byte is None else f"{row.bits_per_byte:.4f}",
        str(len(row.losses)),
        "" if at_time is None else f"{math.exp(at_time):.3f}",
        f"{row.cost.tokens_per_second:,.0f} ({1 / row.cost.training.high:,.0f} to {1 / row.cost.training.low:,.0f})",
        f"{row.training_seconds:,.1f}",
    ]


def cost_cells(row: Row) -> list[str]:
    contexts = row.cost.contexts.values()
    return [
        row.name,
        *("not known" if peak is None else f"{peak / 1e6:,.1f}" for peak in row.cost.peaks.values()),
        *(milliseconds_of(after.timing) for after in contexts),
        *(f"{after.state_bytes / 1e3:,.1f}" for after in contexts),
    ]


def milliseconds_of(timing: Timing) -> str:
    """The median, and its range over rounds."""
    median, low, high = (f"{seconds * 1e3:.3g}" for seconds in (timing.median, timing.low, timing.high))
    return f"{median} ({low} to {high})"


def part_table(found: GroupFindings, name: str, what: str) -> str:
    """Nats per token of each variant in each part of the text."""
    parts: list[Group] = found.rows[0].parts(name)
    rows = [[row.name, *(f"{part.nats / part.tokens:.4f}" for part in row.parts(name))] for row in found.rows]
    rows.append(["tokens scored", *(f"{part.tokens:,}" for part in parts)])
    return table([f"nats a token by {what}", *(part.name for part in parts)], rows)


def pair_table(pairs: Sequence[Difference], title: str) -> str:
    head = [title, "worse", "nats a token", "95 %", "p, text", "p, seeds", "p, both", "p after Holm"]
    rows = [
        [pair.first, pair.second, f"{pair.nats:.4f}", interval_of(pair), shown(pair.p_text), shown(pair.p_seeds),
         shown(pair.p_both), shown(pair.p_holm) if pair.is_tested else "not tested"]
        for pair in pairs
    ]  # fmt: skip
    return table(head, rows)


def interval_of(pair: Difference) -> str:
    return "not known" if pair.low is None or pair.high is None else f"{pair.low:.4f} to {pair.high:.4f}"


def shown(p_value: float | None) -> str:
    return "" if p_value is None else f"{p_value:.2g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, is_text: bool = False) -> str:
    kind = ' class="text"' if is_text else ""
    lines = ["<tr>" + "".join(f"<th{kind}>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'
