"""Append to files even while the storage fails: lines of a record, and TensorBoard's events.

What the storage refuses waits in memory and is written later, in order; callers need not care.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING

from pipeline.files import reason

MAX_WAITING_BYTES = 32 << 20
FILE_VERSION = "brain.Event:2"
NUMBERS = count()  # for the names of this process's event files


class PatientFile:
    """Appends pieces to a file. It raises no ``OSError``: ``failure`` says what the storage answered last."""

    def __init__(
        self,
        path: Path,
        *,
        before_write: Callable[[], None] = lambda: None,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        """``before_write`` may refuse a write: its ``OSError`` counts as the file's, anything else is raised."""
        self.path = path
        self.before_write = before_write
        self.max_waiting_bytes = max_waiting_bytes
        self.failure = ""  # empty: all is written
        self.num_lost = 0  # pieces given up because too many were waiting, the oldest first
        self.waiting: deque[bytes] = deque()
        self.waiting_bytes = 0
        self.is_cut = False  # the first waiting piece is the rest of one that was partly written
        self.descriptor: int | None = None

    def append(self, piece: bytes) -> None:
        """Write ``piece`` after all that is waiting, or let it wait, too."""
        self.waiting.append(piece)
        self.waiting_bytes += len(piece)
        self.flush()
        while self.waiting_bytes > self.max_waiting_bytes and len(self.waiting) > 1 + self.is_cut:
            self.waiting_bytes -= len(self.waiting[self.is_cut])
            del self.waiting[self.is_cut]
            self.num_lost += 1

    def flush(self) -> None:
        """Write what is waiting, as far as the storage accepts it."""
        try:
            self.before_write()
            if self.descriptor is None:
                self.descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            while self.waiting:
                num_written = os.write(self.descriptor, self.waiting[0])
                self.waiting_bytes -= num_written
                self.is_cut = num_written < len(self.waiting[0])
                if self.is_cut:
                    self.waiting[0] = self.waiting[0][num_written:]
                else:
                    self.waiting.popleft()
            self.failure = ""
        except OSError as error:
            self.failure = reason(error)
            self._release()  # after its storage was away, a file must be reopened

    def close(self) -> None:
        self.flush()
        self._release()

    def _release(self) -> None:
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            try:
                os.close(descriptor)
            except OSError as error:  # a network disk may report it only now
                self.failure = self.failure or reason(error)


class EventFile:
    """One process's event file for TensorBoard; when a call returns, its event is on the disk or waiting.

    TensorBoard's own writer hands events to a thread, which a full disk kills with all that it still holds, and
    importing it takes ten times as long.
    """

    def __init__(self, folder: Path, *, purges: bool = False, ending: str = "") -> None:
        """``purges`` tells a TensorBoard that is already open to forget what it has read from this folder.

        Raises ``OSError`` if ``folder`` cannot be created.
        """
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(NUMBERS)}"
        self.file = PatientFile(folder / f"{name}{ending}")
        self._add(Event(wall_time=time.time(), file_version=FILE_VERSION))
        if purges:
            self._add(Event(wall_time=time.time(), file_version=FILE_VERSION))
            self._add(Event(wall_time=time.time(), session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, values: Iterable[tuple[str, float]], *, step: int, when: float) -> None:
        """Add a point to the curve of each tag."""
        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values]
        if points:
            self.summary(Summary(value=points), step=step, when=when)

    def text(self, tag: str, text: str, *, step: int, when: float) -> None:
        """Add a text in Markdown."""
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        value = Summary.Value(
            tag=f"{tag}/text_summary",
            metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
            tensor=TensorProto(dtype=DT_STRING, string_val=[text.encode(errors="replace")], tensor_shape=shape),
        )
        self.summary(Summary(value=[value]), step=step, when=when)

    def summary(self, summary: Any, *, step: int = 0, when: float | None = None) -> None:
        """Add any ``Summary``, as ``torch.utils.tensorboard.summary`` makes them."""
        self._add(Event(wall_time=time.time() if when is None else when, step=step, summary=summary))

    def close(self) -> None:
        self.file.close()

    def finish(self) -> None:
        """``close`` a file that is useless unless complete. Raises ``OSError`` if it is not complete."""
        self.close()
        if self.file.failure:
            raise OSError(self.file.failure)

    def _add(self, event: Any) -> None:
        self.file.append(tf_record(event.SerializeToString()))


def tf_record(data: bytes) -> bytes:
    """Frame ``data`` as in a TFRecord file: length, its checksum, data, its checksum."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def _crc32c_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC32C = _crc32c_table()


def masked_crc32c(data: bytes) -> int:
    """Return the checksum of TFRecord files: CRC-32C (Castagnoli), rotated and offset: data may hold plain ones."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC32C[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
