"""``jobs.context`` on runs: what it prints, writes and refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.context import gradient_flow, main
from pipeline import launch
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process


def test_the_job_compares_runs(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directories = [str(tmp_path / name) for name in ("other", "lstm")]
    config = make_config({"run.directory": directories[1], "train.max_steps": 3, "corpus.valid_fraction": 0.02})
    prepare_in_process(config)
    launch.train(config, launch.in_process)
    shutil.copytree(directories[1], directories[0])
    capsys.readouterr()

    figure = tmp_path / "context.png"
    options = ["--longest", "24", "--targets", "60", "--change", "replaced", "dropped", "--figure", str(figure)]
    result = main(["--run", *directories, *options, "--json"])
    assert result is not None
    assert json.loads(json.dumps(result)) == result
    lstm = result["runs"]["lstm"]
    assert lstm["targets"] == 60
    assert set(lstm["curves"]) == {"dropped", "replaced"}
    assert [p["context"] for p in lstm["curves"]["dropped"]][-1] == 24
    assert sum(each["targets"] for each in lstm["classes"]) <= 60
    assert len(lstm["gradient"]["shares"]) == 24
    out = capsys.readouterr().out
    assert "lstm (lstm, trained with train.bptt=10): perplexity " in out
    assert " with the whole context, for 60 tokens of the valid split" in out
    assert f"recommended for such a model: train.bptt={lstm['recommended_bptt']}" in out
    assert figure.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    alone = main(["--run", directories[1], "--contexts", "2", "9", "--no-gradients", "--all"])
    assert alone is not None
    every = alone["runs"]["lstm"]
    assert [p["context"] for p in every["curves"]["dropped"]] == [2, 9]
    assert every["gradient"] is None
    assert every["targets"] > 300
    capsys.readouterr()
    longest = every["targets"] // 2 + 10  # the text has ten tokens more than these targets
    short = main(["--run", directories[1], "--contexts", str(longest), "--targets", "5"])
    assert short is not None
    assert short["runs"]["lstm"]["gradient"] is None
    told = f"gradient: left out, as the text has fewer than {2 * longest + 1:,} tokens, two windows of the longest"
    assert told in capsys.readouterr().out
    for options, sentence in (
        (["--longest", "50000"], r"^longest: 50,000 tokens before a target need a longer text than the "),
        (["--contexts", "50000"], r"^contexts: 50,000 tokens before a target need a longer text than the "),
        (
            ["--longest", "9", "--change", "shuffled", "--changed-tokens", "50000"],
            r"^changed_tokens: 50,000 changed tokens before contexts of 9 need a longer text than the ",
        ),
        (["--all", "--targets", "5"], r"^--targets: not allowed with argument --all"),
        (["--all", "--within", "0.2"], r"^--within: 0\.2, but --all measures every k exactly"),
        (["--longest", "0"], r"^longest: 0 is below 1"),
        (["--contexts", "3", "0"], r"^--contexts: 0 is below 1"),
        (["--targets", "-1"], r"^targets: -1 is below 1"),
        (["--share", "2"], r"^--share: must be between 0 and 1, not 2\.0"),
        (["--changed-tokens", "5"], r"^--changed-tokens: nothing is changed without --change shuffled or replaced"),
        (["--figure", str(tmp_path / "flow.xyz")], r"^figure: .*flow\.xyz must end with \.avif, "),
        (["--split", "test"], r"^split: the prepared corpus has no test split"),
    ):
        with pytest.raises(ValueError, match=sentence):
            main(["--run", *directories, *options])


def test_gradients_of_a_model_that_attends_are_left_out_and_said_to_be() -> None:
    attending = SimpleNamespace(model=SimpleNamespace(attends="model.attention"))
    flow, why = gradient_flow(attending, [0] * 100, 4)
    assert flow is None
    assert why.startswith("the model attends to the past")


def test_a_run_on_documents_is_refused(run_on_documents: str) -> None:
    with pytest.raises(ValueError, match=r"--run: .* reads data\.layout=documents, but context is followed"):
        main(["--run", run_on_documents])
