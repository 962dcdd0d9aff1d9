#!/usr/bin/env bash
# xLSTM of transformers, called without a cache, rounds its state to bfloat16 in the middle of a long text.
# Version: transformers 5.24.0, torch 2.13.0 (CPU).
# Guess: use_cache says whether the state is returned, so one call over a text gives the same logits either way, and the
# length of the pieces in which it is read (16,384 tokens by default) makes no difference.
# Seen: with use_cache=True this is so. With use_cache=False the first piece is equal and all others are off, though the
# model is in float32: the state that is handed from piece to piece is made without a type, and the default is bfloat16.
# With a model in bfloat16 both are equal. A text of one piece shows nothing, so short tests pass. The pieces are set to
# 16 tokens here, for speed.
# For us: an exported model reads a text of any length in one piece; tests/export/test_hugging_face.py has it write the
# same with its state as when it reads everything again.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    transformers==5.24.0 torch==2.13.0 numpy==2.4.6
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'EOF'
import inspect

import torch
from transformers import xLSTMConfig, xLSTMForCausalLM
from transformers.models.xlstm.modeling_xlstm import xLSTMCache

PIECE, LENGTH = 16, 64
torch.manual_seed(0)
shape = {"vocab_size": 50, "hidden_size": 128, "num_hidden_layers": 2, "num_heads": 2, "chunk_size": 8}
model = xLSTMForCausalLM(xLSTMConfig(**shape, max_inference_chunksize=PIECE, eos_token_id=None)).eval()
for parameter in model.parameters():
    if parameter.dim() > 1:
        torch.nn.init.normal_(parameter, std=0.25)
tokens = torch.randint(3, 50, (1, LENGTH))


@torch.no_grad()
def logits(*, use_cache, piece=PIECE):
    model.config.max_inference_chunksize = piece
    return model(tokens, use_cache=use_cache).logits


def errors(values, right):
    """The largest error of each piece."""
    return [round(float(part.abs().max()), 4) for part in (values - right).float().split(PIECE, dim=1)]


right = logits(use_cache=False, piece=LENGTH)
found = {use_cache: errors(logits(use_cache=use_cache), right) for use_cache in (True, False)}
model.bfloat16()
half = errors(logits(use_cache=False), logits(use_cache=True))
print(f"logits up to {float(right.abs().max()):.2f}; largest error of each piece of {PIECE} tokens")
print(f"use_cache=True: {found[True]}")
print(f"use_cache=False: {found[False]}")
print(f"a bfloat16 model, use_cache=False beside True: {half}")
default = inspect.signature(xLSTMCache).parameters["dtype"].default
print(f"type of a state unless one is named: {default}")
assert default is torch.bfloat16
assert max(found[True]) < 1e-3
assert found[False][0] < 1e-3 and min(found[False][1:]) > 0.01
assert max(half) == 0
EOF
