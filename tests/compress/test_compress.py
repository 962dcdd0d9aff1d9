"""Files that run without torch, folders that load again, and one table of all forms of a model."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import compress, evaluate, export
from jobs.shared.cli import run_job
from pipeline import launch
from pipeline.compress.onnx_model import OnnxModel
from pipeline.compress.variants import pruned
from pipeline.config import Config, ModelConfig
from pipeline.data.tokenizer import load_tokenizer
from pipeline.model.language_model import LanguageModel
from pipeline.training import checkpoint


def test_a_pruned_model_has_its_share_of_zeros() -> None:
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(hidden_size=16), 30)
    result = pruned(model, 0.4, "matrix")
    for before, after in zip(model.parameters(), result.parameters(), strict=True):
        zeros = int((after == 0).sum())
        assert zeros == round(0.4 * after.numel()) if after.dim() > 1 else torch.equal(before, after)


@pytest.mark.parametrize(
    "changes",
    [
        {"data.layout": "documents", "tokenizer.eos": "document"},
        {"train.reset_state": "document"},
        {"train.reset_state": "windows", "train.reset_every_windows": 2},
    ],
)
def test_every_form_is_scored_as_by_jobs_evaluate(
    make_config: Callable[..., Config], capsys: pytest.CaptureFixture[str], changes: dict[str, object]
) -> None:
    config = make_config({"train.max_steps": 60, "corpus.document": "line", "train.bptt": 70, **changes})
    launch.train(config, launch.in_process)
    directory = str(config.run.directory)
    run_job(evaluate.main, ["--run", directory, "--streams", "1", "--json"])
    expected = json.loads(capsys.readouterr().out.splitlines()[-1])["perplexity"]
    run_job(compress.main, ["--run", directory, "--tokens", "5", "--prune", "--json"])
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])["variants"]}
    assert rows["float32"]["perplexity"] == pytest.approx(expected, rel=1e-5)
    assert rows["onnx-float32"]["perplexity"] == pytest.approx(expected, rel=1e-5)


def test_the_command_writes_every_form_and_one_table(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config({"train.max_steps": 40, "model.tie_weights": True})
    trained = launch.train(config, launch.in_process)
    output = tmp_path / "small"
    arguments = ["--run", str(config.run.directory), "--output", str(output), "--tokens", "5", "--json"]
    with pytest.raises(SystemExit):
        run_job(compress.main, [*arguments, "--prune", "1.0"])
    assert "--prune: 1.0 is not in [0, 1)" in capsys.readouterr().err
    assert not output.exists()
    with pytest.raises(SystemExit):
        run_job(compress.main, ["--run", str(tmp_path / "nothing")])
    assert "no checkpoint there" in capsys.readouterr().err
    (tmp_path / "file").touch()
    for place, reason in (
        (f"{tmp_path}/file", "it is a file, not a directory"),
        (f"{tmp_path}/file/below", "Not a directory"),
    ):
        with pytest.raises(SystemExit) as left:
            run_job(compress.main, [*arguments, "--output", place])
        assert left.value.code == 2
        assert capsys.readouterr().err == f"error: --output: cannot write to {place}: {reason}\n"
    run_job(compress.main, [*arguments, "--prune", "0", "0.5"])
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])["variants"]}
    assert list(rows) == ["float32", "bf16", "onnx-float32", "onnx-int8", "pruned-0", "pruned-0.5"]
    plain = rows["float32"]["perplexity"]
    assert plain == pytest.approx(trained["perplexity"], rel=0.05)  # as it was scored on several streams
    assert rows["onnx-float32"]["perplexity"] == pytest.approx(plain, rel=1e-4)
    assert rows["pruned-0"]["perplexity"] == plain
    assert rows["onnx-int8"]["perplexity"] == pytest.approx(plain, rel=0.02)
    assert rows["bf16"]["perplexity"] == pytest.approx(plain, rel=0.01)
    assert json.loads((output / "table.json").read_text()) == list(rows.values())
    again = checkpoint.load_model(output / "float32")
    weights = checkpoint.load_model(trained["checkpoint"]).model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.model.state_dict().items())
    cards = {name: (output / name / "README.md").read_text() for name in ("float32", "bf16", "pruned-0.5")}
    assert all("parameters" in card for card in cards.values())
    # what the checkpoint reached says nothing of other weights
    assert [name for name, card in cards.items() if "Validation perplexity" in card] == ["float32", "bf16"]
    assert again.manifest["perplexity"] == trained["perplexity"]
    assert "perplexity" not in checkpoint.load_model(output / "pruned-0.5").manifest
    for weights in ("float32", "int8"):
        check_exported_folder(output / f"onnx-{weights}", weights)


def test_a_model_in_float64_is_exported_as_it_is(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config({"train.max_steps": 2, "train.precision": "float64"})
    launch.train(config, launch.in_process)
    directory = str(config.run.directory)
    export.main(["--run", directory, "--to", str(tmp_path / "torch"), "--format", "torch"])
    weights, found = (checkpoint.load_model(path).model.state_dict() for path in (directory, tmp_path / "torch"))
    assert {tensor.dtype for tensor in found.values()} == {torch.float64}
    assert all(torch.equal(weights[name], tensor) for name, tensor in found.items())


def check_exported_folder(folder: Path, weights: str) -> None:
    """Check that the program in its README writes the same as ``OnnxModel``, without torch and without this project."""
    readme = (folder / "README.md").read_text()
    write, decode = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert f"- Weights: {weights}" in readme
    assert write in Path("docs/using.md").read_text()
    program = f"{write}import sys\nassert not {{'torch', 'pipeline'}} & set(sys.modules)\n{decode}"
    program += "from pipeline.compress.onnx_model import OnnxModel\nOnnxModel('.')([[0]])\n"
    program += "assert 'torch' not in sys.modules\n"
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert not ran.stderr
    exported, random = OnnxModel(folder), np.random.default_rng(1)
    assert exported.facts["weights"] == weights
    assert float(exported.facts["perplexity"]) > 1
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    written = [int(exported.facts["start"])]
    assert written == tokenizer.start_ids.tolist()
    for _ in range(50):
        logits = exported([[written[-1]]])[0, 0].astype(np.float64)
        weight = np.exp(logits - logits.max())
        written.append(int(random.choice(len(weight), p=weight / weight.sum())))
    assert ran.stdout == f"{written[1:]}\n{tokenizer.decode(written[1:])}\n"
