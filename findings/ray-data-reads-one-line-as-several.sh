#!/usr/bin/env bash
# read_text of Ray Data ends a line wherever Python's splitlines does: at a form feed, U+0085 and U+2028 too.
# Version: ray 2.60.0 (data), datasets 5.2.0.
# Guess: a line of a text file ends at a newline, as in Python's own files and in the text loader of datasets.
# Seen: one line of source code with a form feed, or of web text with a line separator, comes as several rows; those
# characters are gone, so joining the rows does not restore the file.
# For us: a corpus cut this way would have other documents; pipeline/data reads byte ranges itself and ends lines at
# newlines.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "ray[data]==2.60.0" datasets==5.2.0 pyarrow==26.0.1
cd "$work"
TMPDIR="$work" "$work/venv/bin/python" - <<'EOF'
import os

os.environ["HF_HUB_OFFLINE"] = "1"
from pathlib import Path

import ray
from datasets import disable_progress_bars, load_dataset

disable_progress_bars()
lines = ["def f():", "\x0cdef g():", "a line\u2028separator", "next\x85line"]
Path("text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
with open("text.txt", encoding="utf-8") as file:
    assert [line.rstrip("\n") for line in file] == lines
assert list(load_dataset("text", data_files="text.txt", split="train", cache_dir="cache")["text"]) == lines
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
rows = [row["text"] for row in ray.data.read_text(os.path.abspath("text.txt")).take_all()]
ray.shutdown()
print(f"{len(lines)} lines {lines}\n{len(rows)} rows of Ray Data {rows}")
assert rows == ["def f():", "def g():", "a line", "separator", "next", "line"]
EOF
