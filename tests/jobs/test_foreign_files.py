"""A folder with a valid manifest whose files are not a model, or another model's: one sentence names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import generate
from jobs.shared.cli import run_job
from pipeline import launch
from pipeline.compress.folder import write_model_folder
from pipeline.config import Config
from pipeline.training import checkpoint
from pipeline.training.manifest import write_manifest

Change = Callable[[bytes], bytes]


def replacing(old: bytes, new: bytes) -> Change:
    return lambda data: data.replace(old, new, 1)


def with_values(**values: Any) -> Change:
    return lambda data: json.dumps({**json.loads(data), **values}).encode()


def instead(content: bytes) -> Change:
    return lambda data: content


CASES: dict[str, list[tuple[Change, str]]] = {
    "weights.safetensors": [
        (instead(b""), "not a file of weights ("),
        (instead(b"no weights"), "not a file of weights ("),
        (lambda data: data[:200], "not a file of weights ("),
        (lambda data: data[:-4], "not a file of weights ("),
        (lambda data: data[:8] + b"[" * (len(data) - 8), "not a file of weights ("),
        (replacing(b"embedding.weight", b"Embedding.weight"), "beside it: embedding.weight is missing"),
        (replacing(b'"F32"', b'"I32"'), "is in I32, which is no format of weights"),
    ],
    "config.yaml": [
        (instead(b"[]"), "must hold sections"),
        (instead(b"a: b"), "a: unknown setting"),
        (instead(b"\xff\xfe"), "cannot read"),
        (instead(b"{"), "not valid YAML"),
        (replacing(b"hidden_size: 12", b"hidden_size: 14"), "embedding.weight has the shape [21, 12], not [21, 14]"),
        (replacing(b"cell: lstm", b"cell: mingru"), "beside it: recurrence.layers.0.bias is missing"),
        (replacing(b"num_layers: 2", b"num_layers: 1"), "beside it: it has no recurrence.layers.1."),
    ],
    "tokenizer.json": [
        *((instead(content), "not a tokenizer")
          for content in (b"", b"[]", b"{}", b"\xff", b"[" * 5000, b'{"kind": "char"}')),
        *((with_values(**values), "not a tokenizer") for values in (
            {"kind": "x"}, {"kind": []}, {"eos": None}, {"types": 5}, {"types": ["<unk>", 3]}, {"types": ["a", "b"]},
            {"types": ["<unk>", "ab"]}, {"kind": "bpe", "engine": {}}, {"kind": "sentencepiece", "model": "%"},
        )),
        (with_values(types=["<unk>", "a"]), "embedding.weight has the shape [21, 12], not [2, 12]"),
    ],
}  # fmt: skip


def test_files_that_do_not_make_up_a_model_are_named(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config({"train.max_steps": 1})
    launch.train(config, launch.in_process)
    loaded, whole = checkpoint.load_model(str(config.run.directory)), tmp_path / "whole"
    write_model_folder(whole, loaded, dtype=torch.float32)
    facts = json.loads((whole / "manifest.json").read_text())
    facts = {name: value for name, value in facts.items() if name not in ("files", "checksum")}
    folder = tmp_path / "folder"
    arguments = ["--run", str(folder), "--tokens", "3"]
    for name, changes in {"README.md": [(instead(b"other"), "")], **CASES}.items():
        for change, sentence in changes:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole, folder)
            (folder / name).write_bytes(change((folder / name).read_bytes()))
            (folder / "manifest.json").unlink()
            write_manifest(folder, facts)
            if not sentence:  # the card can be anything
                run_job(generate.main, arguments)
                continue
            with pytest.raises(SystemExit) as caught:
                run_job(generate.main, arguments)
            error = capsys.readouterr().err
            assert caught.value.code == 2
            assert sentence in error
            assert error.count("\n") == 1
            assert str(folder) in error or sentence == "a: unknown setting"
