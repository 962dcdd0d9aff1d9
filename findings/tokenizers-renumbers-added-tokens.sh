#!/usr/bin/env bash
# The id that a tokenizer.json gives to an added token is not the id that it gets.
# Version: tokenizers 0.23.3.
# Guess: "id": 7 in added_tokens is the token's id, or, where ids below it are free, an error.
# Seen: it becomes the next free id, 2, without a word, and the file saved again says 2. A model that was trained with
# row 7 of its embedding as that token then reads another row.
# For us: an exported tokenizer must give our ids on texts before its folder gets its name (pipeline/export/checks.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check tokenizers==0.23.3
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import json

from tokenizers import Tokenizer, models, pre_tokenizers

tokenizer = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
content = json.loads(tokenizer.to_str())
flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
content["added_tokens"] = [{"id": 7, "content": "<eos>", "special": True, **flags}]
read = Tokenizer.from_str(json.dumps(content))
saved = json.loads(read.to_str())["added_tokens"][0]["id"]
print("in the file: 7; read:", read.token_to_id("<eos>"), "saved again:", saved, "ids:", read.encode("a <eos>").ids)
assert read.token_to_id("<eos>") == saved == 2
assert read.encode("a <eos>").ids == [0, 2]
EOF
