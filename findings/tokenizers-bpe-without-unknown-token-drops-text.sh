#!/usr/bin/env bash
# A BPE model without an unknown token leaves out the characters that it does not know.
# Version: tokenizers 0.23.3.
# Guess: it raises, as WordLevel, WordPiece and Unigram of the same library do where they have no unknown token.
# Seen: the ids of the rest come back without a word. byte_fallback=True with no byte tokens in the vocabulary does
# the same. Per token such a text looks easier than it is.
# For us: pipeline/data/tokenizer/loaded.py adds a type for what would be left out, and names the first such character.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check tokenizers==0.23.3
cd "$work"
"$work/venv/bin/python" - <<'EOF'
from tokenizers import Tokenizer, models

vocabulary, merges = {"a": 0, "b": 1, "ab": 2}, [("a", "b")]
kinds = {
    "BPE": models.BPE(vocabulary, merges),
    "BPE with byte_fallback": models.BPE(vocabulary, merges, byte_fallback=True),
    "Unigram": models.Unigram([("a", -1.0), ("b", -1.0), ("ab", -1.0)]),
    "WordLevel": models.WordLevel(vocabulary),
    "WordPiece": models.WordPiece(vocabulary),
}
found = {}
for name, model in kinds.items():
    try:
        found[name] = Tokenizer(model).encode("abxyza").tokens
    except Exception as error:
        found[name] = str(error)
    print(f"{name}: {found[name]}")
assert found["BPE"] == found["BPE with byte_fallback"] == ["ab", "a"]
assert all(isinstance(found[name], str) for name in ("Unigram", "WordLevel", "WordPiece"))
EOF
