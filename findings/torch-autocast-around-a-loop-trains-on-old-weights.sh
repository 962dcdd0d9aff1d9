#!/usr/bin/env bash
# Inside one torch.autocast that is held open over a training loop, every step reads the weights of the first.
# Version: torch 2.13.0 (CPU).
# Guess: where autocast is opened makes no difference but speed; a weight that an optimizer changes is cast again.
# Seen: the first cast of a weight is kept until the OUTERMOST autocast is left, so the loss stays the same, to the last
# digit, while the weights change. Opening another autocast for each step inside it does not help.
# For us: pipeline/model/precision.py turns that cache off; open autocast for each step around an exported model.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
from contextlib import nullcontext

import torch


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def losses(around, inside):
    torch.manual_seed(0)
    inputs, layer = torch.randn(5, 2, 8), torch.nn.LSTM(8, 8)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    found = []
    with around():
        for _ in range(4):
            with inside():
                loss = layer(inputs)[0].float().pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(round(loss.item(), 4))
    return found


found = {
    "an autocast for each step": losses(nullcontext, autocast),
    "one around the loop": losses(autocast, nullcontext),
    "one around the loop, one for each step": losses(autocast, autocast),
}
for name, values in found.items():
    print(f"{name}: {values}")
falling, standing, nested = found.values()
assert falling == sorted(set(falling), reverse=True)
assert standing == nested == falling[:1] * 4
EOF
