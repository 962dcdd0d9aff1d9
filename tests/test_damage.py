"""Any flipped bit in any file of a checkpoint, a run or a corpus: refused by name, set aside, or without effect.

``pytest tests/test_damage.py -m slow -s`` flips thousands, and prints the outcomes.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash

from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config
from pipeline.data.prepare import in_process, prepare_in_process
from pipeline.data.reuse import STATE, find_prepared, wanted_corpus
from pipeline.errors import UserError
from pipeline.training import checkpoint
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import read
from tests.damage import flipped

REFUSED, SET_ASIDE, NO_EFFECT = "refused by name", "set aside", "without effect"


def many(usual: int, slow: int) -> pytest.MarkDecorator:
    """The numbers of flips in the usual and in the slow tests."""
    return pytest.mark.parametrize("number", [usual, pytest.param(slow, marks=pytest.mark.slow)])


@contextmanager
def a_flipped_bit(file: Path, source: random.Random) -> Iterator[None]:
    """Within the context, one bit of ``file``, drawn from ``source``, is flipped."""
    data = file.read_bytes()
    file.write_bytes(flipped(data, source.randrange(8 * len(data))))
    try:
        yield
    finally:
        file.write_bytes(data)


def digest(value: Any) -> str:
    """A digest of tensors, arrays, numbers and texts in dicts and lists."""
    if isinstance(value, dict):
        value = [(str(name), digest(value[name])) for name in value]
    elif isinstance(value, (list, tuple)):
        value = [digest(each) for each in value]
    elif isinstance(value, torch.Tensor):
        value = (str(value.dtype), tuple(value.shape), value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return xxhash.xxh3_128_hexdigest(repr(value).encode())


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def flip(folder: Path, number: int, numbers: Callable[[], Any]) -> Counter[str]:
    """Flip ``number`` bits, spread evenly over the files of ``folder``; count the outcomes of reading ``numbers``."""
    source, outcomes = random.Random(number), Counter[str]()
    expected = numbers()
    files = files_of(folder)
    for index in range(number):
        file = files[index % len(files)]
        with a_flipped_bit(file, source):
            found, refusal = expected, ""
            try:
                found = numbers()
            except UserError as error:
                refusal = str(error)
            assert found == expected, file
            assert not refusal or file.name in refusal, refusal
            outcomes[REFUSED if refusal else NO_EFFECT] += 1
    print(f"\n{number:,} bits of {len(files)} files: {dict(outcomes)}")
    return outcomes


@pytest.fixture
def trained(make_config: Callable[..., Config]) -> Config:
    """A run of six steps, validated at every third, with a constant learning rate so that it can be continued."""
    changes = {"train.max_steps": 6, "train.evaluate_every_steps": 3, "optimizer.schedule": "constant"}
    config = make_config({**changes, "train.log_every_steps": 1, "run.sample_tokens": 3, "model.num_layers": 1})
    launch.train(config, launch.in_process)
    return config


@many(300, 6_000)
def test_a_damaged_checkpoint_is_refused_or_unaffected(trained: Config, number: int) -> None:
    folder = checkpoint.find(str(trained.run.directory), "last")

    def numbers() -> str:
        loaded = checkpoint.load_model(folder)
        tokenizer, state = loaded.tokenizer.fingerprint, checkpoint.load_state(folder)
        weights = dict(loaded.model.state_dict())
        return digest([weights, tokenizer, configuration.dump(loaded.config), loaded.manifest, state])

    outcomes = flip(folder, number, numbers)
    assert outcomes[REFUSED] > 0.99 * number


@many(100, 3_000)
def test_a_damaged_best_checkpoint_is_refused_or_unaffected(trained: Config, number: int) -> None:
    run = Path(str(trained.run.directory))

    def numbers() -> str:
        loaded = checkpoint.load_model(run)
        return digest([str(loaded.path), dict(loaded.model.state_dict()), loaded.manifest])

    outcomes = flip(run / "checkpoints", number, numbers)
    # the weights and states of other checkpoints do not matter here
    assert outcomes[REFUSED] > 0.4 * number
    assert outcomes[NO_EFFECT] > 0.1 * number


@many(10, 400)
def test_a_damaged_run_is_continued_to_the_same_end(trained: Config, tmp_path: Path, number: int) -> None:
    """Whatever is damaged before it is continued, the longer run ends with the same numbers."""
    run, copy, source = Path(str(trained.run.directory)), tmp_path / "copy", random.Random(number)
    (run / "failures.jsonl").write_text(
        '{"kind": "warning", "step": 3, "record": 1, "time": 1.5, "text": "worker 1"}\n'
    )
    (run / "lock").write_text("x")
    (run / "stop").write_text("x")
    longer = configuration.with_values(trained, {"train.max_steps": 9})

    def go_on() -> tuple[Any, list[Any], list[str]]:
        result = launch.train(longer, launch.in_process)
        state = checkpoint.load_state(Path(result["checkpoint"]))
        weights = dict(checkpoint.load_model(result["checkpoint"]).model.state_dict())
        records = list(read(run / "metrics.jsonl"))
        curve = [
            (r["kind"], r["step"], r.get("loss"), r.get("text")) for r in records if r["kind"] in ("train", "valid")
        ]
        warnings = [record["text"] for record in records if record["kind"] == "warning"]
        del result["seconds"]
        return digest([result, state, weights]), curve, warnings

    shutil.copytree(run, copy)
    expected, whole_curve, _ = go_on()
    files = [path.relative_to(copy) for path in files_of(copy)]
    outcomes = Counter[str]()
    for index in range(number):
        file = run / files[index * 7 % len(files)]
        shutil.rmtree(run)
        shutil.copytree(copy, run)
        data = file.read_bytes()
        file.write_bytes(flipped(data, source.randrange(8 * len(data))))
        found, curve, warnings = go_on()
        assert found == expected, file
        if curve != whole_curve:  # points can only be missing
            rest = iter(whole_curve)
            assert all(point in rest for point in curve), file
        told = [text for text in warnings if file.name in text]
        assert told or curve == whole_curve, file
        outcomes[SET_ASIDE if told else NO_EFFECT] += 1
    print(f"\n{number:,} bits of {len(files)} files: {dict(outcomes)}")
    assert outcomes[SET_ASIDE]


@many(300, 6_000)
def test_a_damaged_corpus_is_refused_or_unaffected(make_config: Callable[..., Config], number: int) -> None:
    config = make_config({"data.shard_tokens": 4_000})
    prepare_in_process(config)
    known = Path(str(config.data.directory)) / STATE
    states, source = known.read_bytes(), random.Random(number)
    known.unlink()

    def numbers() -> str:
        # each time the texts are compared with their stored digests
        corpus = find_prepared(
            config, wanted_corpus(config), map_tasks=in_process, say=lambda sentence: None, writes=False
        )
        assert corpus is not None
        tokens = {name: (split[:].tobytes(), split.document_starts(0, len(split)).tobytes(), split.num_bytes)
                  for name, split in corpus.splits.items()}  # fmt: skip
        return digest([corpus.fingerprint, corpus.tokenizer.serialized, tokens])

    outcomes = flip(Path(str(config.data.directory)), number, numbers)
    assert outcomes[REFUSED] > 0.9 * number  # the rest are in what Arrow writes around the tokens
    # and flip bits in the note that the texts need not be compared again
    expected = numbers()
    for _ in range(number // 20):
        known.write_bytes(flipped(states, source.randrange(8 * len(states))))
        assert numbers() == expected


@many(12, 300)
def test_a_damaged_interrupted_preparation_is_completed(
    make_config: Callable[..., Config], tmp_path: Path, number: int
) -> None:
    """Without its manifest, a preparation is continued and makes everything damaged again."""
    config = make_config({"data.shard_tokens": 4_000})
    prepare_in_process(config)
    data, copy, source = Path(str(config.data.directory)), tmp_path / "copy", random.Random(number)

    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in files_of(data) if path.name != STATE}

    expected = content()
    (data / "manifest.json").unlink()
    shutil.copytree(data, copy)
    files = sorted(expected.keys() - {"manifest.json"})
    for index in range(number):
        shutil.rmtree(data)
        shutil.copytree(copy, data)
        name = files[index % len(files)]
        (data / name).write_bytes(flipped(expected[name], source.randrange(8 * len(expected[name]))))
        prepare_in_process(config)
        assert content() == expected, name


@many(40, 400)
def test_damaged_owner_files_do_not_matter(tmp_path: Path, number: int) -> None:
    """A run's lock, owner and stop request are renewed at each start, whatever they held."""
    source = random.Random(number)
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        directory.config.write_text("x")
    for name in ("lock", "owner", "stop"):
        file = directory.path / name
        for _ in range(number // 4):
            file.write_bytes(source.randbytes(source.randrange(40)))
            with directory.locked():
                directory.check_owner()
                assert not directory.stop_requested()
