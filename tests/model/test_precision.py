"""The reported format is the one in which products were computed, as their rounding shows."""

import copy

import pytest
import torch

from pipeline.model import precision
from pipeline.model.cpu.onednn import has_bf16_products
from pipeline.model.precision import autocast
from pipeline.model.recurrence import CELLS, Recurrence

CPU = torch.device("cpu")
E, H = 24, 48


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("asked", ["float32", "bf16", "fp16", "emulated bf16"])
@pytest.mark.parametrize(("num_steps", "num_streams"), [(4, 2), (35, 3), (9, 64)])  # torch's own kernels and our loops
@pytest.mark.parametrize("is_training", [True, False])
def test_the_reported_format_is_that_of_the_rounding(
    cell: str, asked: str, num_steps: int, num_streams: int, is_training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asked == "emulated bf16":
        monkeypatch.setattr(precision, "has_bf16_products", lambda: False)
    torch.manual_seed(0)
    layers = Recurrence(cell, input_size=E, hidden_sizes=[H])
    inputs = torch.randn(num_steps, num_streams, E)
    exact, _ = copy.deepcopy(layers).double()(
        inputs.double(), layers.initial_state(num_streams, device=CPU, dtype=torch.float64)
    )
    with autocast(asked.split()[-1], CPU), torch.set_grad_enabled(is_training):
        found = layers.product_formats(inputs)
        outputs, _ = layers(inputs, layers.initial_state(num_streams, device=CPU, dtype=torch.float32))
    is_low = asked == "bf16" and has_bf16_products()
    assert found == {torch.bfloat16 if is_low else torch.float32}
    error = float(
        (outputs.detach() - exact.detach()).norm() / exact.detach().norm()
    )  # bf16 rounds by up to 2e-3, float32 by 6e-8
    assert (2e-4 < error < 0.05) if is_low else error < 1e-5


def test_the_format_of_a_wide_lstm_is_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16_products", lambda: True)
    layers = Recurrence("lstm", input_size=8, hidden_sizes=[640])
    with autocast("bf16", CPU):
        assert layers.product_formats(torch.zeros(2, 2, 8)) == {torch.bfloat16}


def test_products_in_several_formats_are_all_reported() -> None:
    matrix = torch.zeros(2, 2)
    with precision.ProductFormats() as products:
        assert products.found == set()
        _ = matrix + matrix.double(), matrix.bfloat16() * 2
        assert products.found == set()
        _ = matrix @ matrix, matrix.bfloat16() @ matrix.bfloat16()
    _ = matrix.double() @ matrix.double()
    assert products.found == {torch.float32, torch.bfloat16}
