#!/usr/bin/env bash
# pyarrow.compute.utf8_split_whitespace finds an empty word at either end of a text that has white space there.
# Version: pyarrow 26.0.1.
# Guess: it splits as str.split() without an argument does, after which it is named: " a b\n" is "a", "b".
# Seen: four words, the first and the last of them empty, and an empty text is one empty word. So a file of lines that
# end in newlines, or tokenized text that begins with a blank, has too many words, and "" is a frequent type.
# For us: pipeline/data/tokenizer/word.py takes runs of bytes that are not white space.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check pyarrow==26.0.1
"$work/venv/bin/python" - <<'EOF'
import pyarrow as pa
import pyarrow.compute as pc

texts = [" a b\n", "a b", ""]
found = pc.utf8_split_whitespace(pa.array(texts)).to_pylist()
print(f"{texts}: {found}; str.split: {[text.split() for text in texts]}")
assert found == [["", "a", "b", ""], ["a", "b"], [""]]
assert pc.ascii_split_whitespace(pa.array(texts)).to_pylist() == found
EOF
