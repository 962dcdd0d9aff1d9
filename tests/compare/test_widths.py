"""Every cell is brought to equal parameters, as counted in real models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from pipeline import config as configuration
from pipeline.compare.variants import WIDTH, Variant, check_comparison
from pipeline.compare.widths import TOLERANCE, Widths, size_of, sized
from pipeline.config import Config, ModelConfig
from pipeline.errors import UserError
from pipeline.model.language_model import LanguageModel

CELLS = get_args(ModelConfig.model_fields["cell"].annotation)
CONFIGS = Path(__file__).parents[2] / "configs"
VOCAB = 60


def variants_of(cells: tuple[str, ...], **more: Any) -> list[Variant]:
    return [Variant(cell, {"model.cell": cell, **more}) for cell in cells]


@pytest.mark.parametrize(("target", "vocab_size", "tie_weights"), [(100_000, VOCAB, False), (1_000_000, 2_000, True)])
def test_all_cells_have_equal_parameters(
    make_config: Callable[..., Config], target: int, vocab_size: int, tie_weights: bool
) -> None:
    config = make_config({"compare.parameters": [target], "model.tie_weights": tie_weights})
    found = sized(config, variants_of(CELLS), vocab_size)
    assert [one.name for one in found] == list(CELLS)
    (meeting,) = {one.target for one in found}
    assert abs(meeting - target) <= 0.1 * target
    for one in found:
        model = LanguageModel(one.variant.config(config, one.settings).model, vocab_size)
        counted = sum(parameter.numel() for parameter in {id(p): p for p in model.parameters()}.values())
        assert one.size.parameters == counted
        assert abs(counted - meeting) <= TOLERANCE * meeting
        outside = {id(p) for part in (model.embedding, model.head) for p in part.parameters()}
        assert one.size.recurrence == sum(p.numel() for p in model.parameters() if id(p) not in outside)
        # neither neighbour is nearer
        sizes = Widths(config, one.variant, vocab_size)
        step = sizes.multiple or 1
        assert all(abs(sizes.counted(one.width + side) - meeting) >= abs(counted - meeting) for side in (-step, step))


def test_a_width_by_hand(make_config: Callable[..., Config]) -> None:
    """One layer of tanh RNN, tied: V·h + V + h·(2h + 2) parameters."""
    config = make_config(
        {"model.num_layers": 1, "model.tie_weights": True, "model.cell": "rnn", "compare.parameters": 7_000}
    )
    plain = Variant("plain", {})
    (one,) = sized(config, [plain], VOCAB)
    numbers = {h: VOCAB * h + VOCAB + h * (2 * h + 2) for h in range(1, 100)}
    best = min(numbers, key=lambda h: abs(numbers[h] - 7_000))
    assert (one.width, one.size.parameters, one.size.recurrence) == (best, numbers[best], best * (2 * best + 2))
    assert size_of(plain.config(config, {WIDTH: 3}), VOCAB).recurrence == 3 * 8


def test_only_the_recurrence_can_be_made_equal(make_config: Callable[..., Config]) -> None:
    config = make_config({"compare.parameters": 50_000, "compare.count": "recurrence"})
    for one in sized(config, variants_of(("rnn", "lstm", "gru")), 5_000):
        assert abs(one.target - 50_000) <= 5_000
        assert abs(one.size.recurrence - one.target) <= 0.01 * one.target
        assert one.size.parameters > 500_000


def test_without_a_number_all_variants_are_as_large_as_the_first(make_config: Callable[..., Config]) -> None:
    config = make_config({"model.hidden_size": 96})
    first, second = sized(config, variants_of(("lstm", "gru")), VOCAB)
    assert first.width == 96
    assert first.size.parameters == first.target == second.target
    assert abs(second.size.parameters - first.target) <= 0.01 * first.target


@pytest.mark.parametrize(("name", "vocab_size"), [("characters", 104), ("words", 10_000), ("quickstart", 97)])
def test_the_comparisons_in_configs_have_equal_parameters(name: str, vocab_size: int) -> None:
    config = configuration.load(CONFIGS / f"compare-{name}.yaml", ["corpus.valid_fraction=0.1"])
    variants, _ = check_comparison(config)
    found = sized(config, variants, vocab_size)
    assert len(found) == len(variants) * len(config.compare.parameters or [])
    assert all(abs(one.size.parameters - one.target) <= 0.01 * one.target for one in found)


class Heads(Widths):
    """A made-up variant: 8 heads, and as many parameters as its width squared."""

    def at(self, width: int) -> Any:
        from pipeline.compare.widths import Size

        return Size(width * width, width) if width % 8 == 0 else None


def test_only_multiples_are_tried_where_heads_need_them(make_config: Callable[..., Config]) -> None:
    config = make_config({"compare.count": "all"})
    heads = Heads(config, Variant("heads", {}), VOCAB)
    assert heads.multiple == 8
    assert heads.nearest(40_000).width == 200
    assert heads.nearest(38_000).width == 192
    assert heads.between(38_000, 41_000) == [192**2, 200**2, 208**2]
    sentence = (
        "compare.variants: heads: no width (a multiple of 8) brings it within 1% of 38,000 parameters: 33,856 at "
        "model.hidden_size=184, 36,864 at model.hidden_size=192, 40,000 at model.hidden_size=200"
    )
    assert heads.too_far(38_000) == sentence


def test_a_variant_with_few_widths_moves_the_target_of_all(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.compare import widths

    config = make_config()
    heads, free = (
        Heads(config, Variant("heads", {}), VOCAB),
        Widths(config, Variant("free", {"model.cell": "gru"}), VOCAB),
    )
    target = widths.common_target([heads, free], 38_000)
    # no number that both can meet is nearer to 38,000
    counts = [[64 * k * k for k in range(1, 40)], [free.counted(width) for width in range(1, 120)]]
    meets = [
        number for number in range(34_200, 41_801)
        if all(any(abs(count - number) <= 0.01 * number for count in each) for each in counts)
    ]  # fmt: skip
    nearest = min(meets, key=lambda number: abs(number - 38_000))
    there = [min(each, key=lambda count: abs(count - nearest)) for each in counts]
    assert target == sum(there) // 2
    assert all(abs(count - target) <= 0.01 * target for count in there)
    assert widths.common_target([free], 38_000) == 38_000


def test_sizes_that_cannot_be_made_equal_are_named(make_config: Callable[..., Config]) -> None:
    config = make_config({"compare.parameters": 3_000})
    with pytest.raises(UserError) as refused:
        sized(config, variants_of(("rnn", "lstm")), VOCAB * 10)
    lines = str(refused.value).splitlines()
    assert lines
    assert all("brings it within 1% of 3,000 parameters" in line for line in lines)
    assert lines[-1].startswith("compare.variants: lstm: no width")
    with torch.device("meta"):
        assert LanguageModel(ModelConfig(hidden_size=3, num_layers=2), VOCAB * 10).num_parameters > 3_000
