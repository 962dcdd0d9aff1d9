"""States read token by token, features by hand, and planted counters that are found."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.config import ModelConfig
from pipeline.data.streams import ResetRule
from pipeline.data.tokenizer import CharTokenizer
from pipeline.data.windows import ArrayTokens
from pipeline.errors import UserError
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.units import States, Unit, rank_units, read_states
from pipeline.units.features import features_of
from pipeline.units.states import pieces_of, sizes_of, unit_named

CELLS = ["rnn", "lstm", "gru", "gru_reset_before", "mingru", "minlstm", "qrnn"]
TYPES = ["<unk>", "\n", " ", "(", ")", "a", "b", "c", "A"]
SIZE = 12


def tokenizer_of(types: list[str]) -> CharTokenizer:
    return CharTokenizer("none", types)


def make(cell: str, seed: int = 0, **settings: Any) -> LanguageModel:
    torch.manual_seed(seed)
    config = ModelConfig(cell=cell, hidden_size=SIZE, num_layers=2, init_range=0.5, **settings)  # type: ignore[arg-type]
    return LanguageModel(config, len(TYPES))


def text_with(seed: int, number: int) -> str:
    """Lines of words, with brackets that do not always close in their line."""
    source = random.Random(seed)
    characters: list[str] = []
    depth = 0
    while len(characters) < number:
        drawn = source.random()
        if drawn < 0.08 and depth < 4:
            depth += 1
            characters.append("(")
        elif drawn < 0.16 and depth:
            depth -= 1
            characters.append(")")
        else:
            is_end = drawn > 0.97 and characters[-1:] and characters[-1] in "abcA"  # so that no line is empty
            characters.append("\n" if is_end else source.choice("abcA "))
    return "".join(characters[:number])


def read(model: LanguageModel, cell: str, text: str, **options: Any) -> States:
    tokenizer = tokenizer_of(TYPES)
    tokens = ArrayTokens(tokenizer.encode(text), options.pop("documents", None))
    return read_states(model, tokenizer, tokens, cell=cell, number=len(text), **options)


@pytest.mark.parametrize("cell", CELLS)
def test_states_in_parquet_are_those_of_single_steps(cell: str, tmp_path: Path) -> None:
    model, text = make(cell), text_with(1, 40)
    states = read(model, cell, text)
    states.write(str(tmp_path / "states.parquet"))
    table = pq.read_table(tmp_path / "states.parquet")
    ids = tokenizer_of(TYPES).encode(text).astype(np.int64)
    assert "".join(table["text"].to_pylist()) == text
    assert table["token"].to_pylist() == ids.tolist()
    assert table["nats"].to_pylist()[0] is None
    parts = {"lstm": "hc", "qrnn": "cx"}.get(cell, "h")
    state = model.initial_state(1)
    with evaluating(model):
        whole, _ = model(torch.from_numpy(ids)[:, None], state)
        nats = model.head.token_nats(whole[:-1], torch.from_numpy(ids)[1:, None])[:, 0]
        for place, token in enumerate(ids.tolist()):
            _, state = model(torch.tensor([[token]]), state)
            for layer in range(2):
                for number, part in enumerate(parts):
                    size = model.recurrence.state_sizes[layer][number]
                    if size:
                        found = table[f"layer{layer}_{part}"][place].as_py()
                        assert found == state[number][layer, 0, :size].tolist()
    np.testing.assert_allclose(table["nats"].to_numpy()[1:], nats.numpy(), rtol=1e-4, atol=1e-5)


def test_documents_begin_from_a_zero_state() -> None:
    model, text = make("lstm"), text_with(2, 30)
    documents = np.array([0, 12])
    parted = read(model, "lstm", text, documents=documents, reset=ResetRule(at_documents=True))
    second = read(model, "lstm", text[12:])
    assert (parted.values[1, "c"][12:] == second.values[1, "c"]).all()
    first = read(model, "lstm", text[:13])
    assert np.isnan(parted.nats[0])
    np.testing.assert_array_equal(parted.nats[1:], [*first.nats[1:], *second.nats[1:]])  # the token at 12 follows one
    after = read(model, "lstm", text, documents=documents, begin_id=1)
    longer = read(model, "lstm", "\n" + text[12:])
    assert (after.values[1, "c"][12:] == longer.values[1, "c"][1:]).all()
    assert after.nats[12] == longer.nats[1]
    assert after.nats[0] == read(model, "lstm", "\n" + text).nats[1]  # documents have nats from their first token on


def test_states_are_zero_every_few_tokens_if_training_reset_them_so() -> None:
    model, text = make("lstm"), text_with(2, 30)
    parted = read(model, "lstm", text, reset=ResetRule(every_tokens=12))
    for begin in (0, 12, 24):
        part = read(model, "lstm", text[begin : begin + 13])
        assert (parted.values[1, "c"][begin : begin + 12] == part.values[1, "c"][:12]).all()
        np.testing.assert_array_equal(parted.nats[begin + 1 : begin + 13], part.nats[1:])


def test_pieces_of_text() -> None:
    from pipeline.data.tokenizer import ByteTokenizer

    tokenizer = ByteTokenizer("none")
    assert list(pieces_of(tokenizer, tokenizer.encode("aé\n"))) == ["a", "", "é", "\n"]
    first, second = "é".encode()  # half a character, then the end of the document
    assert list(pieces_of(ByteTokenizer("document"), np.array([first, 256, second, 97]))) == [
        "", "\ufffd\n\n", "\ufffd", "a",
    ]  # fmt: skip


def labels(text: str, name: str, documents: tuple[int, ...] = ()) -> list[float]:
    return next(f for f in features_of(list(text), documents) if f.name == name).values.tolist()


def test_features_by_hand() -> None:
    assert labels('a "b" c', "inside quotes") == [0, 0, 1, 1, 0, 0, 0]
    assert labels("“a” b", "inside quotes") == [1, 1, 0, 0, 0]
    assert labels('"a\n\nb"', "inside quotes") == [1, 1, 1, 0, 0, 1]  # a paragraph's end closes an open quote
    assert labels("(a[b)c)]d", "depth of brackets") == [1, 1, 2, 2, 1, 1, 0, 0, 0]
    assert labels("ab\n cd", "position in line") == [1, 2, 0, 1, 2, 3]
    assert labels("  a b\n\tc", "indentation") == [1, 2, 2, 2, 2, 0, 1, 1]
    assert labels("aB 1", "capital letter") == [0, 1, 0, 0]
    assert labels("aB 1", "digit") == [0, 0, 0, 1]
    assert labels("it's a", "position in word") == [1, 2, 3, 4, 0, 1]
    assert labels("Hi. Yo", "position in sentence") == [1, 2, 3, 4, 1, 2]
    assert labels("Hi. Yo", "end of sentence") == [0, 0, 1, 1, 0, 0]
    assert labels("(a(b", "depth of brackets", (0, 2)) == [1, 1, 1, 1]
    word = features_of(["The ", "(cat "])
    assert {f.name: f.values.tolist() for f in word}["position in line"] == [4, 9]


def plant(model: LanguageModel, kind: str, unit: int) -> None:
    """Make c of ``unit`` in the first layer count open brackets, or characters since the beginning of the line."""
    layer: Any = model.recurrence.layers[0]
    rows = [gate * SIZE + unit for gate in range(4)]  # input, forget, cell and output gates
    enter, forget, cell, _ = rows
    with torch.no_grad():
        layer.weight_hh_l0[rows] = 0
        layer.weight_ih_l0[rows] = 0
        layer.bias_hh_l0[rows] = 0
        layer.bias_ih_l0[rows] = torch.tensor([30.0, 30.0, 0.0, 30.0])
        model.embedding.weight[:, -1] = 0
        if kind == "depth of brackets":
            model.embedding.weight[TYPES.index("("), -1] = 1
            model.embedding.weight[TYPES.index(")"), -1] = -1
            layer.weight_ih_l0[cell, -1] = 0.1
        else:
            model.embedding.weight[TYPES.index("\n"), -1] = 1
            layer.weight_ih_l0[enter, -1] = layer.weight_ih_l0[forget, -1] = -60
            layer.bias_ih_l0[cell] = 0.02


@pytest.mark.parametrize("kind", ["depth of brackets", "position in line"])
def test_a_planted_counter_ranks_first_in_ten_of_ten_models(kind: str) -> None:
    for seed in range(10):
        model = make("lstm", seed)
        unit = Unit(0, "c", seed)
        plant(model, kind, unit.index)
        states = read(model, "lstm", text_with(seed, 750))
        (finding,) = rank_units(states, [f for f in features_of(states.pieces) if f.name == kind], seed=seed)
        assert finding.units[0].unit == unit
        assert finding.units[0].score > 0.999
        assert finding.probe[0][0].index == unit.index
        assert finding.score > 0.95


def test_a_feature_that_the_token_itself_decides_is_not_selective() -> None:
    states = read(make("lstm"), "lstm", text_with(3, 750))
    found = {f.feature.name: f for f in rank_units(states, features_of(states.pieces))}
    capital = found["capital letter"]
    assert capital.score > 0.95
    assert abs(capital.selectivity) < 0.15
    assert "digit" not in found  # the text has no digit


def test_units_by_name() -> None:
    sizes = sizes_of(make("lstm"), "lstm")
    assert sizes == {(0, "h"): 12, (0, "c"): 12, (1, "h"): 12, (1, "c"): 12}
    assert unit_named("1.c.11", sizes) == Unit(1, "c", 11)
    for name in ("1.c.12", "2.h.0", "0.x.0", "c.0", "", "0.c.-1", "0.c.1.2", "²", "0.c." + "9" * 50):
        with pytest.raises(UserError, match=r"^unit: .*: no such unit; there are 0\.h\.0 to 0\.h\.11, 0\.c\.0 to"):
            unit_named(name, sizes)
    assert sizes_of(make("qrnn"), "qrnn") == {(0, "c"): 12, (0, "x"): 12, (1, "c"): 12}
    torch.manual_seed(0)
    wide = LanguageModel(ModelConfig(cell="lstm", hidden_size=[4, 6], num_layers=2), len(TYPES))
    assert sizes_of(wide, "lstm") == {(0, "h"): 4, (0, "c"): 4, (1, "h"): 6, (1, "c"): 6}
