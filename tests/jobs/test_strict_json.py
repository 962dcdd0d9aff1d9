"""Whatever a job finds, it writes JSON for programs that every parser accepts: no NaN, no Infinity."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import compress, context, evaluate, generate, gradients, units
from jobs.shared.cli import run_job
from pipeline import launch
from pipeline.config import Config
from pipeline.generate import save_rows
from pipeline.strict_json import finite, to_json

NUMBERS = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | NUMBERS,
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts) | st.tuples(parts, parts),
    max_leaves=12,
)


def strict(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON: {text}")

    return json.loads(text, parse_constant=refuse)


def numbers_in(value: Any) -> list[float]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [value] if isinstance(value, float) else [number for part in parts for number in numbers_in(part)]


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_numbers_that_json_cannot_hold_become_null_and_all_else_stays(value: Any) -> None:
    found = strict(to_json(value))
    assert found == json.loads(json.dumps(finite(value)))
    assert numbers_in(found) == [number for number in numbers_in(value) if math.isfinite(number)]


def test_the_json_line_and_rows_of_texts_are_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = {"a": [math.nan, {"b": (math.inf, 1.5)}], "c": -math.inf}
    save_rows(str(tmp_path / "rows.jsonl"), [result])
    run_job(lambda argv: result, ["--json"])
    for text in ((tmp_path / "rows.jsonl").read_text(), capsys.readouterr().out):
        assert strict(text) == {"a": [None, {"b": [None, 1.5]}], "c": None}


def test_figures_that_overflow_are_null_in_every_job(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"model.num_layers": 1, "train.bptt": 30, "corpus.valid_fraction": 0.02}
    config = make_config({"train.max_steps": 2, "model.init_range": 5e3, **sizes})
    directory = str(config.run.directory)
    assert launch.train(config, launch.in_process)["perplexity"] == math.inf
    for line in (Path(directory) / "metrics.jsonl").read_text().splitlines():
        strict(line)
    (tmp_path / "pairs.jsonl").write_text('{"good": "the cat sat", "bad": "the cat cat"}\n')

    def result_of(job: Any, *argv: str) -> Any:
        run_job(job.main, ["--run", directory, *argv, "--json"])
        return strict(capsys.readouterr().out.splitlines()[-1])

    found = result_of(evaluate, "--exact", "--breakdown", "--compare", directory)
    assert found["perplexity"] is found["relative_difference"] is found["by_position"][0]["perplexity"] is None
    assert found["nats_per_token"] > 700
    assert result_of(evaluate, "--cache", "--dynamic", "sgd")["plain_perplexity"] is None
    result_of(evaluate, "--pairs", str(tmp_path / "pairs.jsonl"))
    result_of(evaluate, "--surprisal", str(tmp_path / "rows.parquet"))
    result_of(evaluate, "--bleu", "3")
    result_of(generate, "--beams", "2", "--tokens", "5", "--output", str(tmp_path / "texts.jsonl"))
    strict((tmp_path / "texts.jsonl").read_text())
    result_of(gradients, "--length", "9")
    result_of(context, "--longest", "9")
    result_of(units, "--tokens", "300")
    output = tmp_path / "small"
    rows = result_of(compress, "--prune", "0.5", "--tokens", "2", "--output", str(output))["variants"]
    assert strict((output / "table.json").read_text()) == rows
    assert rows[0]["perplexity"] is None
