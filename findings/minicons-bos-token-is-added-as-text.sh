#!/usr/bin/env bash
# minicons with bos_token=True joins the NAME of the token to the text; if special tokens are text, that is five tokens.
# Version: minicons 0.3.39, transformers 5.24.0.
# Guess: the id of the beginning is put before the ids of the text, whatever the tokenizer makes of its name.
# Seen: the name is tokenized with the text. With split_special_tokens=True it is split, and the first "token" of each
# sentence is a part of that name, without a warning.
# For us: exported tokenizers leave split_special_tokens off (pipeline/export/fast_tokenizer.py says why).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check minicons==0.3.39 transformers==5.24.0 torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import os

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from minicons import scorer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
engine = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
engine.decoder = decoders.ByteLevel()
engine.add_special_tokens(["<s>"])
torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(vocab_size=257, n_embd=16, n_layer=1, n_head=2, bos_token_id=256, eos_token_id=256))
found = {}
for split in (False, True):
    names = {"bos_token": "<s>", "eos_token": "<s>", "pad_token": "<s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=engine, split_special_tokens=split, **names)
    scored = scorer.IncrementalLMScorer(model, "cpu", tokenizer=tokenizer).token_score(["ab"], bos_token=True)[0]
    found[split] = [token for token, _ in scored]
print(found)
assert found[False] == ["<s>", "a", "b"]
assert found[True] == ["<", "s", ">", "a", "b"]
EOF
