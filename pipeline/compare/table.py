"""The one table of a comparison: a row for each variant at each size and length."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

from pipeline.compare.findings import Findings, GroupFindings, Row
from pipeline.compare.significance import Difference
from pipeline.search.naming import describe

TABLE, PAIRS = "table.csv", "pairs.csv"


def rows_of(findings: Findings) -> list[dict[str, Any]]:
    """Column → figure; None where there is none."""
    return [figures_of(found, row) for found in findings.groups for row in found.rows]


def figures_of(found: GroupFindings, row: Row) -> dict[str, Any]:
    low, high = row.text_interval
    at_time = found.at_time.get(row.name)
    cost = row.cost
    return {
        "variant": row.name,
        "parameters": row.sized.size.parameters,
        "without_embedding": row.sized.size.recurrence,
        "hidden_size": row.sized.width,
        "tokens": row.group.tokens,
        "seeds": len(row.losses),
        "perplexity": row.confirmed.perplexity,
        "seeds_low": row.confirmed.low,
        "seeds_high": row.confirmed.high,
        "text_low": low,
        "text_high": high,
        "bits_per_byte": row.bits_per_byte,
        "training_seconds": row.training_seconds,
        "equal_seconds": found.seconds,
        "perplexity_at_equal_time": None if at_time is None else math.exp(at_time),
        "tokens_per_second": cost.tokens_per_second,
        **{f"peak_bytes_{length}": peak for length, peak in cost.peaks.items()},
        **{f"token_seconds_{context}": after.timing.median for context, after in cost.contexts.items()},
        **{f"state_bytes_{context}": after.state_bytes for context, after in cost.contexts.items()},
        "own_settings": describe({**row.sized.variant.settings, **row.own}),
    }


def pairs_of(findings: Findings) -> list[dict[str, Any]]:
    """Every pair of variants that was tested."""
    return [
        {
            "parameters": found.group.target, "tokens": found.group.tokens, "at_equal": how, "better": pair.first,
            "worse": pair.second, "nats_per_token": pair.nats, "low": pair.low, "high": pair.high,
            "p_text": pair.p_text, "p_seeds": pair.p_seeds, "p_both": pair.p_both,
            "p_holm": pair.p_holm if pair.is_tested else None,
        }
        for found in findings.groups
        for how, pair in each_pair(found)
    ]  # fmt: skip


def each_pair(found: GroupFindings) -> Iterator[tuple[str, Difference]]:
    yield from (("tokens", pair) for pair in found.pairs)
    yield from (("time", pair) for pair in found.time_pairs)


def as_csv(rows: list[dict[str, Any]]) -> str:
    """``rows``, whose columns are those of the first."""
    stream = io.StringIO()
    table = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return stream.getvalue()
