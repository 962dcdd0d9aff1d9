#!/usr/bin/env bash
# An empty Dataset is saved without a word, but load_from_disk cannot read it, nor the DatasetDict that it is part of.
# Version: datasets 5.2.0, pyarrow 26.0.1.
# Guess: what save_to_disk writes, load_from_disk reads: a table with its columns and no rows.
# Seen: no data file is written for a Dataset created empty or emptied by select, and reading fails with IndexError; one
# that filter left empty comes back. One empty split makes all splits of the folder unreadable.
# For us: pipeline/data/readers/hub.py opens a saved dictionary split by split, so an empty one does not stop the others.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import os

os.environ["HF_HUB_OFFLINE"] = "1"
from datasets import Dataset, DatasetDict, disable_progress_bars, load_from_disk

disable_progress_bars()
full = Dataset.from_dict({"text": ["a", "b"]})
saved = {
    "full": full,
    "made": Dataset.from_dict({"text": []}),
    "selected": full.select([]),
    "filtered": full.filter(lambda row: False),
    "dictionary": DatasetDict({"train": full, "test": full.select([])}),
}
found = {}
for name, dataset in saved.items():
    dataset.save_to_disk(name)
    try:
        found[name] = load_from_disk(name).num_rows
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
    print(f"{name}: saved with rows {dataset.num_rows}, read {found[name]}")
assert found["full"] == 2 and found["filtered"] == 0
assert all(found[name] == "IndexError: list index out of range" for name in ("made", "selected", "dictionary"))
EOF
