"""The parts of benchmarks/gpu.py on a CPU: what they compute, against known answers, and what a failing part leaves."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # scripts there import each other like that

import gpu
import gpu_parts
import models
from gpu_graph import GraphedStep, KeptMasks, _apart, _called, _graphed
from gpu_guard import GUARDED, guarded_call, waits
from gpu_parts import Timed, build_model, cells, on_device, repeated, rows_of, steps, timed
from training_step import SETTINGS, Setting, build_step

BENCHMARKS = str(Path(gpu.__file__).parent)
CPU = torch.device("cpu")
TINY = Setting({"hidden_size": 8, "num_layers": 2}, {"dropout": 0.2}, vocab_size=200, batch_size=4, bptt=6)
ALL_MASKS = Setting(
    {"hidden_size": 8, "num_layers": 2, "tie_weights": True},
    {
        "input_dropout": 0.4, "hidden_dropout": 0.3, "output_dropout": 0.4, "embedding_dropout": 0.1,
        "weight_dropout": 0.5, "dropout": 0.2,
    },
    vocab_size=50, batch_size=4, bptt=6, optimizer="adamw", lr=1e-3,
)  # fmt: skip
# what the project needs besides torch, numpy and pydantic; only the recipe reads YAML
BLOCKED = [
    "ray", "pyarrow", "pandas", "datasets", "tokenizers", "safetensors", "sentencepiece", "yaml", "tensorboard", "tqdm",
    "xxhash",
]  # fmt: skip

# the host reads these numbers only on a CPU
ON_A_CPU_ONLY = {"model/head/cross_entropy.py logits_to_gradient", "training/clipping.py _limit"}
# for an adaptive softmax the host must know how many tokens are in a tail
KNOWN = {"adaptive softmax": {"model/head/adaptive.py _in_tail"}}


@pytest.mark.parametrize("name", GUARDED)
def test_no_training_step_waits_for_a_gpu(name: str) -> None:
    assert set(waits(guarded_call(name, TINY, CPU), CPU)) - ON_A_CPU_ONLY == KNOWN.get(name, set())


def test_the_guard_sees_when_the_host_reads_a_number() -> None:
    number = torch.ones(3)
    assert waits(lambda: number.sum().item(), CPU) == ["outside the project"]
    assert waits(lambda: number.nonzero(), CPU) == ["outside the project"]
    assert waits(lambda: bool(number[0] > 0), CPU) == ["outside the project"]
    assert waits(lambda: number.sum() / 2, CPU) == []


@pytest.mark.gpu
@pytest.mark.parametrize("name", GUARDED)
def test_no_training_step_waits_for_this_gpu(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    device = torch.device("cuda")
    assert set(waits(guarded_call(name, TINY, device), device)) == KNOWN.get(name, set())


def weights_after(setting: Setting, number: int, prepare: Callable[[Any], None] = lambda step: None) -> torch.Tensor:
    model = build_model(setting, CPU)
    step = build_step(setting, model, precision="float32")
    prepare(step)
    call = repeated(step, model, on_device(setting, CPU, 2), setting.lr)
    for _ in range(number):
        call()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_kept_generators_draw_the_same_masks() -> None:
    kept: dict[Any, Any] = {}

    def keep(step: Any) -> None:
        step.masks = partial(KeptMasks, kept=kept)

    assert torch.equal(weights_after(ALL_MASKS, 3, keep), weights_after(ALL_MASKS, 3))
    assert len(kept) == 6  # embedding, input, output, between the layers, and weights of both


def by_calling(run: Callable[[], None], generators: Iterable[torch.Generator]) -> Callable[[], None]:
    """A stand-in for recording a graph on a machine without graphs: replaying it just calls ``run``."""
    assert len(list(generators)) == 6
    return run


def test_a_replayed_step_equals_the_step() -> None:
    given = on_device(ALL_MASKS, CPU, 3)
    called = _called(ALL_MASKS, given, "float32", CPU)
    graphed = _graphed(ALL_MASKS, given, "float32", CPU, by_calling)
    assert _apart(called, graphed, given) == 0.0
    weights = torch.cat([parameter.detach().flatten() for parameter in graphed.step.model.parameters()])
    assert torch.equal(weights, weights_after_given(given, number=8))


def weights_after_given(given: Any, *, number: int) -> torch.Tensor:
    model = build_model(ALL_MASKS, CPU)
    call = repeated(build_step(ALL_MASKS, model, precision="float32"), model, given, ALL_MASKS.lr)
    for _ in range(number):
        call()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.gpu
@pytest.mark.parametrize("setting", [TINY, ALL_MASKS])
def test_a_graph_on_this_gpu_equals_the_step(setting: Setting) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    device = torch.device("cuda")
    given = on_device(setting, device, 3)
    graphed: GraphedStep = _graphed(setting, given, "float32", device)
    assert _apart(_called(setting, given, "float32", device), graphed, given) < 1e-5


def test_times_are_those_of_one_call() -> None:
    found = timed(lambda: time.sleep(0.002), CPU, seconds=0.02)
    assert isinstance(found, Timed)
    assert found.milliseconds >= found.host_milliseconds >= 2


def pretend(monkeypatch: pytest.MonkeyPatch, milliseconds: Iterable[float]) -> None:
    """Make each timed call once, and let it have taken the next of ``milliseconds``."""
    times = iter(milliseconds)

    def pretended(call: Callable[[], object], device: torch.device, *, seconds: float) -> Timed:
        call()
        return Timed(next(times), 0.5)

    monkeypatch.setattr(gpu_parts, "timed", pretended)


def test_rows_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, [1.0, 4.0, 1.5, 2.0, 0.5, 5.0])  # layers alone, then a step, for each precision
    rows = list(steps({"tiny": TINY}, CPU, until=time.time() + 600))
    assert [(row["name"], row["precision"]) for row in rows] == [("tiny", name) for name in ("float32", "tf32", "bf16")]
    assert [row["layers_share"] for row in rows] == [0.25, 0.75, 0.1]
    assert [row["tokens_per_second"] for row in rows] == [6000.0, 12000.0, 4800.0]  # 4 · 6 tokens per step
    assert rows[0]["figure"] == "4; 6,000; 1 (0.25); 0.5"


def test_rows_of_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, [8.0, 4.0, 2.0, 16.0, 3.0, 3.0, 6.0, 1.0])
    rows = list(cells(64, 2, [5], CPU, until=time.time() + 600))
    assert [row["cell"] for row in rows] == ["gru", "mingru", "minlstm", "qrnn"] * 2
    assert [row["times_gru"] for row in rows] == [1.0, 2.0, 4.0, 0.5, 1.0, 1.0, 0.5, 3.0]
    assert rows[1]["tokens_per_second"] == 2500.0
    counts = [models.num_recurrent(models.build(gpu_parts.SIZES, row["cell"], row["hidden_size"])) for row in rows[:4]]
    assert counts == pytest.approx([counts[0]] * 4, rel=0.08)  # sizes are multiples of 8


def test_cells_whose_gru_failed_keep_their_own_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, [4.0, 2.0, 16.0] * 2)
    usual, built = models.build, list[str]()

    def build(arguments: Any, cell: str, hidden_size: int) -> Any:
        if cell == "gru" and built:  # the first one only has its parameters counted
            raise RuntimeError("out of memory")
        built.append(cell)
        return usual(arguments, cell, hidden_size)

    monkeypatch.setattr(models, "build", build)
    figures = [row["figure"] for row in cells(64, 2, [5], CPU, until=time.time() + 600)]
    assert figures[:3] == ["failed: RuntimeError: out of memory", "2,500; not known", "5,000; not known"]


def test_a_row_that_fails_or_has_no_time_leaves_the_others() -> None:
    def measure(seconds: float, name: str) -> dict[str, Any]:
        assert 0 < seconds <= 100
        if name == "b":
            raise ValueError("no such kernel\nand more")
        return {"row": f"row {name}", "figure": "1"}

    items = [{"name": name} for name in "abc"]
    rows = list(rows_of("thing", items, measure, until=time.time() + 100))
    assert rows[1] == {
        "row": "thing: b", "figure": "failed: ValueError: no such kernel", "name": "b",
        "missing": "ValueError: no such kernel",
    }  # fmt: skip
    assert [row["row"] for row in rows] == ["row a", "thing: b", "row c"]
    assert [row["figure"] for row in rows_of("thing", items, measure, until=time.time())] == [
        "left out: the time was up"
    ] * 3


def test_a_part_that_fails_or_hangs_keeps_its_rows() -> None:
    row = 'print(\'{"row": "a", "figure": "1"}\', flush=True)'
    rows, failure = gpu.run_part([sys.executable, "-S", "-c", f"{row}; raise SystemExit('lost it')"], seconds=60)
    assert (rows, failure) == ([{"row": "a", "figure": "1"}], "ended with exit code 1: lost it")
    slow = f"{row}; print('{{\"half', flush=True, end=''); import time; time.sleep(60)"
    rows, failure = gpu.run_part([sys.executable, "-S", "-c", slow], seconds=0.5)
    assert failure == "stopped after its 0 s"
    assert rows in ([], [{"row": "a", "figure": "1"}])  # on a busy machine the part may not even have begun
    assert gpu.run_part([sys.executable, "-S", "-c", row], seconds=60) == ([{"row": "a", "figure": "1"}], "")


def test_the_report_is_one_table_with_the_columns_of_the_results() -> None:
    found = {
        "machine": {"device": "NVIDIA X", "date": "2026-11-29", "commit": "abc"},
        "parts": {
            "steps": {"rows": [{"row": "a | b", "figure": "1"}], "failure": ""},
            "graphs": {"rows": [], "failure": "stopped after its 9 s"},
        },
    }
    results = (Path(BENCHMARKS) / "RESULTS.md").read_text()
    lines = gpu.table(found, "python benchmarks/gpu.py").splitlines()
    assert lines[0] in results.splitlines()
    assert lines[2:] == [
        "| a \\| b | | 1 | `NVIDIA X` | 2026-11-29 | abc | `python benchmarks/gpu.py` |",
        "| part `graphs` | | stopped after its 9 s | `NVIDIA X` | 2026-11-29 | abc | `python benchmarks/gpu.py` |",
    ]


def test_the_parts_fit_into_eight_minutes_with_five_for_the_recipe() -> None:
    assert sum(gpu.PARTS.values()) == gpu.parse([]).seconds == 480
    assert gpu.OWN_SHARE * gpu.PARTS["recipe"] > 290
    assert set(SETTINGS) == {"small", "medium", "characters", "awd"}  # the four shapes


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        gpu.main([])
    assert end.value.code == 2
    assert capsys.readouterr().err == "torch finds no CUDA device here; --device cpu tries what a CPU can\n"


def test_a_whole_run_writes_table_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = []

    def run(command: list[str], *, seconds: float) -> tuple[list[dict[str, Any]], str]:
        commands.append((command[2:], seconds))
        return [{"row": "r", "figure": "f"}], ""

    monkeypatch.setattr(gpu, "run_part", run)
    given = ["--device", "cpu", "--output", str(tmp_path / "out"), "--seconds", "48", "--parts", "guard", "recipe"]
    gpu.main(given)
    ((command, seconds),) = commands
    assert command[: len(given) + 2] == [*given, "--worker", "guard"]
    assert seconds == pytest.approx(2.5, abs=0.5)
    assert seconds < 2.5  # what was taken before the first part is no longer there
    found = json.loads((tmp_path / "out/gpu.json").read_text())
    assert found["parts"]["recipe"]["failure"] == "left out: --corpus names no folder with Penn Treebank"
    assert (tmp_path / "out/gpu.md").read_text() == capsys.readouterr().out
    assert found["machine"]["torch"] == torch.__version__


def test_benchmarks_gpu_needs_neither_ray_nor_arrow_nor_tokenizers() -> None:
    program = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
sys.path.append({BENCHMARKS!r})
import torch, gpu, gpu_graph, gpu_guard, gpu_parts, gpu_recipe
from training_step import Setting
setting = Setting({{"hidden_size": 8}}, {{}}, vocab_size=50, batch_size=2, bptt=3)
nats = float(gpu_guard.guarded_call("muon", setting, torch.device("cpu"))())
assert 0 < nats / 6 < 5, nats  # about ln 50 for each of 6 tokens
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
