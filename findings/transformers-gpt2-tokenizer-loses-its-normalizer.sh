#!/usr/bin/env bash
# transformers' AutoTokenizer gives a GPT2Tokenizer GPT-2's own pre-tokenizer and no normalizer, whatever its file has.
# Versions: transformers 5.24.0, tokenizers as it asks for.
# Guess: save_pretrained writes the changed normalizer and pre-tokenizer into tokenizer.json, from_pretrained reads them.
# Seen: the file has them, and tokenizers.Tokenizer.from_file uses them, but the tokenizer that AutoTokenizer loads has
# none of it: "The Cat 12" was lower case with one token a digit, and comes back with its capitals.
# For us: an exported folder names PreTrainedTokenizerFast, which takes the file as it is.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check transformers==5.24.0
cd "$work"
export HF_HOME=$work/cache HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$work/venv/bin/python" - <<'EOP'
import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

written = Tokenizer(models.BPE())
written.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
written.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=300, show_progress=False, special_tokens=["<|endoftext|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
)
written.train_from_iterator(["the cat sat 12 34", "the cat ran 12 56"] * 9, trainer)
folder = Path("gpt2")
folder.mkdir()
written.save(str(folder / "tokenizer.json"))
(folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))

tokenizer = AutoTokenizer.from_pretrained(folder)
digits = pre_tokenizers.Digits(individual_digits=True)
tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, written.pre_tokenizer])
tokenizer.save_pretrained("changed")
text = "The Cat 12"
before = tokenizer.tokenize(text)
file = Tokenizer.from_file("changed/tokenizer.json").encode(text).tokens
auto = AutoTokenizer.from_pretrained("changed").tokenize(text)
fast = PreTrainedTokenizerFast.from_pretrained("changed").tokenize(text)
print("saved", before, "\nfile ", file, "\nfast ", fast, "\nauto ", auto)
assert json.loads(Path("changed/tokenizer.json").read_text())["normalizer"] == {"type": "Lowercase"}
assert before == file == fast == ["the", "Ġcat", "Ġ", "1", "2"]
assert auto != before and "T" in auto and "12" in "".join(auto)
EOP
