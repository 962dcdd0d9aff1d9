"""What a finished search leaves for a person: report.md, the pictures, and its pages of TensorBoard."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from pipeline.events import EventFile
from pipeline.search import pictures
from pipeline.search.report import Findings, write_report
from pipeline.search.standing import Standing
from tests.search.findings import BUDGET, findings, records_of

SPACE = {
    "optimizer.lr": {"loguniform": [1e-4, 1e-1]},
    "model.hidden_size": [8, [8, 16]],
    "model.head": ["softmax", "mixture"],
    "model.num_experts": {"randint": [2, 9], "when": {"model.head": "mixture"}},
    "model.layer_norm": [False, True],
}


def settings(lr: float, size: Any, norm: bool, experts: int | None = None) -> dict[str, Any]:
    head = {"model.head": "softmax"} if experts is None else {"model.head": "mixture", "model.num_experts": experts}
    return {"optimizer.lr": lr, "model.hidden_size": size, **head, "model.layer_norm": norm}


TRIALS = [
    (settings(0.01, 8, True), [2.0, 1.5, 1.25]),
    (settings(0.001, 8, False), [2.5]),
    (settings(0.002, [8, 16], True, experts=4), [1.9, 1.6]),
    (settings(0.05, [8, 16], False, experts=2), [2.1]),
    (settings(0.08, 8, False), [3.0]),
]


@pytest.fixture
def ended(tmp_path: Path) -> Findings:
    """A search of five trials, with the event file of each trial's curve, as a trial writes it."""
    found = findings(SPACE, TRIALS, **{"model.num_layers": 2})
    for trial in found.standing.trials.values():
        events = EventFile(tmp_path / "trials" / trial.name / "tensorboard")
        for report in trial.reports:
            events.scalars([("perplexity/valid", report["perplexity"])], step=report["tokens"], when=report["time"])
        events.finish()
    return found


def test_the_report_states_the_findings(ended: Findings, tmp_path: Path) -> None:
    assert write_report(tmp_path, ended) == []
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"python -m jobs.train --config {tmp_path / 'best.yaml'}" in report
    assert f"**Best: perplexity {math.exp(1.25):,.3f}** after 900 tokens: `optimizer.lr=0.01" in report
    assert "1 done, 4 paused. 1,500 tokens in all, 33% of what the same trials would have taken" in report
    assert "| 1 | 3.490 | 0.01 | 8 | softmax |  | True | 900 | done |" in report
    assert "| 3 | 8.166 | 0.05 | 8-16 | mixture | 2 | False | 100 | paused |" in report
    assert "it rests on only 5 trials" in report
    assert "| `model.num_experts` | randint from 2 to 8 | `model.head` is mixture |" in report
    names = ["curves", "importance", "pairs", "settings"]
    assert sorted(path.stem for path in (tmp_path / "pictures").iterdir()) == names
    assert all(f"](pictures/{name}.png)" in report for name in names)
    # the same search, the same bytes
    left = {path: path.read_bytes() for path in (tmp_path / "pictures").iterdir()}
    write_report(tmp_path, ended)
    assert {path: path.read_bytes() for path in left} == left


def test_a_search_that_was_stopped_is_reported_as_far_as_it_came(ended: Findings, tmp_path: Path) -> None:
    write_report(tmp_path, replace(ended, is_over=False))
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "The search was stopped before its end; the same command continues it." in report
    assert f"**Best so far: perplexity {math.exp(1.25):,.3f}** after 900 tokens" in report
    assert "best.yaml" not in report


def test_seeds_that_confirm_the_best_count_in_the_tokens_and_are_named_if_they_are_lost(tmp_path: Path) -> None:
    records = records_of([(settings(0.01, 8, True), [2.0, 1.5, 1.25])])
    for offset, status in enumerate(("done", "done", "lost"), start=1):
        name = f"001-seed+{offset}"
        records.append({"kind": "start", "trial": name, "number": 1, "settings": settings(0.01, 8, True), "tokens": 0,
                        "confirms": "001", "seed_offset": offset})  # fmt: skip
        if status == "done":
            loss = 1.25 + offset / 100
            records.append({"kind": "report", "trial": name, "tokens": BUDGET, "loss": loss, "rung": None,
                            "perplexity": math.exp(loss)})  # fmt: skip
        records.append({"kind": "end", "trial": name, "status": status, "reason": "it diverged", "perplexity": None,
                        "tokens": 9, "seconds": 1.0})  # fmt: skip
    found = replace(findings(SPACE, [], **{"model.num_layers": 2}), standing=Standing.of(records))
    write_report(tmp_path, found)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "2,700 tokens in all, 75% of what the same trials would have taken" in report
    mean = f"{math.exp(1.265):.3f} (95 % interval of the mean: "
    assert f"; with 2 other seeds {mean}" in report
    assert "); **with 1 more the run was lost**." in report
    assert " 1 lost | 0.01 | 8 |" in report
    assert "## Trials that were lost or failed\n\n- 001-seed+3: it diverged\n" in report


def test_a_report_without_matplotlib_and_optuna_says_what_is_missing(
    ended: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path, ended)
    for name in ("matplotlib.figure", "optuna"):
        monkeypatch.setitem(sys.modules, name, None)
    missing = write_report(tmp_path, ended)
    assert missing == [
        "no importance of settings: Optuna is not installed: pip install 'recurray[search]'",
        "no pictures: matplotlib is not installed: pip install 'recurray[search]'",
    ]
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert all(f"- {sentence}" in report for sentence in missing)
    assert "![" not in report
    assert not list((tmp_path / "pictures").iterdir())  # no picture of an older state is left


def test_a_search_without_a_figure_is_reported(tmp_path: Path) -> None:
    assert write_report(tmp_path, findings(SPACE, [], **{"model.num_layers": 2})) == [
        "no pictures: no trial has been validated yet"
    ]
    assert "No trial has a perplexity yet." in (tmp_path / "report.md").read_text(encoding="utf-8")


def sessions(directory: Path) -> tuple[Any, list[Any]]:
    """The description of the experiment, and the rows, as TensorBoard's HPARAMS page gets them."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(directory))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(directory))
    context = backend_context.Context(TBContext(data_provider=provider))
    request = RequestContext()
    content = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(request, "", True, content, [])
    asked = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        allowed_statuses=list(api_pb2.Status.values()),
        col_params=[api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos]
        + [api_pb2.ColParams(hparam=info.name) for info in experiment.hparam_infos],
    )
    handler = list_session_groups.Handler(request, context, "", asked)
    return experiment, list(handler.run().session_groups)


def test_hparams_has_one_row_a_trial_and_every_setting(ended: Findings, tmp_path: Path) -> None:
    write_report(tmp_path, ended)
    write_report(tmp_path, ended)  # as whenever a continued search ends
    experiment, groups = sessions(tmp_path)
    types = {info.name: api_pb2.DataType.Name(info.type) for info in experiment.hparam_infos}
    assert types == {
        "optimizer.lr": "DATA_TYPE_FLOAT64",
        "model.hidden_size": "DATA_TYPE_STRING",
        "model.head": "DATA_TYPE_STRING",
        "model.num_experts": "DATA_TYPE_FLOAT64",
        "model.layer_norm": "DATA_TYPE_BOOL",
    }
    rows = {group.name: group for group in groups}
    assert set(rows) == set(ended.standing.trials)
    for name, trial in ended.standing.trials.items():
        (session,) = rows[name].sessions
        metrics = {value.name.tag: (value.value, value.training_step) for value in session.metric_values}
        best = min(trial.reports, key=lambda report: report["perplexity"])
        assert metrics["search/best_perplexity"] == pytest.approx((best["perplexity"], best["tokens"]))
        assert metrics["perplexity/valid"] == pytest.approx((trial.reports[-1]["perplexity"], trial.tokens))
        assert metrics["search/tokens"] == (trial.tokens, trial.tokens)
        held = {path: getattr(value, value.WhichOneof("kind")) for path, value in rows[name].hparams.items()}
        assert held == {
            path: str(value) if path == "model.hidden_size" else value for path, value in trial.settings.items()
        }


def test_pictures_are_images_of_tensorboard(ended: Findings, tmp_path: Path) -> None:
    write_report(tmp_path, ended)
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    for name in ("curves", "settings", "pairs", "importance"):
        (event,) = multiplexer.Tensors("tensorboard", name)
        width, height, png = event.tensor_proto.string_val
        assert png == (tmp_path / "pictures" / f"{name}.png").read_bytes()
        assert int(width) > int(height) > 100 or name in ("pairs", "settings")


def test_a_family_tree_is_drawn(ended: Findings) -> None:
    trials = list(ended.standing.trials.values())
    exploits = [{"trial": "002", "donor": "001", "tokens": 100}, {"trial": "005", "donor": "003", "tokens": 100}]
    axes = pictures.lineage(trials, exploits).axes[0]
    assert len(axes.lines) == len(trials)
    arrows = [text for text in axes.texts if text.arrow_patch is not None]
    assert [(text.xy, text.xyann) for text in arrows] == [((100, 1), (100, 0)), ((100, 4), (100, 2))]
