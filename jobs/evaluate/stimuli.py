"""Read stimuli and their regions (``--stimuli``, ``--regions``), and write the surprisal of regions."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.data.tokenizer import Tokenizer
from pipeline.evaluate.regions import SCHEMA as REGION_SCHEMA
from pipeline.evaluate.regions import Regions, read_regions, region_rows
from pipeline.evaluate.stimuli import Stimuli, read_stimuli
from pipeline.evaluate.surprisal import SCHEMA, with_labels, write_table
from pipeline.evaluate.words import Row


@dataclass(frozen=True)
class Texts:
    """Stimuli, and their regions if regions are summed."""

    stimuli: Stimuli
    regions: Regions | None = None


def read(arguments: argparse.Namespace) -> Texts | None:
    """Read what --stimuli or --regions names. Raises ``UserError`` if it cannot be read, or its table not written."""
    if arguments.regions is not None:
        regions = read_regions(arguments.regions)
        with_labels(REGION_SCHEMA, regions.stimuli)
        return Texts(regions.stimuli, regions)
    if arguments.stimuli is None:
        return None
    stimuli = read_stimuli(arguments.stimuli)
    if arguments.surprisal is not None and arguments.format == "table":
        with_labels(SCHEMA, stimuli)
    return Texts(stimuli)


def write_regions(path: str, rows: Iterable[Row], tokenizer: Tokenizer, regions: Regions) -> dict[str, Any]:
    """Write a row for every region; print and return how many there are."""
    found = list(region_rows(rows, tokenizer, regions))
    write_table(path, found, with_labels(REGION_SCHEMA, regions.stimuli))
    unknown = sum(int(str(row["unknown"])) for row in found)
    print(f"{path}: {len(found):,} regions of {len(regions.regions):,} texts")
    if unknown:
        print(f"{unknown:,} of their words are unknown to the model")
    return {"surprisal": path, "regions": len(found), "texts": len(regions.regions), "unknown_words": unknown}
