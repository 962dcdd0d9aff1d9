"""The same bytes from Ray's workers as from this process, and mistakes in the workers' own words."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import config as configuration
from pipeline.cluster.prepare import prepare
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_ray_writes_the_same_bytes(make_config: Callable[..., Config], tmp_path: Path) -> None:
    here = make_config({"data.shard_tokens": 2048, "tokenizer.kind": "bpe", "tokenizer.vocab_size": 300})
    there = configuration.with_values(here, {"data.directory": str(tmp_path / "by Ray")})
    expected = prepare_in_process(here)
    done: list[int] = []
    totals: set[int] = set()

    def on_shard(entry: dict[str, int], total: int) -> None:
        done.append(entry["source_bytes"])
        totals.add(total)

    corpus = prepare(there, on_shard=on_shard)
    assert len(done) > 2
    assert totals == {sum(done)}
    assert corpus.fingerprint == expected.fingerprint
    files = {path.name: path.read_bytes() for path in Path(corpus.directory).iterdir()}
    assert files == {path.name: path.read_bytes() for path in Path(expected.directory).iterdir()}


def test_a_mistake_in_a_worker_is_one_sentence(make_config: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("good text\n" * 50)
    (tmp_path / "valid.txt").write_bytes(b"good\n\xff")
    config = make_config({"corpus.train": [str(tmp_path / "train.txt")], "corpus.valid": [str(tmp_path / "valid.txt")]})
    with pytest.raises(ValueError, match=r"valid\.txt: not UTF-8 at byte offset 5$"):
        prepare(config)
    assert not Path(str(config.data.directory)).exists()
