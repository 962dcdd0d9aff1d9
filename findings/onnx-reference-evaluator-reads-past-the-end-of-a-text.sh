#!/usr/bin/env bash
# ONNX's own ReferenceEvaluator ignores sequence_lens of an LSTM, GRU or RNN: it reads the padding as text.
# Version: onnx 1.23.2, onnxruntime 1.32.0.
# Guess: the evaluator that comes with the standard does what the standard says, or says what it cannot do: the last
# state of a text is that after its last token, as if it were alone. ONNX Runtime returns that.
# Seen: the model passes the checker, but the last state is that after the padding; backwards, a text begins with its
# padding. There is no warning. clip is ignored as silently, and so are the activations of an LSTM or a GRU: the last
# state with Relu is the one without.
# For us: our files read texts of one length in a call, so they have no such input, and ONNX Runtime checks them
# (pipeline/compress/onnx_export.py). Check a model that reads batches of texts of unequal length against each text
# alone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(0)
size = 4
gates = {"LSTM": 4, "GRU": 3, "RNN": 1}
shapes = {kind: (1, count * size, size) for kind, count in gates.items()}
weights = {kind: [rng.normal(size=shape).astype(np.float32) for _ in "WR"] for kind, shape in shapes.items()}


def model_of(kind, with_lengths=False, **attributes):
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", size])]
    if with_lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]))
    names = ["x", "W", "R", "", "lengths" if with_lengths else ""]
    node = helper.make_node(kind, names, ["", "last"], hidden_size=size, **attributes)
    last = helper.make_tensor_value_info("last", TensorProto.FLOAT, [1, "B", size])
    constants = [numpy_helper.from_array(value, name) for name, value in zip("WR", weights[kind], strict=True)]
    graph = helper.make_graph([node], "model", inputs, [last], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def by_reference(model, **feeds):
    return ReferenceEvaluator(model).run(None, feeds)[0]


def by_runtime(model, **feeds):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


batch = rng.normal(size=(5, 2, size)).astype(np.float32)  # (T, B, E): texts of 5 and of 2 steps
lengths = np.array([5, 2], np.int32)
errors = {}
for kind in gates:
    for direction in ("forward", "reverse"):
        padded, plain = model_of(kind, True, direction=direction), model_of(kind, direction=direction)
        alone = by_reference(plain, x=batch[:2, 1:])[:, 0]  # the shorter text by itself
        assert np.allclose(alone, by_runtime(plain, x=batch[:2, 1:])[:, 0], atol=1e-6)
        for name, run in {"reference": by_reference, "runtime": by_runtime}.items():
            error = np.abs(run(padded, x=batch, lengths=lengths)[:, 1] - alone).max()
            errors[kind, direction, name] = float(error)
            print(f"{kind} {direction}: error of the shorter text's last state by {name}: {error:.6f}")
changes = {}
others = {"LSTM": {"activations": ["Sigmoid", "Relu", "Relu"]}, "GRU": {"activations": ["Sigmoid", "Relu"]}}
for kind, attributes in [*((kind, {"clip": 0.3}) for kind in gates), *others.items()]:
    for name, run in {"reference": by_reference, "runtime": by_runtime}.items():
        change = np.abs(run(model_of(kind, **attributes), x=batch) - run(model_of(kind), x=batch)).max()
        changes[kind, *attributes, name] = float(change)
        print(f"{kind}: change of the last state by {attributes} in {name}: {change:.6f}")
for found in (errors, changes):
    for what, value in found.items():
        reference_ignores = value > 0.01 if found is errors else value == 0
        runtime_heeds = value < 1e-5 if found is errors else value > 0.01
        assert reference_ignores if what[-1] == "reference" else runtime_heeds, what
EOF
