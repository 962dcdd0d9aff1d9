#!/usr/bin/env bash
# encode_special_tokens of a tokenizer, which decides the ids of some texts, is not part of its saved file.
# Version: tokenizers 0.23.3.
# Guess: tokenizer.json holds all that decides ids: read back, the tokenizer gives the same ids as before.
# Seen: the switch is left out, and the tokenizer that is read back takes text that spells out a special token for that
# token.
# For us: pipeline/data/tokenizer/bpe.py sets it whenever a tokenizer is made, and an exported one is compared with it
# set.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check tokenizers==0.23.3
cd "$work"
"$work/venv/bin/python" - <<'EOF'
from tokenizers import Tokenizer, models, pre_tokenizers

vocabulary = {name: i for i, name in enumerate(["<unk>", "<eos>", "a", "<", "eos", ">"])}
tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.add_special_tokens(["<eos>"])
tokenizer.encode_special_tokens = True
tokenizer.save("tokenizer.json")
again = Tokenizer.from_file("tokenizer.json")
before, after = tokenizer.encode("a <eos>").tokens, again.encode("a <eos>").tokens
print(before, after, again.encode_special_tokens)
assert before == ["a", "<", "eos", ">"]
assert after == ["a", "<eos>"]
EOF
