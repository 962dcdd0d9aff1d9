"""An exported file run by ONNX Runtime, without torch. Letters: T time, B streams, V vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError

ONNX = "model.onnx"
# the key of an exported file's metadata that says what its weights are, float32 or int8
WEIGHTS = "weights"
# the key for the type after which streams get a zero state, if there is one; within a call they keep theirs
RESET_AFTER = "reset_after"
# in int8 files of earlier versions: an operator with one scale for all rows and steps of a call
SCALES_A_WHOLE_CALL = b"DynamicQuantize"


class OnnxModel:
    """``model.onnx`` with its state kept between calls, zero at first."""

    def __init__(self, source: str | Path | bytes, *, num_threads: int = 1) -> None:
        """
        Args:
            source: a file, the folder that ``jobs.compress`` wrote it to, or its content.

        Raises:
            UserError: ONNX Runtime is not installed, there is no such file, or it is not a model of ``jobs.compress``.
        """
        try:
            import onnxruntime
        except ImportError:
            raise UserError("ONNX Runtime is not installed: pip install 'recurray[export]'") from None
        name, content = ("the content", source) if isinstance(source, bytes) else _read(Path(source))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        try:
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a different class for each kind of failure
            reason = " ".join(str(error).split())
            raise UserError(f"{name}: not a model that ONNX Runtime can run ({reason})") from None
        tokens, *self.state_inputs = self.session.get_inputs()
        logits, *ends = self.session.get_outputs()
        names = [tokens.name, logits.name, *(item.name for item in ends)]
        if names != ["tokens", "logits", *(f"next_{item.name}" for item in self.state_inputs)]:
            raise UserError(f"{name}: not a model that jobs.compress exported")
        self.vocab_size: int = logits.shape[2]
        self.facts: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.reset_after = int(self.facts[RESET_AFTER]) if RESET_AFTER in self.facts else None
        self.scales_whole_calls = SCALES_A_WHOLE_CALL in content
        self.state: list[Any] = []
        self.is_zero = True
        self.reset(1)

    @property
    def is_int8(self) -> bool:
        return self.scales_whole_calls or self.facts.get(WEIGHTS) == "int8"

    def reset(self, batch_size: int) -> None:
        """Start again, with a zero state for ``batch_size`` streams."""
        shapes = [(1, batch_size, item.shape[2]) for item in self.state_inputs]
        self.state, self.is_zero = [np.zeros(shape, dtype=np.float32) for shape in shapes], True

    def __call__(self, tokens: Any) -> Any:
        """Read (T, B) token ids → (T, B, V) logits, float32; a zero state takes any number of streams.

        Raises:
            UserError: ``tokens`` are not (T, B) ids of the vocabulary, or not as many streams as the state has.
        """
        ids = self._checked(tokens)
        num_streams = ids.shape[1]
        if num_streams != self.state[0].shape[1]:
            if not self.is_zero:
                raise UserError(
                    f"tokens: {num_streams} streams, but the state has {self.state[0].shape[1]}; "
                    f"reset({num_streams}) starts again"
                )
            self.reset(num_streams)
        self.is_zero = False
        if not self.scales_whole_calls or ids.size == 1:
            parts = []
            for part in self._cut(ids):
                logits, *self.state = self._run(part, self.state)
                parts.append(logits)
            return np.concatenate(parts) if len(parts) > 1 else parts[0]
        # one token at a time: another step or stream must not change the logits of this one
        logits = np.empty((*ids.shape, self.vocab_size), dtype=np.float32)
        for step, stream in np.ndindex(ids.shape):
            one = slice(stream, stream + 1)
            found, *ends = self._run(ids[step : step + 1, one], [part[:, one] for part in self.state])
            logits[step, stream] = found[0, 0]
            for part, end in zip(self.state, ends, strict=True):
                part[:, one] = end
        return logits

    def _cut(self, ids: Any) -> list[Any]:
        """(T, B) ids, cut after each end of a document: the file resets a state only after the last step of a call."""
        if self.reset_after is None:
            return [ids]
        ends = np.flatnonzero((ids[:-1] == self.reset_after).any(axis=1)) + 1
        return np.split(ids, ends.tolist())

    def _run(self, ids: Any, state: list[Any]) -> Any:
        feed = {item.name: part for item, part in zip(self.state_inputs, state, strict=True)}
        return self.session.run(None, {"tokens": ids, **feed})

    def _checked(self, tokens: Any) -> Any:
        """``tokens`` as int64. Raises ``UserError`` for what the graph would refuse in its own words, or accept."""
        try:
            tokens = np.asarray(tokens)
        except ValueError:
            raise UserError("tokens: must be (T, B) ids, with the same number in each of the T rows") from None
        if tokens.ndim != 2 or tokens.dtype.kind not in "iu" or not tokens.size:
            raise UserError(
                f"tokens: must be whole numbers of shape (T, B), not {tokens.dtype} of shape {tokens.shape}"
            )
        lowest, highest = tokens.min(), tokens.max()
        if lowest < 0 or highest >= self.vocab_size:
            wrong = lowest if lowest < 0 else highest
            raise UserError(f"tokens: {wrong} is not an id of a vocabulary of {self.vocab_size:,} types")
        return tokens.astype(np.int64, copy=False)


def _read(path: Path) -> tuple[Path, bytes]:
    """Return the path and content of the file at ``path``, or in the folder there. Raises ``UserError`` naming it."""
    file = path / ONNX if path.is_dir() else path
    try:
        return file, file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
