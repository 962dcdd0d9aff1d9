"""The scan against a loop; layer norm, residual connections, initial weights and sizes."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import ModelConfig, load
from pipeline.model import scan
from pipeline.model.cpu.reset_before import ResetBefore
from pipeline.model.language_model import LanguageModel
from pipeline.model.recurrence import CELLS, Recurrence
from pipeline.model.scan import running_average
from tests.model.reference import cell_step, zero_state

TIME, STREAMS, EMBED = 6, 3, 5


def random_averages(num_steps: int, num_streams: int, size: int) -> list[Tensor]:
    """Random inputs, gates and start."""
    torch.manual_seed(num_steps)
    shapes = [(num_steps, num_streams, size)] * 2 + [(num_streams, size)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.fixture(params=["loop", "blocks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scan in a loop, as on a CPU, and in blocks, as on a GPU."""
    monkeypatch.setattr(scan, "BLOCKED", {"cpu"} if request.param == "blocks" else set())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("num_steps", [1, 2, 7, 24, 25, 64, 70, 600])
def test_the_scan_equals_one_step_after_another(num_steps: int) -> None:
    inputs, gates, start = random_averages(num_steps, 2, 3)
    resets = torch.rand(num_steps, 2) < 0.1
    hidden, steps = start, []
    for t in range(num_steps):
        hidden = torch.where(resets[t].unsqueeze(1), 0, hidden)
        hidden = torch.sigmoid(gates[t]) * hidden + (1 - torch.sigmoid(gates[t])) * inputs[t]
        steps.append(hidden)
    expected, found = torch.stack(steps), running_average(inputs, gates, start, resets)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    weights = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), (inputs, gates, start)),
        torch.autograd.grad((expected * weights).sum(), (inputs, gates, start)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.usefixtures("way")
def test_gradients_of_the_scan() -> None:
    values = random_averages(26, 1, 2)
    assert torch.autograd.gradcheck(running_average, values)
    assert torch.autograd.gradcheck(running_average, (*values, torch.rand(26, 1) < 0.2))


def test_gradients_of_the_gru_with_its_reset_before_the_product() -> None:
    torch.manual_seed(0)
    shapes = [(4, 2, 9), (9, 3), (2, 3)]
    values = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    resets = torch.tensor([[False, True], [False, False], [True, False], [False, False]])
    for where in (None, resets):
        assert torch.autograd.gradcheck(ResetBefore.apply, (*values, where))


@pytest.mark.usefixtures("way")
def test_saturated_gates_over_a_long_window_stay_finite_and_exact() -> None:
    inputs = torch.randn(2000, 1, 4, requires_grad=True)
    gates = torch.tensor([-1e4, 1e4, -200.0, 200.0]).expand(2000, 1, 4).clone().requires_grad_()
    start = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    hidden = running_average(inputs, gates, start)
    assert torch.equal(hidden[..., [0, 2]], inputs[..., [0, 2]])  # everything is forgotten
    assert torch.equal(hidden[..., [1, 3]], start[:, [1, 3]].expand(2000, 1, 2))  # nothing is forgotten
    hidden.sum().backward()
    assert inputs.grad is not None
    assert gates.grad is not None
    assert inputs.grad[..., [0, 2]].eq(1).all()
    assert inputs.grad[..., [1, 3]].eq(0).all()
    assert gates.grad.isfinite().all()


@pytest.mark.parametrize("cell", ["gru_reset_before", "mingru", "minlstm", "qrnn", "slstm"])
def test_float32_stays_near_float64(cell: str) -> None:
    torch.manual_seed(0)
    layer = Recurrence(cell, input_size=EMBED, hidden_sizes=[16])
    inputs = torch.randn(300, STREAMS, EMBED)
    results = []
    for dtype in (torch.float32, torch.float64):
        state = layer.initial_state(STREAMS, device=inputs.device, dtype=dtype)
        hidden, _ = layer.to(dtype)(inputs.to(dtype), state)
        grads = torch.autograd.grad(hidden.square().mean(), list(layer.parameters()))
        results.append([hidden, *grads])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("residual", [False, True])
def test_layer_norm_and_residual_connections_of_layers_of_different_sizes(cell: str, residual: bool) -> None:
    """Norms before each layer and after the last; inputs are added where sizes agree: in layers 0 and 2."""
    torch.manual_seed(0)
    sizes = [EMBED, 7, 7]
    model = Recurrence(cell, input_size=EMBED, hidden_sizes=sizes, layer_norm=True, residual=residual).double()
    assert model.norms is not None
    with torch.no_grad():
        for parameter in model.norms.parameters():
            parameter.uniform_(0.5, 1.5)

    def normalized(x: Tensor, index: int) -> Tensor:
        norm: Any = model.norms[index]  # type: ignore[index]
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias

    inputs = torch.randn(TIME, STREAMS, EMBED, dtype=torch.float64)
    states = [zero_state(layer, STREAMS) for layer in model.layers]
    outputs = []
    for x in inputs:
        for index, layer in enumerate(model.layers):
            states[index] = cell_step(cell, normalized(x, index), states[index], layer)
            x = states[index][0] + (x if residual and index != 1 else 0)
        outputs.append(normalized(x, 3))
    expected = torch.stack(outputs)
    found, end = model(inputs, model.initial_state(STREAMS, device=inputs.device, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    part = 1 if cell in ("qrnn", "slstm") else 0  # for these the output precedes h or takes its place
    for index, size in enumerate(sizes):
        own = F.pad(states[index][part], (0, 7 - size))
        torch.testing.assert_close(end[0][index], own, rtol=1e-11, atol=1e-12)
    ours, theirs = (
        torch.autograd.grad(hidden.pow(3).sum(), list(model.parameters()), allow_unused=False)
        for hidden in (found, expected)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_only_the_first_layer_of_a_qrnn_is_wide_unless_all_are() -> None:
    config = {"cell": "qrnn", "embedding_size": 6, "hidden_size": [9, 4], "num_layers": 2}
    for wide, widths in (("first", (2, 1)), ("all", (2, 2))):
        model = LanguageModel(ModelConfig(**config, qrnn_wide_layers=wide), 11)  # type: ignore[arg-type]
        shapes = [tuple(layer.weight.shape) for layer in model.recurrence.layers]
        assert shapes == [(27, widths[0] * 6), (12, widths[1] * 9)]
        cells, before = model.initial_state(2)
        assert tuple(cells.shape) == (2, 2, 9)
        assert tuple(before.shape) == (2, 2, 9 if wide == "all" else 6)


def test_initial_weights() -> None:
    for cell, limit in (("mingru", 1 / 20), ("minlstm", 1 / 20), ("qrnn", 1 / 800**0.5), ("gru_reset_before", 1 / 8)):
        model = LanguageModel(ModelConfig(cell=cell, embedding_size=400, hidden_size=64, num_layers=1), 11)  # type: ignore[arg-type]
        weight = model.recurrence.layers[0].weight  # initially three times as large as the others
        for parameter in model.recurrence.parameters():
            most = parameter.abs().max() / (3 if parameter is weight else 1)
            assert 0.9 * limit < most <= limit
    model = LanguageModel(ModelConfig(cell="mingru", layer_norm=True, init_range=0.05), 11)
    assert model.recurrence.norms is not None
    for norm in model.recurrence.norms:
        assert norm.weight.eq(1).all()
        assert norm.bias.eq(0).all()
    assert all(0.03 < parameter.abs().max() <= 0.05 for parameter in model.recurrence.layers.parameters())


NO_SIZE = "model.hidden_size: must be a whole number of at least 1, or a list of them, not"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("hidden_size=[8,9] num_layers=3", "model.hidden_size: 2 sizes, [8, 9], for model.num_layers=3"),
        ("hidden_size=[8,0]", f"{NO_SIZE} [8, 0]"),
        ("hidden_size=x", f"{NO_SIZE} 'x'"),
        ("hidden_size=[]", f"{NO_SIZE} []"),
        (
            "hidden_size=[8,9] last_hidden_size=9",
            "model.last_hidden_size: model.hidden_size lists the last layer's size already, [8, 9]",
        ),
        ("cell=mingru weight_dropout=0.5", "model.weight_dropout: 0.5, but mingru has no recurrent weights"),
        (
            "residual=true hidden_size=[8,9] embedding_size=7",
            "model.residual: no layer has inputs of its own size: embedding 7, layers of [8, 9]",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^model") as caught:
        load(None, [f"model.{override}" for override in overrides.split()])
    assert str(caught.value) == sentence


def test_sizes_of_layers() -> None:
    assert load(None, ["model.hidden_size=[8,9,7]", "model.num_layers=3"]).model.layer_sizes == [8, 9, 7]
    assert ModelConfig(hidden_size=8, num_layers=3, last_hidden_size=7).layer_sizes == [8, 8, 7]
    assert {*CELLS, "transformer"} == set(get_args(ModelConfig.model_fields["cell"].annotation))
