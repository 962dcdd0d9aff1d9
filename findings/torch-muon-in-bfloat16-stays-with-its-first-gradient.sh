#!/usr/bin/env bash
# torch.optim.Muon without Nesterov, on weights in bfloat16, goes on in the direction of its first gradient.
# Version: torch 2.13.0 (CPU).
# Guess: the products of Muon are in bfloat16 whatever the weights are in, so weights in bfloat16 take the same steps as
# weights in float32, but for rounding: momentum 0.95 forgets all but a hundredth of a gradient in 90 steps.
# Seen: before a matrix is orthogonalized, its copy in bfloat16 is divided by its norm in place. A matrix that is in
# bfloat16 is not copied, and without Nesterov it is the momentum itself, which then has norm 1 after each step.
# Gradients far smaller than 1 (here each entry about 0.001) hardly change it any more: after 200 steps with another
# gradient the step is still that of the first. With nesterov=True, the default, the two formats agree.
# For us: pipeline/training/muon.py has an update of its own, with momentum and weights in float32.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import torch
from torch.nn.functional import cosine_similarity

torch.manual_seed(0)
lstm = torch.nn.LSTM(16, 16)
first, other = (torch.randn_like(lstm.weight_hh_l0) * 1e-3 for _ in range(2))


def direction_after(dtype, nesterov):
    """The last step after one step with the first gradient and 200 with the other one."""
    weight = torch.nn.Parameter(torch.zeros_like(first, dtype=dtype))
    optimizer = torch.optim.Muon([weight], lr=1.0, weight_decay=0.0, momentum=0.95, nesterov=nesterov)
    for gradient in [first] + [other] * 200:
        weight.data.zero_()
        weight.grad = gradient.to(dtype)
        optimizer.step()
    step = -weight.detach().float().flatten()
    return [round(float(cosine_similarity(step, goal.flatten(), dim=0)), 2) for goal in (first, other)]


found = {}
for nesterov in (False, True):
    for dtype in (torch.float32, torch.bfloat16):
        found[dtype, nesterov] = to_first, to_other = direction_after(dtype, nesterov)
        print(f"{dtype}, nesterov={nesterov}: cosine of the step with the first gradient {to_first}, with that of the")
        print(f"  last 200 steps {to_other}")
for key, (to_first, to_other) in found.items():
    if key == (torch.bfloat16, False):
        assert to_first > 0.8 and abs(to_other) < 0.3
    else:
        assert to_other > 0.8 and abs(to_first) < 0.3
EOF
