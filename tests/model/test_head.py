"""The fused loss, whole and in chunks, against cross-entropy and against numerical gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.model import precision
from pipeline.model.head import Softmax
from pipeline.model.head.cross_entropy import LinearCrossEntropy
from pipeline.model.precision import autocast


def random_head(hidden_size: int, vocab_size: int) -> Softmax:
    torch.manual_seed(0)
    head = Softmax(hidden_size, vocab_size)
    torch.nn.init.normal_(head.weight)
    torch.nn.init.normal_(head.bias)
    return head


class LargestTensor(TorchDispatchMode):
    """Records the largest number of elements of any operation's result."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.size = max(self.size, result.numel())
        return result


def test_gradients_against_finite_differences() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(50, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(9, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(9, (50,))
    targets[::7] = -100
    assert torch.autograd.gradcheck(lambda *x: LinearCrossEntropy.apply(*x, targets), (hidden, weight, bias))


def test_chunks_give_the_gradients_of_the_whole() -> None:
    head = random_head(4, 9).double()
    hidden = torch.randn(50, 1, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(9, (50, 1))
    targets[::7] = -100
    inputs = [hidden, head.weight, head.bias]
    whole = torch.autograd.grad(head.loss(hidden, targets) / 50, inputs)
    chunks = torch.autograd.grad(head.loss(hidden, targets, most_logits=8 * 9) / 50, inputs)
    for a, b in zip(chunks, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("most_logits", [None, 700, 1])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_equals_cross_entropy_of_the_logits(device: str, most_logits: int | None) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    head = random_head(8, 100).to(device)
    hidden = torch.randn(5, 9, 8, device=device, requires_grad=True)
    targets = torch.randint(100, (5, 9), device=device)
    targets[2, 3] = -100
    ours = head.loss(hidden, targets, most_logits=most_logits)
    with torch.no_grad():
        without_gradient = head.loss(hidden, targets, most_logits=most_logits)
    expected = F.cross_entropy(head.logits(hidden).reshape(-1, 100), targets.reshape(-1), reduction="sum")
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(without_gradient, expected)
    for a, b in zip(
        torch.autograd.grad(3 * ours, [hidden, head.weight, head.bias]),
        torch.autograd.grad(3 * expected, [hidden, head.weight, head.bias]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("most_logits", [None, 700, 1])
def test_nats_of_each_token(most_logits: int | None) -> None:
    head = random_head(8, 100)
    hidden = torch.randn(5, 9, 8, requires_grad=True)
    targets = torch.randint(100, (5, 9))
    targets[2, 3] = targets[4, 8] = -100
    nats = head.token_nats(hidden, targets, most_logits=most_logits)
    chosen = head.logits(hidden).log_softmax(2).gather(2, targets.clamp(min=0).unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(nats, -chosen.detach().masked_fill(targets < 0, 0))
    assert not nats.requires_grad


def test_large_logits_neither_overflow_nor_vanish() -> None:
    head = Softmax(1, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [0.0], [-1.0]]))
    nats = head.loss(torch.full((1, 1, 1), 1000.0), torch.tensor([[2]]))
    assert nats.item() == pytest.approx(2000.0)


@pytest.mark.parametrize("needs_gradient", [True, False])
def test_chunks_keep_the_logits_small(needs_gradient: bool) -> None:
    head = random_head(4, 1000)
    hidden = torch.randn(20, 5, 4, requires_grad=True)
    targets = torch.randint(1000, (20, 5))
    with LargestTensor() as largest, torch.set_grad_enabled(needs_gradient):
        nats = head.loss(hidden, targets, most_logits=7000)
        if needs_gradient:
            nats.backward()
    assert 4000 <= largest.size <= 7000  # all logits at once would be 100,000


def test_a_loss_in_chunks_can_be_differentiated_only_once() -> None:
    head = random_head(4, 10)
    nats = head.loss(torch.randn(3, 2, 4), torch.randint(10, (3, 2)), most_logits=20)
    nats.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        nats.backward()


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_a_cpu_without_bf16_products_multiplies_in_float32(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16_products", lambda: False)
    head = random_head(8, 100)
    hidden, targets = torch.randn(5, 9, 8), torch.randint(100, (5, 9))
    expected = head.loss(hidden, targets), head.logits(hidden)
    with autocast(name, torch.device("cpu")):
        found = head.loss(hidden, targets), head.logits(hidden)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
