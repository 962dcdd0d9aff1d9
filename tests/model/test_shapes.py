"""A model without weights has the shapes of one with weights."""

import pytest
import torch

from pipeline.config import ModelConfig
from pipeline.errors import UserError
from pipeline.model.language_model import LanguageModel
from pipeline.model.shapes import shapes_of
from tests.model.reference import SETTINGS


@pytest.mark.parametrize(
    "settings",
    [
        *SETTINGS.values(),
        {"cell": "transformer", "num_heads": 2, "positions": "learned", "context": 0, "block_size": 6},
        {"tie_weights": True, "embedding_size": 5, "hidden_size": 7},
        {"init_range": 0.1, "head": "adaptive", "adaptive_cutoffs": [4, 9]},
        {"head": "mixture", "num_experts": 2},
    ],
)
def test_shapes_are_those_of_the_model(settings: dict[str, object]) -> None:
    config = ModelConfig(**{"hidden_size": 8, "num_layers": 2, **settings})  # type: ignore[arg-type]
    shapes = shapes_of(config, 13)
    expected = LanguageModel(config, 13)
    assert shapes.num_parameters == expected.num_parameters
    assert all(parameter.device.type == "meta" for parameter in shapes.parameters())
    assert {name: tensor.shape for name, tensor in shapes.state_dict().items()} == {
        name: tensor.shape for name, tensor in expected.state_dict().items()
    }


def test_shapes_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    shapes_of(ModelConfig(hidden_size=8), 13)
    assert torch.equal(before, torch.get_rng_state())


def test_an_impossible_model_has_no_shapes() -> None:
    with pytest.raises(UserError, match="cutoffs"):
        shapes_of(ModelConfig(hidden_size=8, head="adaptive", adaptive_cutoffs=[20]), 13)
