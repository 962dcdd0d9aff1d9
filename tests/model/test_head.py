"""The fused loss against cross-entropy and against numerical gradients."""

import pytest
import torch
from torch.nn import functional as F

from pipeline.model.head import LinearCrossEntropy, Softmax


def test_gradients_against_finite_differences() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(50, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(9, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(9, (50,))
    targets[::7] = -100
    assert torch.autograd.gradcheck(lambda *x: LinearCrossEntropy.apply(*x, targets), (hidden, weight, bias))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_equals_cross_entropy_of_the_logits(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    torch.manual_seed(0)
    head = Softmax(8, 100)
    torch.nn.init.normal_(head.weight)
    head.to(device)
    hidden = torch.randn(5, 9, 8, device=device, requires_grad=True)
    targets = torch.randint(100, (5, 9), device=device)
    targets[2, 3] = -100
    ours = head.loss(hidden, targets)
    expected = F.cross_entropy(head.logits(hidden).reshape(-1, 100), targets.reshape(-1), reduction="sum")
    torch.testing.assert_close(ours, expected)
    for a, b in zip(
        torch.autograd.grad(3 * ours, [hidden, head.weight, head.bias]),
        torch.autograd.grad(3 * expected, [hidden, head.weight, head.bias]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_large_logits_neither_overflow_nor_vanish() -> None:
    head = Softmax(1, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [0.0], [-1.0]]))
    nats = head.loss(torch.full((1, 1, 1), 1000.0), torch.tensor([[2]]))
    assert nats.item() == pytest.approx(2000.0)
