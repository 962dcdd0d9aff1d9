"""Every recipe in configs/ loads, names its paper or purpose, and has its known number of parameters."""

from pathlib import Path

import pytest
import torch

from pipeline import config as configuration
from pipeline.config.unused import unused
from pipeline.model.language_model import LanguageModel

CONFIGS = Path(__file__).parents[1] / "configs"

# vocabulary and parameters, worked from the sizes in the papers; 24,221,600 is the authors' own count
KNOWN = {
    # V·H (embedding) + V·H + V (head) + 2 layers of 4H·(2H + 2)
    "ptb-small": (10_000, 2 * 2_000_000 + 10_000 + 2 * 800 * 402),
    # tied
    "ptb-small-muon": (10_000, 2_000_000 + 10_000 + 2 * 800 * 402),
    "ptb-medium": (10_000, 2 * 6_500_000 + 10_000 + 2 * 2_600 * 1_302),
    "ptb-large": (10_000, 2 * 15_000_000 + 10_000 + 2 * 6_000 * 3_002),
    "ptb-awd-lstm": (10_000, 24_221_600),
    "ptb-awd-lstm-1cycle": (10_000, 24_221_600),
    # 23,278 more types than Penn Treebank, each with 400 + 1
    "wikitext2-awd-lstm": (33_278, 24_221_600 + 23_278 * 401),
    # QRNN layers of 3 gates, the first one over two inputs; V · (E + 1); 3 tails with vector and bias
    "wikitext103-qrnn": (
        267_735,
        3 * 2500 * (2 * 400 + 1) + 2 * 3 * 2500 * 2501 + 3 * 400 * 2501 + 267_735 * 401 + 3 * 401,
    ),
    "enwik8-awd-lstm": (256, 256 * 401 + 4 * 1840 * (400 + 1840 + 2 + 2 * 1840 + 2) + 4 * 400 * (1840 + 400 + 2)),
    "char-war-and-peace": (104, 2 * 104 * 128 + 104 + 2 * 512 * 258),
    "char-war-and-peace-muon": (104, 2 * 104 * 128 + 104 + 2 * 512 * 258),
}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipe_loads_and_has_the_known_parameters(path: Path) -> None:
    config = configuration.load(path)
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert not unused(config, varied=[name for variant in config.compare.variants.values() for name in variant])
    if path.stem in KNOWN:
        vocab_size, expected = KNOWN[path.stem]
        with torch.device("meta"):
            assert LanguageModel(config.model, vocab_size).num_parameters == expected


def test_no_published_recipe_is_missing() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} >= KNOWN.keys()
