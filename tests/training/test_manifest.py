"""A checkpoint's manifest says what was written, or is refused: every bit and name, also in the previous format."""

import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline import launch, signing
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.training import checkpoint
from pipeline.training.manifest import DamagedError, parse_manifest, read_manifest, verify
from pipeline.training.monitor import read
from tests.damage import flipped

FACTS = {
    "fingerprints": {"corpus": "ab" * 32, "tokenizer": "cd" * 32},
    "num_workers": 2, "num_threads": 4, "device": "cpu", "torch": "2.13.0+cpu",
    "loss": 1.0986122886681098, "perplexity": 3.0, "bits_per_byte": None,
    "step": 60, "epoch": 1, "position": 1200, "tokens": 153600, "seconds": 1.5e-05,
    "best_perplexity": 3.0, "num_worse": 0, "num_drops": 0, "lowest_loss": 1.25,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint whose files have arbitrary content."""
    path = tmp_path / "step-00000060"
    path.mkdir()
    for name in ("weights.safetensors", "state.pt", "config.yaml", "tokenizer.json"):
        (path / name).write_text(f"of {name}")
    checkpoint.write_manifest(path, FACTS)
    return path


def of_the_format_before(folder: Path, **changes: Any) -> dict[str, Any]:
    """Rewrite the manifest of ``folder`` as versions before the checksum wrote it; return it."""
    values = json.loads((folder / "manifest.json").read_text())
    for name in ("format", "kind", "checksum"):
        values.pop(name, None)
    values |= changes
    (folder / "manifest.json").write_text(json.dumps(values, indent=1))
    return values


def test_a_manifest_says_what_was_written(folder: Path) -> None:
    manifest = verify(folder)
    assert {name: manifest[name] for name in FACTS} == FACTS


@pytest.mark.parametrize("kind", ["checkpoint", "model"])
def test_no_flipped_bit_changes_what_a_manifest_says(folder: Path, kind: str) -> None:
    path = folder / "manifest.json"
    if kind == "model":
        path.unlink()
        kept = ("step", "epoch", "tokens", "perplexity", "bits_per_byte", "fingerprints", "torch")
        checkpoint.write_manifest(folder, {"kind": "model", **{name: FACTS[name] for name in kept}})
    data, manifest = path.read_bytes(), read_manifest(folder)
    num_without_effect = 0
    for bit in range(8 * len(data)):
        with suppress(DamagedError):
            assert parse_manifest(flipped(data, bit)) == manifest, f"bit {bit}"
            num_without_effect += 1
    assert num_without_effect < 10  # such as 1E-05 for 1e-05


def test_a_changed_position_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"position": 1200', '"position": 1000'))
    with pytest.raises(DamagedError, match=r"manifest\.json: altered since it was written"):
        read_manifest(folder)


@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"position": None}, "it does not say 'position'"),
        ({"fingerprints": None}, "it does not say 'fingerprints'"),
        ({"fingerprints": {"corpus": "x"}}, "the fingerprint of the tokenizer"),
        ({"positjon": 3}, "'positjon' is not a value of a checkpoint's manifest"),
        ({"step": "60"}, "'step' cannot be '60'"),
        ({"step": True}, "'step' cannot be True"),
        ({"tokens": -1}, "'tokens' cannot be -1"),
        ({"epoch": 1.5}, "'epoch' cannot be 1.5"),
        ({"best_perplexity": []}, r"'best_perplexity' cannot be \[\]"),
        ({"kind": "foreign"}, "kind 'foreign'"),
        ({"files": {}}, "it does not list weights.safetensors"),
        ({"files": {"../a": {"bytes": 1, "xxh3": ""}}}, "does not list"),
    ],
)
def test_missing_and_foreign_values_are_refused(
    folder: Path, change: dict[str, Any], sentence: str, is_signed: bool
) -> None:
    values = {**read_manifest(folder), **change}
    values = {name: value for name, value in values.items() if value is not None or name in ("bits_per_byte",)}
    del values["checksum"]
    if is_signed:
        values = signing.sign(values)
    else:
        del values["format"]
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(DamagedError, match=sentence):
        read_manifest(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "7", '"x"', "{", "{}", "[" * 5000, "\xff", '{"format": 2}'])
def test_a_file_that_is_no_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(DamagedError, match=r"manifest\.json: "):
        read_manifest(folder)


@pytest.mark.parametrize(("code", "kind"), [(errno.EIO, DamagedError), (errno.EACCES, UserError)])
def test_an_unreadable_file_is_damage_only_if_the_disk_lost_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[UserError]
) -> None:
    def failing(file: Path) -> dict[str, Any]:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("pipeline.training.manifest.file_facts", failing)
    with pytest.raises(UserError, match=r"config\.yaml: cannot be read: ") as caught:
        verify(folder)
    assert type(caught.value) is kind


def test_a_manifest_of_a_later_format_says_so(folder: Path) -> None:
    values = {**read_manifest(folder), "format": 3}
    del values["checksum"]
    (folder / "manifest.json").write_text(json.dumps(signing.sign(values)))
    with pytest.raises(DamagedError, match="format 3, but this version reads format 2"):
        read_manifest(folder)


def test_the_oldest_manifest_still_opens(folder: Path) -> None:
    values = of_the_format_before(folder, ended_early=False)
    for name in ("num_drops", "lowest_loss"):
        del values[name]
    (folder / "manifest.json").write_text(json.dumps(values))
    manifest = verify(folder)
    assert (manifest["num_drops"], manifest["lowest_loss"], manifest["position"]) == (0, None, 1200)


def test_a_run_in_the_previous_format_goes_on_with_one_notice(make_config: Callable[..., Config]) -> None:
    changes = {"optimizer.schedule": "constant", "train.checkpoint_every_steps": 3, "corpus.valid_fraction": 0.0}
    config = make_config({**changes, "train.max_steps": 6})
    launch.train(config, launch.in_process)
    run = Path(str(config.run.directory))
    for path, _ in checkpoint.manifests(run):
        of_the_format_before(path)
    (remark,) = checkpoint.load_model(run).remarks
    assert "manifest.json was written by an earlier version and has no checksum of its own" in remark
    launch.train(make_config({**changes, "train.max_steps": 8}), launch.in_process)
    warnings = [record["text"] for record in read(run / "metrics.jsonl") if record["kind"] == "warning"]
    (warning,) = warnings
    assert warning.startswith("step-00000003, step-00000006: written by an earlier version, without a checksum")
    assert checkpoint.load_model(run).remarks == ()
