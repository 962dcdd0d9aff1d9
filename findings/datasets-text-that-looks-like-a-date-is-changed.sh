#!/usr/bin/env bash
# datasets changes a text of a JSON Lines file that looks like a date, or fails on it, depending on the other files.
# Version: datasets 5.2.0, pyarrow 26.0.1.
# Guess: a JSON string stays that string (numbers in quotes do); "2020-01-01" comes back as "2020-01-01".
# Seen: a file whose texts are all dates becomes a column of timestamps. After a file of words they become text again,
# as "2020-01-01 00:00:00"; before one, loading fails. In the same file as words they stay unchanged.
# For us: JSON Lines are read by pipeline/data/readers/jsonl.py; through hf:// they come as datasets returns them, so
# name the columns' types there (Features) if texts may be dates.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import os

os.environ["HF_HUB_OFFLINE"] = "1"
from datasets import disable_progress_bars, load_dataset

disable_progress_bars()
for name, texts in {"words": ["hello"], "dates": ["2020-01-01"], "both": ["2020-01-01", "hello"], "12": ["12"]}.items():
    with open(f"{name}.jsonl", "w") as file:
        file.writelines(f'{{"text": "{text}"}}\n' for text in texts)


def load(*names):
    try:
        files = [f"{name}.jsonl" for name in names]
        return list(load_dataset("json", data_files=files, split="train", cache_dir="cache")["text"])
    except Exception as error:
        return str(error.__cause__)


found = {names: load(*names) for names in (("both",), ("12",), ("dates",), ("words", "dates"), ("dates", "words"))}
for names, texts in found.items():
    print(*names, "->", texts)
assert found["both",] == ["2020-01-01", "hello"]
assert found["12",] == ["12"]
assert str(found["dates",]) == "[datetime.datetime(2020, 1, 1, 0, 0)]"
assert found["words", "dates"] == ["hello", "2020-01-01 00:00:00"]
assert "hello" in found["dates", "words"] and isinstance(found["dates", "words"], str)
EOF
