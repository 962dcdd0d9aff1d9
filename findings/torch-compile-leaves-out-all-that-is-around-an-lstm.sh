#!/usr/bin/env bash
# torch.compile of a model with an LSTM in it compiles nothing: not the embedding, not the layers after it either.
# Version: torch 2.13.0 (CPU).
# Guess: what cannot be compiled is a graph break, as for other code: the parts before and after the LSTM are compiled.
# Seen: no graph at all, no warning and no difference in the outputs; only fullgraph=True tells.
# For us: timing such a model "compiled" times eager code; the parts around the cell have to be compiled separately.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$work"
TMPDIR="$work" "$work/venv/bin/python" - <<'EOF'
import warnings

import torch
from torch import nn


class Opaque(nn.Module):
    """Something else that cannot be compiled."""

    @torch.compiler.disable
    def forward(self, inputs):
        return (inputs + 1,)


class Model(nn.Module):
    def __init__(self, middle):
        super().__init__()
        self.embedding, self.middle, self.head = nn.Embedding(10, 8), middle, nn.Linear(8, 10)

    def forward(self, ids):
        return torch.log_softmax(self.head(self.middle(self.embedding(ids))[0]), dim=-1)


def num_graphs(model):
    graphs = []

    def backend(graph, example):
        graphs.append(graph)
        return graph.forward

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.compile(model, backend=backend)(torch.tensor([[1, 2, 3]]))
    return len(graphs), [str(warning.message) for warning in told]


found = {"something opaque": num_graphs(Model(Opaque())), "an LSTM": num_graphs(Model(nn.LSTM(8, 8)))}
for name, (graphs, told) in found.items():
    print(f"compiled parts of a model with {name} in the middle: {graphs}, warnings: {told}")
assert found["something opaque"][0] == 2
assert found["an LSTM"] == (0, [])
EOF
