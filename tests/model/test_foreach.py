"""Operations on lists of tensors equal those on each tensor, with and without torch's functions for lists."""

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from pipeline.model import foreach

NAMES = ["addcmul_", "clamp_max_", "clamp_min_", "div_", "lerp_", "mul_"]


@pytest.fixture(params=["lists", "one by one"])
def module(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "one by one":
            for name in NAMES:
                patch.delattr(torch, f"_foreach_{name}")
        yield importlib.reload(foreach)
    importlib.reload(foreach)


def test_known_answers(module: ModuleType) -> None:
    def lists() -> list[torch.Tensor]:
        return [torch.tensor([1.0, -2.0]), torch.tensor([[4.0]])]

    def done(name: str, *others: object) -> list[object]:
        tensors = lists()
        getattr(module, name)(tensors, *others)
        return [tensor.tolist() for tensor in tensors]

    assert done("div_", torch.tensor(2.0)) == [[0.5, -1.0], [[2.0]]]
    assert done("clamp_min_", -1.0) == [[1.0, -1.0], [[4.0]]]
    assert done("clamp_max_", 0.5) == [[0.5, -2.0], [[0.5]]]
    assert done("lerp_", [torch.tensor([3.0, 2.0]), torch.tensor([[8.0]])], 0.5) == [[2.0, 0.0], [[6.0]]]
    assert done("mul_", [torch.tensor([True, False]), torch.tensor([[True]])]) == [[1.0, -0.0], [[4.0]]]
    assert done("addcmul_", lists(), lists()) == [[2.0, 2.0], [[20.0]]]
