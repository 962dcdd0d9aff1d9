"""Gradient norms over time against the equations in float64, a case worked by hand, and the job."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jobs.context import main as context_main
from jobs.gradients import main
from pipeline import launch
from pipeline.config import Config, ModelConfig
from pipeline.data.prepare import prepare_in_process
from pipeline.data.streams import ResetRule
from pipeline.data.windows import ArrayTokens
from pipeline.gradient_flow import GradientFlow, measure
from pipeline.gradient_flow.measure import gradient_squares
from pipeline.model.language_model import LanguageModel
from tests.model.reference import cell_step

VOCAB, TIME, STREAMS, HIDDEN = 11, 6, 3, 5


def make(cell: str, **settings: Any) -> LanguageModel:
    torch.manual_seed(0)
    values = {"hidden_size": HIDDEN, "num_layers": 2, "init_range": 0.8, "dropout": 0.5, **settings}
    return LanguageModel(ModelConfig(cell=cell, **values), VOCAB).double().eval()  # type: ignore[arg-type]


def reference(model: LanguageModel, cell: str, inputs: Tensor, target: Tensor, stream: int) -> list[list[float]]:
    """Squared norms of each part for one stream, k = 1 … T: steps from the equations, one backward pass for each k."""
    rows = []
    for k in range(1, len(inputs) + 1):
        num_parts = 2 if cell == "lstm" else 1
        state = [[torch.zeros(1, HIDDEN, dtype=torch.float64) for _ in range(num_parts)] for _ in range(2)]
        leaves: list[Tensor] = []
        for t in range(-1, len(inputs)):
            if t >= 0:
                x = model.embedding.weight[inputs[t, stream]][None]
                for index, layer in enumerate(model.recurrence.layers):
                    state[index] = cell_step(cell, x, state[index], layer)
                    x = state[index][0]
            if t == len(inputs) - 1 - k:  # cut here: all later steps depend only on these
                state = [[part.detach().requires_grad_() for part in layer] for layer in state]
                leaves = [layer[part] for part in range(num_parts) for layer in state]
        logits: Any = x @ model.head.weight.T + model.head.bias  # type: ignore[operator, union-attr]
        gradients = torch.autograd.grad(-logits.log_softmax(1)[0, target[stream]], leaves)
        squares = [float(gradient.square().sum()) for gradient in gradients]
        rows.append([sum(squares[2 * part : 2 * part + 2]) for part in range(num_parts)])
    return rows


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_norms_equal_the_equations(cell: str) -> None:
    model = make(cell)
    tokens = torch.randint(VOCAB, (TIME + 1, STREAMS), generator=torch.Generator().manual_seed(1))
    squares, end = gradient_squares(model, tokens[:-1], tokens[-1:], model.initial_state(STREAMS))
    for stream in range(STREAMS):
        expected = reference(model, cell, tokens[:-1], tokens[-1], stream)
        torch.testing.assert_close(squares[:, :, stream].tolist(), expected, rtol=1e-9, atol=1e-15)
    _, whole = model(tokens[:-1], model.initial_state(STREAMS))
    for a, b in zip(end, whole, strict=True):
        torch.testing.assert_close(a, b)
        assert not a.requires_grad


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_means_over_streams_and_windows_that_carry_the_state(cell: str) -> None:
    model = make(cell)
    ids = np.random.default_rng(2).integers(VOCAB, size=2 * 3 * TIME + 1)
    flow = measure(model, ArrayTokens(ids), length=TIME, num_streams=2, num_windows=2)
    assert flow.num_samples == 4
    streams = torch.from_numpy(np.stack([ids[:18], ids[18:36]], axis=1))
    targets = torch.from_numpy(np.stack([ids[1:19], ids[19:37]], axis=1))
    norms, state = [], model.initial_state(2)
    for window in range(3):
        rows = slice(window * TIME, (window + 1) * TIME)
        squares, state = gradient_squares(model, streams[rows], targets[rows][-1:], state)
        norms.append(squares.sum(1).sqrt())
    torch.testing.assert_close(flow.norms, torch.cat(norms[1:], dim=1).mean(1).tolist())


@pytest.mark.parametrize("cell", ["rnn", "lstm", "mingru", "slstm"])
def test_states_are_made_zero_where_they_are_in_training(cell: str) -> None:
    """No gradient flows back beyond a reset, and the state before it changes nothing."""
    model = make(cell, **({"hidden_size": 4, "num_heads": 2} if cell == "slstm" else {}))
    ids = np.random.default_rng(2).integers(VOCAB, size=2 * TIME + 1)
    last = 2 * TIME - 4  # the document begins with the third input of the second window
    flow = measure(
        model, ArrayTokens(ids, np.array([0, last])), length=TIME, num_streams=1, reset=ResetRule(at_documents=True)
    )
    document = torch.from_numpy(ids[last : 2 * TIME, None])
    squares, _ = gradient_squares(model, document, torch.tensor([[ids[2 * TIME]]]), model.initial_state(1))
    expected = squares.sum(1).sqrt()[:-1, 0].tolist()  # without the zero state that the document begins with
    assert flow.norms[:3] == pytest.approx(expected)
    assert flow.norms[3:] == [0.0] * 3
    every = measure(model, ArrayTokens(ids), length=TIME, num_streams=1, reset=ResetRule(every_tokens=2))
    assert (np.array(every.norms) > 0).tolist() == [True] + [False] * (TIME - 1)


def test_a_linear_recurrence_by_hand() -> None:
    """If tanh stays at 0, its slope is 1, and a recurrent matrix of ½ halves the gradient at every step."""
    model = make("rnn", num_layers=1)
    with torch.no_grad():
        for parameter in model.recurrence.parameters():
            parameter.zero_()
        model.recurrence.layers[0].weight_hh_l0.copy_(0.5 * torch.eye(HIDDEN))  # type: ignore[operator, union-attr]
    flow = measure(model, ArrayTokens(np.arange(60) % VOCAB), length=9, num_streams=2)
    assert flow.shares == pytest.approx([0.5**k for k in range(9)])
    assert flow.horizon(0.1) == 5  # ½⁴ = 0.0625 at k = 5
    assert flow.horizon(0.003) is None
    assert flow.parts[0] == pytest.approx(flow.norms)


def test_the_horizon_is_the_first_step_from_which_norms_stay_below_the_share() -> None:
    flow = GradientFlow(norms=[2.0, 0.1, 1.0, 0.1, 0.04], parts=[], num_samples=1)
    assert flow.horizon(0.1) == 4
    assert flow.horizon(0.03) == 5
    assert flow.horizon(0.01) is None
    assert GradientFlow(norms=[0.0, 0.0], parts=[], num_samples=1).shares == [0.0, 0.0]


def test_the_job_compares_runs(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directories = []
    for cell in ("rnn", "lstm"):
        directories.append(str(tmp_path / cell))
        config = make_config({"model.cell": cell, "run.directory": directories[-1], "train.max_steps": 8})
        prepare_in_process(config)
        launch.train(config, launch.in_process)

    figure = tmp_path / "flow.png"
    result = main(
        ["--run", *directories, "--windows", "2", "--share", "0.9", "--figure", str(figure), "--tensorboard", "--json"]
    )
    assert result is not None
    assert json.loads(json.dumps(result)) == result
    assert set(result["runs"]) == {"rnn", "lstm"}
    lstm = result["runs"]["lstm"]
    assert (len(lstm["shares"]), len(lstm["parts"]), lstm["samples"]) == (10, 2, 12)
    assert lstm["shares"][0] == 1.0
    told = "lstm (lstm, trained with train.bptt=10): less than 0.9 flows from k = "
    assert told + str(lstm["horizon"]) in capsys.readouterr().out
    assert figure.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert all(list((tmp_path / cell / "gradient_flow").glob("events*")) for cell in ("rnn", "lstm"))
    for options, sentence in (
        (["--length", "5000"], r"^length: two windows of 5000 steps on 1 streams need more text"),
        (["--share", "2"], r"--share: must be between 0 and 1, not 2\.0"),
        (["--figure", str(tmp_path / "flow.xyz")], r"^figure: .*flow\.xyz must end with \.avif, "),
    ):
        with pytest.raises(ValueError, match=sentence):
            main(["--run", *directories, *options])


@pytest.mark.parametrize("reset_state", ["document", "windows"])
def test_jobs_make_states_zero_at_documents_as_training_does(
    make_config: Callable[..., Config], tmp_path: Path, reset_state: str
) -> None:
    """Nothing flows beyond a document of five tokens. Resets by windows do not count: they go with train.bptt."""
    (tmp_path / "lines.txt").write_text("abcd\n" * 400)
    text = {"corpus.train": [str(tmp_path / "lines.txt")], "corpus.document": "line", "tokenizer.eos": "document"}
    config = make_config({**text, "train.reset_state": reset_state, "train.bptt": 5, "train.max_steps": 3})
    launch.train(config, launch.in_process)
    run = ["--run", str(config.run.directory)]
    flow, context = main([*run, "--length", "12"]), context_main([*run, "--longest", "12", "--targets", "30"])
    assert flow is not None
    assert context is not None
    for shares in (flow["runs"]["run"]["shares"], context["runs"]["run"]["gradient"]["shares"]):
        assert shares[0] > 0
        assert [share > 0 for share in shares[4:]] == [reset_state == "windows"] * 8


def test_a_run_on_documents_is_refused(run_on_documents: str) -> None:
    with pytest.raises(ValueError, match=r"--run: .* reads data\.layout=documents, but gradients are followed"):
        main(["--run", run_on_documents])
