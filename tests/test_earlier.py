"""Runs and a search left unfinished by an earlier version can be opened, scored and continued, bitwise if possible.

``tests/earlier`` holds them as they were written, ``expected.json`` the results of the version that wrote them.
"""

import hashlib
import json
import platform
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import config as configuration
from pipeline import launch, run
from pipeline.cluster.search import search
from pipeline.config import Config
from pipeline.data.streams import ResetRule
from pipeline.evaluate import evaluate, split_held_out
from pipeline.generate import generate
from pipeline.training import checkpoint
from pipeline.training.monitor import read
from tests.training.ranks import Plan, train_on_ranks

EARLIER = Path(__file__).parent / "earlier"
RANKS = {"averaged": 1, "adaptive": 2}
# how much losses may differ on other machines: each processor rounds bf16 products differently, and runs drift apart
APART = {"averaged": 0.02, "adaptive": 0.1}


def machine() -> list[str]:
    """What floating-point rounding depends on: torch, and the kind of processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().split("\n\n")[0].splitlines() if cpuinfo.exists() else [platform.processor()]
    kind = [line.replace("\t", "") for line in lines if line.startswith(("vendor_id", "cpu family", "model\t"))]
    return [torch.__version__, torch.backends.cpu.get_cpu_capability(), *kind]


def digest(tree: Any) -> str:
    """A digest of tensors and numbers in nested dicts, lists and tuples; the order of a dict does not matter."""
    if isinstance(tree, torch.Tensor):
        content = tree.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tree.numel() else b""
        content += f"{tree.dtype}{tuple(tree.shape)}".encode()
    elif isinstance(tree, dict):
        content = "".join(f"{key}:{digest(tree[key])}" for key in sorted(tree, key=str)).encode()
    elif isinstance(tree, (list, tuple)):
        content = "".join(map(digest, tree)).encode()
    else:
        content = repr(tree).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def config_of(name: str) -> Config:
    return configuration.load(f"{name}/config.yaml")


def opened(name: str) -> dict[str, Any]:
    """What a run's last checkpoint holds, and what its model scores and writes."""
    loaded = checkpoint.load_model(name, which="last")
    config = loaded.config
    score = evaluate(
        loaded.model,
        split_held_out(run.corpus_of(loaded), "valid"),
        streams=config.evaluate.streams,
        bptt=config.train.bptt,
        reset=ResetRule.of(config.train),
        burn_in=config.evaluate.burn_in,
    )
    state = checkpoint.load_state(loaded.path)
    return {
        "step": loaded.manifest["step"],
        "weights": digest(checkpoint.weights_of(loaded.model)),
        "state": {key: digest(value) for key, value in state.items()},
        "loss": score.nats_per_token,
        "text": "".join(generate(loaded.model, loaded.tokenizer, "the cat", num_tokens=20, seed=1)),
    }


def go_on(name: str, ranks: int) -> None:
    """Train to the end."""
    config = config_of(name)
    if ranks == 1:
        launch.train(config, launch.in_process)
    else:
        train_on_ranks(ranks, Plan(config))


def continued(name: str) -> dict[str, Any]:
    """The end of a run, and its losses from the first step on."""
    records = [record for record in read(Path(name) / "metrics.jsonl") if record["kind"] in ("train", "valid")]
    return {**opened(name), "losses": [record["loss"] for record in records]}


@pytest.fixture(autouse=True)
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy, to which paths in the settings are relative."""
    shutil.copytree(EARLIER, tmp_path / "earlier")
    monkeypatch.chdir(tmp_path / "earlier")


@pytest.mark.parametrize("name", RANKS)
def test_an_earlier_run_opens_is_scored_and_goes_on_bitwise(name: str) -> None:
    expected = json.loads((EARLIER / "expected.json").read_text())
    before, after = expected["runs"][name]["opened"], expected["runs"][name]["continued"]
    found = opened(name)
    for key in ("step", "weights", "state"):  # what was saved is the same on every machine
        assert found[key] == before[key]
    assert found["loss"] == pytest.approx(before["loss"], rel=1e-5)
    num_before = len(continued(name)["losses"])
    go_on(name, RANKS[name])
    ended = continued(name)
    ended["state"] = {key: ended["state"][key] for key in after["state"]}  # only the parts that existed then
    assert ended["step"] == after["step"]
    assert ended["losses"][: num_before + 1] == pytest.approx(after["losses"][: num_before + 1], rel=1e-3)
    assert ended["losses"] == pytest.approx(after["losses"], rel=APART[name])
    if machine() == expected["machine"]:
        assert (found, ended) == (before, after)


@pytest.mark.ray
def test_an_earlier_search_goes_on(ray_cluster: None) -> None:
    config = configuration.load("search.yaml")
    rows = {row.trial: row for row in search(config)}
    assert {row.status for row in rows.values()} <= {"done", "stopped"}
    assert len(rows) == 3
    assert rows["001-lr=0.6,accumulate=2"].perplexity == 14.06897921116476  # this trial had ended
    second = list(read(Path("search/trials/002-lr=0.7,accumulate=2/metrics.jsonl")))
    assert [record["step"] for record in second if record["kind"] == "start"] == [0, 52]
