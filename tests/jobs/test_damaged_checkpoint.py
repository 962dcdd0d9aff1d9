"""A job that uses a model never takes another checkpoint in place of the one asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import compress, context, evaluate, export, generate, gradients, units
from pipeline import launch
from pipeline.config import Config
from tests.jobs.test_cli import refused
from tests.training.test_manifest import of_the_format_before
from tests.training.test_selection import damage, folder

JOBS = {
    "evaluate": (evaluate.main, []),
    "generate": (generate.main, ["--tokens", "5"]),
    "compress": (compress.main, ["--tokens", "5"]),
    "export": (export.main, ["--to", "exported", "--format", "torch"]),
    "gradients": (gradients.main, []),
    "context": (context.main, []),
    "units": (units.main, []),
}


def test_jobs_refuse_a_damaged_best_checkpoint_and_take_one_that_is_named(
    make_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # a learning rate that destroys what was learnt: the first validation stays the best
    changes = {"optimizer.name": "sgd", "optimizer.lr": 500.0, "train.max_steps": 6, "train.evaluate_every_steps": 3}
    config = make_config({**changes, "optimizer.schedule": "constant", "train.clip_norm": 1.0})
    launch.train(config, launch.in_process)
    monkeypatch.chdir(tmp_path)
    run = Path(str(config.run.directory))
    best, last = folder(run, 3), folder(run, 6)
    evaluate.main(["--run", str(run)])
    assert capsys.readouterr().out.startswith("step-00000003 (best) on the valid split: ")
    damage(best / "weights.safetensors")
    for name, (job, options) in JOBS.items():
        sentence = refused(capsys, job, "--run", str(run), *options)
        assert sentence == (
            f"{best}/weights.safetensors: altered since it was written (its checksum differs from the manifest's), "
            f"and this is the best checkpoint; to take another, name it: the folder {last}"
        ), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "run"]
    evaluate.main(["--run", str(run), "--checkpoint", "last"])
    assert capsys.readouterr().out.startswith("step-00000006 (last) on the valid split: ")
    evaluate.main(["--run", str(last), "--compare", str(last)])
    assert capsys.readouterr().out.startswith("step-00000006 on the valid split: ")
    assert "is one checkpoint itself" in refused(
        capsys, generate.main, "--run", str(last), "--checkpoint", "best", "--tokens", "5"
    )
    assert "--output: " in refused(capsys, compress.main, "--run", str(last))
    assert "--tensorboard: " in refused(capsys, gradients.main, "--run", str(last), "--tensorboard")
    damage(best / "manifest.json")
    assert "00000003/manifest.json: altered since it was written (its checksum does not match), so which " in refused(
        capsys, evaluate.main, "--run", str(run)
    )
    of_the_format_before(last)
    generate.main(["--run", str(last), "--tokens", "5"])
    assert capsys.readouterr().err == (
        f"note: {last}/manifest.json was written by an earlier version and has no checksum of its own: "
        "a change to its manifest since would not be noticed\n"
    )
