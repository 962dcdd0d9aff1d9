"""Several seeds: each run equals that of its seed alone, and together they have a mean and an interval."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import train
from jobs.shared.cli import run_job
from pipeline import config as configuration
from pipeline import launch, repeats
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.paths import of_seed
from pipeline.training.directory import RunDirectory
from pipeline.training.guard import TrainingStoppedError
from pipeline.training.monitor import Record, read
from tests.training.test_resume import assert_bitwise_equal, curve, end_state

SHORT = {"train.max_steps": 20, "train.checkpoint_every_steps": 8, "model.dropout": 0.2, "model.num_layers": 1}


@pytest.fixture
def given(make_config: Callable[..., Config], tmp_path: Path) -> tuple[Config, list[str]]:
    """A configuration, and the options of ``jobs.train`` that specify it."""
    config = make_config({**SHORT, "run.directory": str(tmp_path / "several")})
    (tmp_path / "mine.yaml").write_text(configuration.to_yaml(config))
    return config, ["--config", str(tmp_path / "mine.yaml")]


def interrupting(monkeypatch: pytest.MonkeyPatch, seed: int, step: int) -> None:
    """Send this process a Ctrl-C once the run of ``seed`` has logged ``step``."""
    import signal

    from jobs.terminal.progress import SeedProgress

    show = SeedProgress.show

    def show_and_interrupt(progress: SeedProgress, record: Record) -> None:
        show(progress, record)
        if progress.name == f"seed {seed}" and record["kind"] == "train" and record["step"] == step:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SeedProgress, "show", show_and_interrupt)


def test_each_run_equals_that_of_its_seed_alone_even_if_interrupted(
    given: tuple[Config, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, argv = given
    folder = tmp_path / "several"
    with monkeypatch.context() as patch:
        interrupting(patch, seed=5, step=10)
        with pytest.raises(SystemExit) as left:
            run_job(train.main, [*argv, "--seeds", "3,5", "--fresh"])
    assert left.value.code == 130
    assert capsys.readouterr().err.splitlines()[-3:] == [
        "stopping: finishing the step and saving (again to stop at once)",
        "stopped with 1 of 2 runs done; what the others have trained is saved; to continue:",
        f"  python -m jobs.train {' '.join(argv)} --seeds 3,5",
    ]
    assert not (folder / "seeds.json").exists()
    assert curve(of_seed(config, 5))[-1][0] == 10
    run_job(train.main, [*argv, "--seeds", "3,5", "--json"])
    printed = capsys.readouterr()
    assert f"seed 3: {folder / 'seed-3'} holds this run, finished" in printed.err
    found = json.loads(printed.out.splitlines()[-1])
    assert found == json.loads((folder / "seeds.json").read_text())
    results = []
    for seed in (3, 5):
        alone = configuration.with_values(
            config, {"train.seed": seed, "run.directory": str(tmp_path / f"alone-{seed}")}
        )
        results.append(launch.train(alone, launch.in_process))
        ours = of_seed(config, seed)
        assert curve(ours) == curve(alone)
        assert_bitwise_equal(end_state(ours), end_state(alone))
    assert curve(of_seed(config, 3)) != curve(of_seed(config, 5))
    check_figures(found, results, printed.out)
    with (folder / "seeds.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [(line["seed"], float(line["perplexity"])) for line in table] == [
        (str(seed), result["perplexity"]) for seed, result in zip((3, 5), results, strict=True)
    ]
    # with more seeds only the missing ones are trained
    run_job(train.main, [*argv, "--seeds", "3,5,1", "--json"])
    assert [run["seed"] for run in json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]] == [3, 5, 1]
    starts = [record for record in read(folder / "seed-5" / "metrics.jsonl") if record["kind"] == "start"]
    assert [record["step"] for record in starts] == [0, 10]


def check_figures(found: dict[str, Any], results: list[dict[str, Any]], shown: str) -> None:
    """For two values a and b the mean is (a + b) / 2, and half of its interval 12.7062 · |a − b| / 2."""
    for name in ("perplexity", "bits_per_byte"):
        values = [result[name] for result in results]
        a, b = map(math.log, values) if name == "perplexity" else values
        mean, half = (a + b) / 2, 12.7062047 * abs(a - b) / 2
        ends = [mean - half, mean + half]
        if name == "perplexity":
            mean, ends = math.exp(mean), [math.exp(end) for end in ends]
        assert found["mean"][name] == pytest.approx(mean)
        assert found["interval"][name] == pytest.approx(ends, rel=1e-6)
    assert f"       mean  {found['mean']['perplexity']:>21.2f}  {found['mean']['bits_per_byte']:>16.4f}\n" in shown
    low, high = found["interval"]["perplexity"]
    assert f"95 % CI  {f'{low:,.2f} to {high:,.2f}':>21}" in shown


def test_a_number_of_seeds_starts_at_the_seed_of_the_settings(
    given: tuple[Config, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_job(train.main, [*given[1], "train.seed=7", "--seeds", "3", "--dry-run", "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["seeds"] == [7, 8, 9]
    with pytest.raises(SystemExit) as left:
        run_job(train.main, [*given[1], "train.seed=4294967294", "--seeds", "3", "--dry-run"])
    assert left.value.code == 2
    said = "--seeds: 3 from train.seed=4294967294 go beyond 4294967295, the last one"
    assert capsys.readouterr().err == f"error: {said}\n"
    assert not (tmp_path / "several").exists()


def test_without_text_to_validate_there_is_no_mean(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config({**SHORT, "train.max_steps": 2, "corpus.valid_fraction": 0})
    found = repeats.train(config, [1, 2], launch.in_process, listener=lambda seed: Silent())
    assert found["mean"] == found["interval"] == {"perplexity": None, "bits_per_byte": None}


def test_an_interval_that_no_number_holds_does_not_lose_the_figures() -> None:
    results = {seed: {"perplexity": value, "bits_per_byte": None} for seed, value in ((1, 20.0), (2, 1e120))}
    found = repeats.summary(results)
    assert found["mean"]["perplexity"] == pytest.approx(math.sqrt(20) * 1e60)
    assert found["interval"]["perplexity"] == [pytest.approx(0.0), math.inf]


def test_a_run_that_ended_before_words_were_counted_does_not_lose_the_table(tmp_path: Path) -> None:
    counted = {"perplexity": 2.0, "bits_per_byte": 1.0, "tokens": 9, "words": 3}
    uncounted = {name: value for name, value in counted.items() if name != "words"}
    repeats.written(tmp_path, {1: uncounted, 2: counted})
    with (tmp_path / repeats.TABLE).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["seed"], row["tokens"], row["words"]) for row in rows] == [("1", "9", ""), ("2", "9", "3")]


class Silent:
    def show(self, record: Record) -> None:
        pass

    def say(self, sentence: str) -> None:
        pass


def test_a_mistake_in_one_run_is_reported_before_any_is_trained(
    given: tuple[Config, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    config, argv = given
    other = configuration.with_values(of_seed(config, 2), {"model.hidden_size": 9, "train.max_steps": 1})
    launch.train(other, launch.in_process)
    with pytest.raises(SystemExit) as left:
        run_job(train.main, [*argv, "--seeds", "2"])
    assert left.value.code == 2
    assert "model.hidden_size: this run was started with 9 and cannot continue with 12" in capsys.readouterr().err
    assert not Path(str(of_seed(config, 1).run.directory)).exists()
    # and --fresh sets it aside
    run_job(train.main, [*argv, "--seeds", "2", "--fresh", "train.max_steps=2"])
    assert Path(f"{of_seed(config, 2).run.directory}.old-1").is_dir()
    assert "mean" in capsys.readouterr().out


def test_a_run_that_diverges_does_not_stop_the_others(
    given: tuple[Config, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def train_one(config: Config, *arguments: Any, **how: Any) -> dict[str, Any]:
        trained.append(config.train.seed)
        if config.train.seed == 1:
            raise TrainingStoppedError("a loss was not finite")
        return {"perplexity": 1.0}

    monkeypatch.setattr(launch, "train", train_one)
    with pytest.raises(TrainingStoppedError, match=r"^seed 1: a loss was not finite$"):
        repeats.train(given[0], [1, 2], launch.in_process, listener=lambda seed: Silent())
    assert trained == [1, 2]


@pytest.mark.parametrize("seeds", [[], ["--seeds", "3,5"]])
def test_a_submitted_run_is_continued_by_submitting_it_again(
    given: tuple[Config, list[str]],
    seeds: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise (repeats.InterruptedSeedsError(15, 0, 2) if seeds else launch.InterruptedRunError(15, 5))

    monkeypatch.setattr(repeats if seeds else launch, "train", interrupted)
    for variable, command in (("OTHER", f"python -m jobs.train {' '.join([*given[1], *seeds])}"),
                              ("RAY_JOB_CONFIG_JSON_ENV_VAR", "the command that submitted this job")):  # fmt: skip
        monkeypatch.setenv(variable, "{}")
        with pytest.raises(SystemExit) as left:
            run_job(train.main, [*given[1], *seeds])
        assert left.value.code == 128 + 15
        assert capsys.readouterr().err.endswith(f"; to continue:\n  {command}\n")


def test_a_directory_in_use_is_refused(given: tuple[Config, list[str]], tmp_path: Path) -> None:
    for config, name in ((given[0], "several"), (of_seed(given[0], 1), "seed-1")):
        with (
            RunDirectory(str(config.run.directory)).locked(),
            pytest.raises(UserError, match=f"{name} is in use by another run"),
        ):
            repeats.train(given[0], [1, 2], launch.in_process, listener=lambda seed: Silent())
    assert not (tmp_path / "several").exists()


@pytest.mark.parametrize(
    ("given_seeds", "sentence"),
    [
        ("1", "1 is not between 2 and 1,000"),
        ("1001", "1,001 is not between 2 and 1,000"),
        ("three", "'three' is not a whole number"),
        ("1,,2", "'' is not a whole number"),
        ("4,5,4", "4 is given twice"),
        ("4,4294967296", "4,294,967,296 is not between 0 and 4,294,967,295"),
    ],
)
def test_invalid_seeds_are_refused(given_seeds: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run_job(train.main, ["--seeds", given_seeds])
    assert (left.value.code, capsys.readouterr().err) == (2, f"error: --seeds: {sentence}\n")
