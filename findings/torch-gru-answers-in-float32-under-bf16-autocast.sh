#!/usr/bin/env bash
# Under bf16 autocast on a CPU, an LSTM and a tanh RNN of torch answer in bfloat16, a GRU in float32.
# Version: torch 2.13.0 (CPU).
# Guess: all three are on the list of autocast, so all three answer in the format that they multiply in.
# Seen: the GRU multiplies in bfloat16, as its rounding shows, and answers in float32.
# For us: pipeline/model/precision.py looks at the operators that run, not at the format of what comes out.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import torch

torch.manual_seed(0)
inputs = torch.randn(5, 2, 64)
formats, errors = {}, {}
for cell in (torch.nn.LSTM, torch.nn.RNN, torch.nn.GRU):
    layer = cell(64, 64)
    with torch.no_grad():
        exact = layer(inputs)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = layer(inputs)[0]
    formats[cell.__name__] = str(output.dtype)
    errors[cell.__name__] = float((output.float() - exact).abs().max())
print(formats, {name: f"{error:.1e}" for name, error in errors.items()})
assert formats == {"LSTM": "torch.bfloat16", "RNN": "torch.bfloat16", "GRU": "torch.float32"}
assert errors["GRU"] > 1e-4  # float32 products would differ by about 1e-7
EOF
