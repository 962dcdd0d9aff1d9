"""Products in every format against float64: right up to rounding, whichever operator computes them."""

import platform
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import ModelConfig
from pipeline.model import kernels
from pipeline.model.cpu import onednn, products
from pipeline.model.cpu.onednn import has_bf16_products
from pipeline.model.language_model import LanguageModel

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
    bound = 4 * torch.finfo(dtype).eps * expected.abs().max().item()  # sums of 37 products, in any order
    multiply = products.product_with(weight, num_rows=5)
    for _ in range(2):
        assert (multiply(rows).double() - expected).abs().max() < bound


@pytest.mark.parametrize("dtype", FORMATS)
def test_sums_of_columns(dtype: torch.dtype) -> None:
    values = torch.tensor([[1.0, 256.0], [2.0, 1.0], [-4.0, 0.5]]).to(dtype)
    sums = products.column_sums(values, torch.float32)
    assert sums.dtype == torch.float32
    # the product is rounded to bf16, which cannot represent 257.5
    torch.testing.assert_close(sums, torch.tensor([-1.0, 257.5]), rtol=torch.finfo(dtype).eps / 2, atol=0)


@pytest.fixture(params=["torch", "onednn"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The library that multiplies float32, whatever this processor would choose."""
    name: str = request.param
    if name == "onednn" and not (onednn.has_products() and torch.backends.mkldnn.is_available()):
        pytest.skip("this torch has no products by oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: name == "onednn")
    return name


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


def assert_near(result: Tensor, expected: Tensor) -> None:
    """Within the rounding of float32 sums of up to a hundred products."""
    torch.testing.assert_close(result.double(), expected.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(7,), (5, 7), (3, 5, 7), (0, 7)])
@pytest.mark.parametrize("num_outputs", [1, 4, 60])
@pytest.mark.parametrize("has_bias", [True, False])
def test_linear_and_its_gradients(library: str, shape: tuple[int, ...], num_outputs: int, has_bias: bool) -> None:
    leaves = [normal(*shape), normal(num_outputs, 7), normal(num_outputs)][: 2 + has_bias]
    results = []
    for function, dtype in ((products.linear, torch.float32), (F.linear, torch.float64)):
        ours = [leaf.to(dtype).requires_grad_() for leaf in leaves]
        output = function(*ours)
        results.append([output, *torch.autograd.grad(output, ours, normal(*output.shape, dtype=dtype))])
    for result, expected in zip(*results, strict=True):
        assert result.dtype == torch.float32
        assert result.is_contiguous()
        assert_near(result, expected)


@pytest.mark.parametrize(("num_left", "num_right"), [(300, 6), (6, 300), (5, 5)])
@pytest.mark.parametrize("is_few", [False, True])
def test_sums_over_rows(
    library: str, num_left: int, num_right: int, is_few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "ROWS_MADE_AT_ONCE", 4)
    monkeypatch.setattr(products, "FEW_ROWS", 12 if is_few else 1)
    left, right = normal(11, num_left), normal(11, num_right)
    expected = left.double().t() @ right.double()
    assert_near(products.product_over_rows(left, right), expected)
    total = torch.ones(num_left, num_right)
    products.add_over_rows(total, left, right)
    assert_near(total, expected + 1)


def test_a_bias_with_strides(library: str) -> None:
    rows, weight, biases = normal(5, 7), normal(9, 7), normal(9, 2)
    for bias in (biases[:, 0], biases[0, :1].expand(9)):
        expected = F.linear(rows.double(), weight.double(), bias.double())
        assert_near(products.product(rows, weight.t(), bias), expected)
        assert_near(products.product_with(weight, bias, num_rows=5)(rows), expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie_weights": True, "embedding_size": 6},
        {"head": "adaptive", "adaptive_cutoffs": [10, 30]},
        {"head": "mixture", "num_experts": 3},
        {"cell": "qrnn"},
        {"cell": "gru"},
        {"cell": "rnn"},
        {"cell": "gru_reset_before"},
        {"cell": "slstm", "num_heads": 2},
        {"mogrifier_rounds": 2},
    ],
)
def test_a_model_and_its_gradients(library: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "LONG", 2)
    monkeypatch.setattr(kernels, "LARGE", 1)
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(hidden_size=8, num_layers=2, **options), 50).eval()  # type: ignore[arg-type]
    inputs, targets = torch.randint(50, (2, 5, 3))
    results = []
    for dtype in (torch.float32, torch.float64):
        model = model.to(dtype)
        hidden, _ = model(inputs, model.initial_state(3))
        nats = model.head.loss(hidden, targets)
        results.append([nats, model.head.logits(hidden), *torch.autograd.grad(nats, list(model.parameters()))])
    for result, expected in zip(*results, strict=True):
        assert_near(result, expected)


@pytest.mark.parametrize(
    ("vendor", "capability", "has_mkl", "has_products", "expected"),
    [
        ("AuthenticAMD", "AVX512", True, True, True),
        ("AuthenticAMD", "AVX2", True, True, False),
        ("AuthenticAMD", "AVX512", False, True, False),
        ("AuthenticAMD", "AVX512", True, False, False),
        ("GenuineIntel", "AVX512", True, True, False),
        ("AMD64 machine of GenuineIntel", "AVX512", True, True, False),
    ],
)
def test_onednn_is_used_where_mkl_leaves_half_of_the_processor_idle(
    vendor: str, capability: str, has_mkl: bool, has_products: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_vendor", lambda: vendor)
    monkeypatch.setattr(onednn, "has_products", lambda: has_products)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: has_mkl)
    assert products.onednn_is_faster.__wrapped__() is expected


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError])
def test_a_torch_without_its_private_operators_multiplies_all_the_same(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise error("no such operator")

    for name in ("linear", "packed"):
        monkeypatch.setattr(onednn, name, refuse)
    monkeypatch.setattr(onednn, "has_products", onednn.has_products.__wrapped__)
    assert not onednn.has_products()
    monkeypatch.setattr(products, "onednn_is_faster", products.onednn_is_faster.__wrapped__)
    rows, weight = normal(5, 7), normal(9, 7)
    expected = rows.double() @ weight.double().t()
    assert_near(products.product(rows, weight.t()), expected)
    assert_near(products.product_with(weight, num_rows=5)(rows), expected)


def test_operators_that_multiply_otherwise_than_expected_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "packed", lambda weight, num_rows: weight.t())
    assert not onednn.has_products.__wrapped__()


def test_the_vendor_is_this_processors() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    if not is_x86 or not cpuinfo.exists():
        pytest.skip("no x86 with /proc/cpuinfo")
    assert products._vendor().split()[-1] in ("AuthenticAMD", "GenuineIntel", "HygonGenuine")
