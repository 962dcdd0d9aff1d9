"""An exported file run by ONNX Runtime, without torch. Letters: T time, B streams, V vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError


class OnnxModel:
    """``model.onnx`` with its state kept between calls, blank at first."""

    def __init__(self, source: str | Path | bytes, *, num_threads: int = 1) -> None:
        """``source``: a file or its content. Raises ``UserError`` where ONNX Runtime is not installed."""
        try:
            import onnxruntime
        except ImportError:
            raise UserError("ONNX Runtime is not installed: pip install 'recurray[export]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        content = source if isinstance(source, bytes) else str(source)
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.state_inputs = self.session.get_inputs()[1:]
        self.state: list[Any] = []
        self.reset(1)

    def reset(self, batch_size: int) -> None:
        """A blank state for ``batch_size`` streams."""
        shapes = [(1, batch_size, item.shape[2]) for item in self.state_inputs]
        self.state = [np.zeros(shape, dtype=np.float32) for shape in shapes]

    def __call__(self, tokens: Any) -> Any:
        """(T, B) token ids → (T, B, V) logits, float32."""
        names = [item.name for item in self.state_inputs]
        feed = {"tokens": np.asarray(tokens, dtype=np.int64), **dict(zip(names, self.state, strict=True))}
        logits, *self.state = self.session.run(None, feed)
        return logits
