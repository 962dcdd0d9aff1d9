#!/usr/bin/env bash
# The gradient of thinc's own LSTM is its weights plus something that is not the gradient either.
# Version: thinc 9.1.1 (NumpyOps), the library below spaCy; 8.3.14 has the same lines.
# Guess: backprop gives the derivative of the outputs: 0 where the gradient of the outputs is 0, for inputs of one token
# as for longer ones, and equal to finite differences but for rounding.
# Seen: where the gradient of the outputs is 0, that of the weights is the weights (Wx, Wh, both biases added up): the
# array in which gradients are summed begins as a copy of them, which trains as a penalty of half the sum of squared
# weights would, at every update and with no setting to turn it off. What remains when they are taken off is no gradient
# either: it lacks the first token of each sequence (the input of a sequence of one token has no gradient at all), and
# the part for Wh is multiplied by the output of the same step, not of the step before. There is no warning.
# For us: tests/model compares gradients of cells with finite differences or with those of autograd.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check thinc==9.1.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import numpy as np
from thinc.api import LSTM, with_padded

INPUTS, UNITS = 3, 4
rng = np.random.default_rng(0)
model = with_padded(LSTM(UNITS, INPUTS))
model.initialize(X=[np.zeros((2, INPUTS), dtype="f")])
layer = model.layers[0]
weights = rng.normal(size=layer.get_param("LSTM").shape).astype("f")
sizes = [4 * UNITS * INPUTS, 4 * UNITS, 4 * UNITS * UNITS, 4 * UNITS]  # Wx, its bias, Wh, its bias


def gradients(text, of_output):
    """Backprop's gradients of (output * of_output).sum() for the weights and for the text."""
    layer.set_param("LSTM", weights)
    layer.set_grad("LSTM", np.zeros_like(weights))
    of_text = model.begin_update([text])[1]([of_output.astype("f")])[0]
    return layer.get_grad("LSTM").copy(), of_text


def differences(text, of_output, step=1e-2):
    found = []
    for place in range(len(weights)):
        sums = []
        for sign in (1, -1):
            moved = weights.copy()
            moved[place] += sign * step
            layer.set_param("LSTM", moved)
            sums.append((model.predict([text])[0].astype("d") * of_output).sum())
        found.append((sums[0] - sums[1]) / (2 * step))
    return np.array(found)


def correlation(first, second):
    return round(float(np.corrcoef(first, second)[0, 1]), 2)


text = rng.normal(size=(6, INPUTS)).astype("f")
of_output = rng.normal(size=(6, UNITS))
nothing = gradients(text, np.zeros((6, UNITS)))[0]
wx, bx, wh, bh = np.split(nothing, np.cumsum(sizes)[:-1])
own_wx, own_bx, own_wh, own_bh = np.split(weights, np.cumsum(sizes)[:-1])
print(f"gradient for outputs without one: largest {abs(nothing).max():.2f}; less the weights {abs(wx - own_wx).max()}")
assert np.array_equal(wx, own_wx) and np.array_equal(wh, own_wh)
assert np.allclose(bx, own_bx + own_bh) and not bh.any()

of_token = gradients(text[:1], of_output[:1])[1]
print(f"gradient of the input of a sequence of one token: {of_token.ravel()}")
assert not of_token.any()

exact = differences(text, of_output)
given = gradients(text, of_output)[0]
both = [correlation(given, exact), correlation(given - nothing, exact)]
print(f"correlation with finite differences: {both[0]}; without the weights: {both[1]}")
assert both[0] < 0.9 and both[1] < 0.95
EOF
