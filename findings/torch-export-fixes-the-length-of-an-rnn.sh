#!/usr/bin/env bash
# torch.export lets the batch of an RNN vary, but not the length of its sequence.
# Version: torch 2.13.0 (CPU).
# Guess: an RNN is a loop over time, so its length is the first thing that may vary, and Dim.AUTO finds that out.
# Seen: with Dim.AUTO the export passes without a word but accepts only sequences of the example's length; a named
# dimension is refused. The loop is unrolled while it is traced.
# For us: pipeline/compress/onnx_export.py builds the graph itself rather than tracing the model.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import warnings

import torch
from torch import nn
from torch.export import Dim, export

warnings.simplefilter("ignore")
found = {}
for cell in (nn.LSTM, nn.GRU, nn.RNN):
    for axis, name in enumerate(("length", "batch")):
        program = export(cell(8, 8).eval(), (torch.randn(5, 2, 8),), dynamic_shapes={"input": {axis: Dim.AUTO}})
        longer = torch.randn(*(6 if axis == 0 else 5, 3 if axis == 1 else 2), 8)
        try:
            found[cell.__name__, name] = f"varies, {tuple(program.module()(longer)[0].shape)}"
        except AssertionError as error:
            found[cell.__name__, name] = str(error)
for key, what in found.items():
    print(*key, "->", what)
for cell in ("LSTM", "GRU", "RNN"):
    assert found[cell, "batch"] == "varies, (5, 3, 8)"
    assert found[cell, "length"] == "Guard failed: input.size()[0] == 5"
EOF
