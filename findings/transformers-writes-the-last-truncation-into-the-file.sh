#!/usr/bin/env bash
# save_pretrained writes the truncation and padding of the LAST CALL into tokenizer.json.
# Version: transformers 5.24.0, tokenizers 0.23.3.
# Guess: truncation=True, max_length=4 are options of one call; the saved file holds what the tokenizer was made with.
# Seen: the file cuts every text after 4 tokens and pads it to 4, for each program that reads it with tokenizers;
# AutoTokenizer sets both again for each call and so never shows it. Saved before the call, the file has neither.
# For us: pipeline/data/tokenizer/loaded.py turns both off in a tokenizer that it opens.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check transformers==5.24.0 tokenizers==0.23.3
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import os

os.environ["HF_HUB_OFFLINE"] = "1"
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

engine = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "a": 2, "b": 3}, unk_token="<unk>"))
engine.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=engine, unk_token="<unk>", pad_token="<pad>")
tokenizer.save_pretrained("before")
tokenizer("a b a b a b", truncation=True, max_length=4, padding="max_length")
tokenizer.save_pretrained("after")
found = {}
for folder in ("before", "after"):
    for text in ("a b a b a b", "a"):
        plain = Tokenizer.from_file(f"{folder}/tokenizer.json").encode(text).ids
        auto = AutoTokenizer.from_pretrained(folder)(text).input_ids
        found[folder, text] = plain, auto
        print(f"saved {folder} a call, {text!r}: tokenizers {plain}, AutoTokenizer {auto}")
assert found["before", "a b a b a b"] == ([2, 3] * 3, [2, 3] * 3) and found["before", "a"] == ([2], [2])
assert found["after", "a b a b a b"] == ([2, 3] * 2, [2, 3] * 3)
assert found["after", "a"] == ([2, 0, 0, 0], [2])
EOF
