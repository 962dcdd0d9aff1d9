"""What jobs.train prints at the end of a run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.train import print_result
from pipeline.config import Config


def test_the_text_that_is_shown_is_of_the_checkpoint_whose_figures_are(
    make_config: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    directory = Path(str(config.run.directory))
    directory.mkdir()
    records = [{"kind": "sample", "step": step, "time": 1.0, "text": f"text of {step}"} for step in (100, 200, 300)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    figures = {"perplexity": 2.0, "bits_per_byte": None, "tokens": 9, "steps": 300, "seconds": 1.0}
    print_result(config, {**figures, "checkpoint": str(directory / "checkpoints" / "step-00000200")})
    shown = capsys.readouterr().out
    assert "the model writes:\ntext of 200\n" in shown
    assert "text of 300" not in shown
    print_result(config, {**figures, "checkpoint": str(directory / "checkpoints" / "step-00000250")})
    assert "the model writes" not in capsys.readouterr().out  # it was not validated
