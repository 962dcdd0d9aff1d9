"""Files that survive full disks while they grow, and events as TensorBoard itself reads them."""

import errno
import os
import random
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c as theirs

from pipeline.events import EventFile, PatientFile, masked_crc32c


@pytest.mark.parametrize("seed", range(20))
def test_the_file_has_all_pieces_in_order_however_the_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    source, write = random.Random(seed), os.write

    def moody(descriptor: int, data: bytes) -> int:
        if source.random() < 0.6:
            raise OSError(source.choice([errno.ENOSPC, errno.EDQUOT, errno.EIO]), "no")
        return write(descriptor, data[: source.randint(1, len(data))])

    file = PatientFile(tmp_path / "lines")
    pieces = [b"%d\n" % n * source.randint(1, 20) for n in range(50)]
    monkeypatch.setattr(os, "write", moody)
    for piece in pieces:
        file.append(piece)
        assert bool(file.failure) == bool(file.waiting)
        assert b"".join(pieces).startswith((tmp_path / "lines").read_bytes())
    monkeypatch.setattr(os, "write", write)
    file.close()
    assert (tmp_path / "lines").read_bytes() == b"".join(pieces)
    assert (file.failure, file.num_lost, file.waiting_bytes) == ("", 0, 0)


def test_memory_is_bounded_and_only_whole_pieces_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, write = PatientFile(tmp_path / "lines", max_waiting_bytes=40), os.write
    num_calls = 0

    def full_after_three_bytes(descriptor: int, data: bytes) -> int:
        nonlocal num_calls
        num_calls += 1
        if num_calls > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:3])

    monkeypatch.setattr(os, "write", full_after_three_bytes)
    for n in range(100):
        file.append(b"line %03d\n" % n)  # 9 bytes
    assert file.waiting_bytes <= 40
    monkeypatch.setattr(os, "write", write)
    file.close()
    assert (tmp_path / "lines").read_text().split("\n") == [
        "line 000", "line 097", "line 098", "line 099", ""
    ]  # fmt: skip
    assert file.num_lost == 96


def test_a_file_whose_folder_is_missing_is_opened_later(tmp_path: Path) -> None:
    file = PatientFile(tmp_path / "folder" / "lines")
    file.append(b"a")
    assert file.failure == "No such file or directory"
    (tmp_path / "folder").mkdir()
    file.append(b"b")
    assert (tmp_path / "folder" / "lines").read_bytes() == b"ab"


def test_checksums_are_those_of_tensorboard() -> None:
    source = random.Random(1)
    for size in (0, 1, 8, 200):
        data = source.randbytes(size)
        assert masked_crc32c(data) == theirs(data)


def test_tensorboard_reads_curves_and_texts(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "run", purges=True)
    events.scalars([("loss/train", 0.5), ("lr", 2.0)], step=3, when=7.0)
    events.scalars([], step=4, when=8.0)
    events.text("sample", "    héllo\n    \ud800", step=5, when=9.0)
    events.finish()
    (path,) = (tmp_path / "run").iterdir()
    loaded = list(EventFileLoader(str(path)).Load())
    assert [event.file_version for event in loaded[:2]] == ["brain.Event:2"] * 2
    assert loaded[2].session_log.status == loaded[2].session_log.START
    curves, text = loaded[3:]
    assert (curves.step, curves.wall_time) == (3, 7.0)
    assert {value.tag: value.tensor.float_val[0] for value in curves.summary.value} == {"loss/train": 0.5, "lr": 2.0}
    (value,) = text.summary.value
    assert (text.step, value.tag, value.metadata.plugin_data.plugin_name) == (5, "sample/text_summary", "text")
    assert value.tensor.string_val[0].decode() == "    héllo\n    ?"
