"""Seconds to prepare each form of text as bytes in this process: ``python benchmarks/readers.py FORM... --folder DIR``.

400,000 lines of eight words (21 MB of JSON Lines, a record a line): ``jsonl``, ``parquet``, ``lines``, ``paragraphs``,
``text`` (one document), ``files`` (60 of them); and the share of the time that goes into digests of what is read. With
``--before CHECKOUT`` the code of another commit takes turns. Times are CPU times, because elapsed time would include
that of other programs on the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from turns import median_seconds, take_turns

WORDS = "the river runs by an old mill where nobody lives now é stone".split()  # noqa: SIM905
NUM_LINES, NUM_FILES, ROWS_PER_GROUP = 400_000, 60, 50_000
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "jsonl": ("a.jsonl", {}),
    "parquet": ("a.parquet", {}),
    "lines": ("a.txt", {"corpus.document": "line"}),
    "paragraphs": ("a.txt", {"corpus.document": "paragraph"}),
    "text": ("a.txt", {}),
    "files": ("files", {}),
}
NOW, BEFORE = "now", "before"


def write_texts(folder: Path) -> None:
    """Write the same lines in every form that does not exist yet."""
    if (folder / "files").exists():
        return
    source = random.Random(1)
    lines = [" ".join(source.choices(WORDS, k=8)) for _ in range(NUM_LINES)]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8")
    (folder / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    pq.write_table(pa.table({"text": lines}), folder / "a.parquet", row_group_size=ROWS_PER_GROUP)
    (folder / "files").mkdir()
    for number in range(NUM_FILES):
        part = lines[number * NUM_LINES // NUM_FILES : (number + 1) * NUM_LINES // NUM_FILES]
        (folder / "files" / f"{number:02d}.txt").write_text("\n".join(part), encoding="utf-8")


class Stopwatch:
    """The CPU seconds that some functions have taken."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, holder: Any, name: str) -> None:
        function = getattr(holder, name)

        def watched(*arguments: Any) -> Any:
            start = time.process_time()
            result = function(*arguments)
            self.seconds += time.process_time() - start
            return result

        setattr(holder, name, watched)


def watch_digests() -> Stopwatch:
    """Measure how long it takes to make digests, and to write them beside the shards."""
    from pipeline.data import tasks
    from pipeline.data.readers import Digest

    stopwatch = Stopwatch()
    for holder, name in ((Digest, "update"), (Digest, "update_rows"), (tasks, "write_extracts")):
        stopwatch.watch(holder, name)
    return stopwatch


def preparation(folder: Path, form: str, name: str) -> Callable[[], float]:
    """A function that prepares the text of ``form`` again and returns the CPU seconds that it took."""
    from pipeline import config as configuration
    from pipeline.data.prepare import prepare_in_process

    text, changes = FORMS[form]
    out = folder / f"out {name}"
    values = {"corpus.train": [str(folder / text)], "tokenizer.kind": "byte", "data.directory": str(out), **changes}
    config = configuration.with_values(configuration.load(), values)

    def prepare() -> float:
        shutil.rmtree(out, ignore_errors=True)
        start = time.process_time()
        prepare_in_process(config)
        return time.process_time() - start

    return prepare


def serve(folder: Path, form: str, name: str, before: str) -> None:
    """Print a line of JSON for each line of standard input: seconds in all, and those for digests."""
    if name == BEFORE:
        sys.path.insert(0, before)
    prepare, stopwatch = preparation(folder, form, name), watch_digests() if name == NOW else Stopwatch()
    for _ in sys.stdin:
        stopwatch.seconds = 0.0
        print(json.dumps([prepare(), stopwatch.seconds]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forms", nargs="+", choices=list(FORMS))
    parser.add_argument("--folder", required=True, type=Path, help="for the texts and the corpora; about 300 MB")
    parser.add_argument("--before", default="", help="a checkout of another commit")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve(arguments.folder, arguments.forms[0], arguments.worker, arguments.before)
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_texts(arguments.folder)
    print("| form | now, s | times as fast as before | share of digests |\n|---|---|---|---|")
    for form in arguments.forms:
        options = [form, "--folder", str(arguments.folder), "--before", arguments.before]
        names = [NOW, *[BEFORE] * bool(arguments.before)]
        rounds = take_turns(__file__, options, names, rounds=arguments.repeat, warm_up=1)
        now, *before = (median_seconds(rounds[name]) for name in names)
        ratio = f"{before[0] / now:.2f}" if before else ""
        share = statistics.median(digests / seconds for seconds, digests in rounds[NOW])
        print(f"| {form} | {now:.2f} | {ratio} | {share:.1%} |", flush=True)


if __name__ == "__main__":
    main()
