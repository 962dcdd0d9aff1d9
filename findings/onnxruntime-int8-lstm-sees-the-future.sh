#!/usr/bin/env bash
# An int8 LSTM of ONNX Runtime changes its output for a step when a LATER step of the call changes.
# Version: onnxruntime 1.32.0, onnx 1.23.2 (quantize_dynamic makes DynamicQuantizeLSTM).
# Guess: an LSTM is causal, so its first output depends on the first input alone, in int8 as in float32.
# Seen: one scale is used for all steps and rows of a call, so a large later input makes the steps before it coarser.
# For us: pipeline/compress/onnx_int8.py uses a scale for each row and step.
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
from onnxruntime.quantization import QuantType, quantize_dynamic

rng = np.random.default_rng(0)
size = 16
weights = {
    "W": rng.normal(size=(1, 4 * size, size)).astype(np.float32) * 0.3,
    "R": rng.normal(size=(1, 4 * size, size)).astype(np.float32) * 0.3,
}
node = helper.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=size)
graph = helper.make_graph(
    [node],
    "lstm",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", 1, size])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", 1, 1, size])],
    [numpy_helper.from_array(value, name) for name, value in weights.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(model, "float.onnx")
quantize_dynamic("float.onnx", "int8.onnx", weight_type=QuantType.QInt8, op_types_to_quantize=["LSTM"])
kinds = [n.op_type for n in onnx.load("int8.onnx").graph.node]
calm = rng.normal(size=(8, 1, size)).astype(np.float32)
loud = calm.copy()
loud[-1] *= 50  # the last step only
differences = {}
for name in ("float", "int8"):
    session = ort.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
    first = [session.run(None, {"x": x})[0][0] for x in (calm, loud)]
    differences[name] = float(np.abs(first[0] - first[1]).max())
print(f"operators: {kinds}; change of the FIRST output when the last input grows: {differences}")
assert "DynamicQuantizeLSTM" in kinds
assert differences["float"] == 0
assert differences["int8"] > 0.01
EOF
