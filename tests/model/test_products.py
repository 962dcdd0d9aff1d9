"""Products in every format against float64: right but for its rounding, whichever operator makes them."""

import pytest
import torch

from pipeline.model import products
from pipeline.model.precision import has_bf16_products

FORMATS = [
    torch.float64,
    torch.float32,
    pytest.param(torch.bfloat16, marks=pytest.mark.skipif(not has_bf16_products(), reason="no bf16 on this CPU")),
]


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_product_for_many_steps(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    rows, weight = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((5, 37), (64, 37)))
    expected = rows.double() @ weight.double().t()
    bound = 4 * torch.finfo(dtype).eps * expected.abs().max().item()  # sums of 37, in whatever order
    multiply = products.product_with(weight, num_rows=5)
    for _ in range(2):
        assert (multiply(rows).double() - expected).abs().max() < bound


@pytest.mark.parametrize("dtype", FORMATS)
def test_sums_of_columns(dtype: torch.dtype) -> None:
    values = torch.tensor([[1.0, 256.0], [2.0, 1.0], [-4.0, 0.5]]).to(dtype)
    sums = products.column_sums(values, torch.float32)
    assert sums.dtype == torch.float32
    # 257.5 has no place in bf16, in which the product ends
    torch.testing.assert_close(sums, torch.tensor([-1.0, 257.5]), rtol=torch.finfo(dtype).eps / 2, atol=0)
