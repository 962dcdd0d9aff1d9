"""Exported files: against torch, in int8 step by step and row by row, and refusals of wrong input."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from pipeline.compress.measure import Variant, perplexity, seconds_per_token
from pipeline.compress.onnx_export import check_matches, export
from pipeline.compress.onnx_model import OnnxModel
from pipeline.config import ModelConfig
from pipeline.data.scoring import ScoringStreams
from pipeline.data.windows import ArrayTokens
from pipeline.errors import UserError
from pipeline.model.language_model import LanguageModel

IDS = np.random.default_rng(0).integers(0, 30, 150)
CELLS: dict[str, dict[str, object]] = {
    **{cell: {"cell": cell} for cell in ("lstm", "gru", "rnn", "gru_reset_before", "mingru", "minlstm", "qrnn")},
    "slstm": {"cell": "slstm", "num_heads": 2},
    "slstm with one head and an exponential forget gate": {
        "cell": "slstm", "num_heads": 1, "slstm_forget_gate": "exponential",
    },
    "mogrifier": {"mogrifier_rounds": 3},
    "mogrifier of low rank": {"mogrifier_rounds": 2, "mogrifier_rank": 3},
}  # fmt: skip
SHAPES: list[dict[str, object]] = [
    {},
    {"tie_weights": True, "embedding_size": 10, "hidden_size": [16, 12]},
    {"layer_norm": True, "residual": True, "num_layers": 3, "qrnn_wide_layers": "all", "tie_weights": True},
    {"head": "adaptive", "adaptive_cutoffs": [8, 20], "embedding_size": 10},
    {"head": "adaptive", "adaptive_cutoffs": [8, 20], "embedding_size": 10, "tie_weights": True},
    {"head": "mixture", "num_experts": 3, "embedding_size": 10, "tie_weights": True},
]


def make_model(**changes: object) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(**{"hidden_size": 16, "init_range": 0.3, **changes}), 30).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_exported_file_equals_the_model_in_windows_of_any_length(cell: str, shape: dict[str, object]) -> None:
    model = make_model(**CELLS[cell], **shape)
    tokens = IDS[:140].reshape(70, 2)
    hidden, _ = model(torch.from_numpy(tokens), model.initial_state(2))
    expected = model.head.logits(hidden).detach().numpy()
    exported = OnnxModel(export(model, IDS))  # export itself refuses a file that differs
    quantized = OnnxModel(export(model, IDS, int8=True))
    steps = in_windows(quantized, tokens, 1)
    for length in (1, 7, 64):
        np.testing.assert_allclose(in_windows(exported, tokens, length), expected, atol=1e-5)
        np.testing.assert_allclose(in_windows(quantized, tokens, length), steps, atol=1e-6)
    assert np.abs(steps - expected).max() < 0.15 * np.abs(expected).max()


def in_windows(exported: OnnxModel, tokens: Any, length: int) -> Any:
    """(T, B, V) logits of (T, B) tokens, read from a zero state in windows of ``length``."""
    exported.reset(tokens.shape[1])
    return np.concatenate([exported(tokens[start : start + length]) for start in range(0, len(tokens), length)])


@pytest.mark.parametrize("cell", CELLS)
def test_int8_gives_each_step_and_row_the_same_logits_as_alone(cell: str) -> None:
    model = make_model(**CELLS[cell], tie_weights=True, embedding_size=10, hidden_size=[16, 12])
    outlier = 7  # the embedding of this type is 50 times as large as the others
    with torch.no_grad():
        model.embedding.weight[outlier] *= 50
    exported = OnnxModel(export(model, IDS, int8=True))
    tokens = np.delete(IDS, np.flatnonzero(outlier == IDS))[:60].reshape(20, 3)
    tokens[12, 0] = tokens[3, 1] = outlier  # late in one text, and in the middle of its neighbour
    exported.reset(3)
    window = exported(tokens)
    for row in range(3):
        exported.reset(1)
        steps = [exported([[token]]) for token in tokens[:, row].tolist()]
        np.testing.assert_array_equal(np.concatenate(steps), window[:, row : row + 1])
    without = tokens.copy()
    without[12, 0] = without[3, 1] = IDS[0]
    exported.reset(3)
    others = exported(without)
    np.testing.assert_array_equal(others[:12, 0], window[:12, 0])
    np.testing.assert_array_equal(others[:, 2], window[:, 2])
    assert (others[12, 0] != window[12, 0]).any()
    # and eight bits are enough as long as the outlier is not read
    hidden, _ = model(torch.from_numpy(without), model.initial_state(3))
    expected = model.head.logits(hidden).detach().numpy()
    assert np.abs(others - expected).max() < 0.15 * np.abs(expected).max()


def test_int8_is_scored_with_the_logits_of_single_steps() -> None:
    model = make_model(init_range=2.0)
    exported = OnnxModel(export(model, IDS, int8=True))
    text = ScoringStreams(ArrayTokens(IDS), num_streams=1, bptt=40)
    nats = 0.0
    for token, following in itertools.pairwise(IDS.tolist()):
        logits = exported([[token]])[0, 0].astype(np.float64)
        nats += np.log(np.exp(logits).sum()) - logits[following]
    assert perplexity(Variant("onnx-int8", exported, 0), text) == pytest.approx(math.exp(nats / 149), rel=1e-12)


def test_as_many_tokens_are_timed_as_are_asked_for() -> None:
    done: list[int] = []
    models = {"torch": make_model(), "onnx": OnnxModel(export(make_model(), IDS))}
    seconds = seconds_per_token(models, 27, on_tokens=done.append)
    assert {name: len(times) for name, times in seconds.items()} == {"torch": 27, "onnx": 27}
    assert sum(done) == 2 * 27


def test_int8_files_of_earlier_versions_load_and_give_the_same_logits_as_alone() -> None:
    exported = OnnxModel(Path(__file__).with_name("int8_exported_before.onnx"))  # H 3, V 5, one scale per call
    text = [1, 4, 0, 2]
    first, last = exported([[1]])[0, 0], [exported([[token]]) for token in text[1:]][-1]
    assert first.tolist() == pytest.approx([0.09689, 0.30662, 0.92843, -0.31570, 0.34119], abs=5e-5)
    exported.reset(2)
    window = exported([[token, 3 - token % 3] for token in text])
    assert exported.is_int8
    np.testing.assert_array_equal(window[0, 0], first)
    np.testing.assert_array_equal(window[3:, :1], last)


def test_wrong_tokens_and_files_are_refused(tmp_path: Path) -> None:
    content = export(make_model(), IDS)
    (tmp_path / "model.onnx").write_bytes(content)
    exported = OnnxModel(tmp_path)  # the folder
    assert not exported.is_int8
    rows = exported(np.array([[5, 17, 2]], dtype=np.uint16))  # any number of streams, and ids as encode returns them
    np.testing.assert_allclose(rows[:, :1], OnnxModel(content)([[5]]), atol=1e-6)
    for tokens, sentence in (
        ([[1, 2]], r"tokens: 2 streams, but the state has 3; reset\(2\) starts again"),
        ([[1, 2, 30]], "tokens: 30 is not an id of a vocabulary of 30 types"),
        ([[1, -1, 3]], "tokens: -1 is not an id"),
        ([1, 2, 3], r"tokens: must be whole numbers of shape \(T, B\), not int64 of shape \(3,\)"),
        ([[1.0, 2.0, 3.0]], "tokens: must be whole numbers"),
        ([[1, 2, 3], [4, 5]], "tokens: must be .* the same number in each of the T rows"),
        (np.zeros((0, 3), dtype=np.int64), "tokens: must be whole numbers"),
    ):
        with pytest.raises(UserError, match=f"^{sentence}"):
            exported(tokens)
    (tmp_path / "other").mkdir()
    (tmp_path / "text.onnx").write_text("no model")
    add = onnx.helper.make_node("Identity", ["a"], ["b"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab"]
    graph = onnx.helper.make_graph([add], "other", ends[:1], ends[1:])
    foreign = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    for source, sentence in (
        (tmp_path / "other", f"{tmp_path}/other/model.onnx: cannot be read: No such file"),
        (tmp_path / "text.onnx", f"{tmp_path}/text.onnx: not a model that ONNX Runtime can run"),
        (foreign.SerializeToString(), "the content: not a model that jobs.compress exported"),
    ):
        with pytest.raises(UserError, match=f"^{sentence}") as caught:
            OnnxModel(source)
        assert "\n" not in str(caught.value)


def test_an_export_that_does_not_match_is_refused() -> None:
    model, content = make_model(), export(make_model(), IDS)
    with torch.no_grad():
        model.head.bias[3] += 0.001
    with pytest.raises(ValueError, match=r"differ from the model's by 0.001 on 150 tokens, more than 0.0001"):
        check_matches(model, content, IDS)
