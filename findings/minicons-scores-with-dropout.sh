#!/usr/bin/env bash
# minicons scores a model object as it finds it: with dropout on if it was just trained or created.
# Version: minicons 0.3.39, transformers 5.24.0, torch 2.13.0.
# Guess: a scorer puts the model into evaluation mode, as it does for a path and as the scorer of masked models does.
# Seen: IncrementalLMScorer(model, ...) leaves it in training mode; the same sentence gets a different score each time,
# with no warning.
# For us: docs/tools.md gives minicons the folder; a model in memory needs model.eval() first.
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

engine = Tokenizer(models.BPE({letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
engine.decoder = decoders.ByteLevel()
engine.add_special_tokens(["<s>"])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=engine, bos_token="<s>", eos_token="<s>", pad_token="<s>")
torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(vocab_size=257, n_embd=16, n_layer=1, n_head=2, bos_token_id=256, eos_token_id=256))
model.save_pretrained("folder")
tokenizer.save_pretrained("folder")
found = {}
for name in ("a model in training mode", "a folder", "a model in evaluation mode"):
    model.train(name == "a model in training mode")
    model_or_path = "folder" if name == "a folder" else model
    tokenizers = {} if name == "a folder" else {"tokenizer": tokenizer}
    scored = scorer.IncrementalLMScorer(model_or_path, "cpu", **tokenizers)
    found[name] = [round(scored.sequence_score(["abcdef"])[0], 5) for _ in range(4)]
    print(f"{name}: {found[name]}")
assert len(set(found["a model in training mode"])) > 1
assert len(set(found["a folder"] + found["a model in evaluation mode"])) == 1
EOF
