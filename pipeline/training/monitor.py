"""What a person watches: records of a run → metrics.jsonl → TensorBoard and the progress line.

metrics.jsonl is the record, one JSON object a line with its ``kind`` (start, running, train, valid, sample, warning,
profile, end), global ``step`` and unix ``time``. TensorBoard's files are drawn from it, anew at every start, so a run
that was stopped and continued is one clean line in any reader. Only rank 0 has a ``Monitor``.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from torch.utils.tensorboard import SummaryWriter

from pipeline.training.directory import RunDirectory
from pipeline.training.times import PHASES

Record = dict[str, Any]

SCALARS = {
    "train": {
        "loss": "loss/train",
        "perplexity": "perplexity/train",
        "lr": "optimizer/learning_rate",
        "grad_norm": "optimizer/gradient_norm",
        "clipped": "optimizer/clipped_share",
        "loss_scale": "optimizer/loss_scale",
        "tokens_per_second": "speed/tokens_per_second",
        "slowest_ratio": "speed/slowest_worker_ratio",
        "flops_utilization": "speed/model_flops_utilization",
        "peak_memory_mb": "memory/peak_mb",
        "peak_gpu_memory_mb": "memory/peak_gpu_mb",
        **{f"{phase}_ms": f"step_ms/{phase}" for phase in PHASES},
    },
    "valid": {"loss": "loss/valid", "perplexity": "perplexity/valid", "bits_per_byte": "bits_per_byte/valid"},
}


class Monitor:
    """Appends records to a run's metrics file and draws them for TensorBoard."""

    def __init__(
        self, directory: RunDirectory, *, step: int, on_record: Callable[[Record], None] | None = None
    ) -> None:
        """Continue the record of ``directory`` after ``step``; later lines, of work that was lost, are dropped."""
        self.directory = directory
        self.on_record = on_record
        kept = [record for record in read(directory.metrics) if record["step"] <= step and record["kind"] != "end"]
        rewritten = directory.metrics.with_suffix(".tmp")
        rewritten.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        rewritten.replace(directory.metrics)
        shutil.rmtree(directory.tensorboard, ignore_errors=True)
        # purge_step tells a TensorBoard that is already open to forget what it has of this folder
        self.writer = SummaryWriter(str(directory.tensorboard), purge_step=0)
        for record in kept:
            self._draw(record)
        self.stream: TextIO = directory.metrics.open("a", encoding="utf-8")

    def write(self, kind: str, *, step: int, **values: Any) -> None:
        """Add one record and pass it to ``on_record``; numbers that are not finite become null, as JSON has none.

        Raises:
            LostOwnershipError: as ``RunDirectory``.
        """
        self.directory.check_owner()
        record = {"kind": kind, "step": step, "time": time.time(), **{n: in_json(v) for n, v in values.items()}}
        self.stream.write(json.dumps(record) + "\n")
        self.stream.flush()
        self._draw(record)
        if self.on_record is not None:
            self.on_record(record)

    def close(self) -> None:
        self.stream.close()
        self.writer.close()

    def _draw(self, record: Mapping[str, Any]) -> None:
        step, when = record["step"], record["time"]
        for name, tag in SCALARS.get(record["kind"], {}).items():
            if record.get(name) is not None:
                self.writer.add_scalar(tag, record[name], step, when)
        if record["kind"] == "sample":
            self.writer.add_text("sample", "    " + record["text"].replace("\n", "\n    "), step, when)
        if record["kind"] == "valid":
            self.writer.flush()


def in_json(value: Any) -> Any:
    """``value``, or None for a number that JSON cannot say."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(path: Path) -> Iterator[Record]:
    """The records of a metrics file; a last line cut short by a kill is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue


class Tail:
    """New records of a metrics file that another process writes, whole lines only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.latest = time.time()
        self.inode = 0
        self.offset = 0

    def records(self) -> list[Record]:
        """Records written since the last call; those that a restart copies into its new file come only once."""
        try:
            with self.path.open("rb") as stream:
                inode = os.fstat(stream.fileno()).st_ino
                if inode != self.inode:
                    self.inode, self.offset = inode, 0
                stream.seek(self.offset)
                lines = stream.read()
        except FileNotFoundError:
            return []
        whole = lines[: lines.rfind(b"\n") + 1]
        self.offset += len(whole)
        fresh = [r for r in map(json.loads, whole.splitlines()) if r["time"] > self.latest]
        if fresh:
            self.latest = fresh[-1]["time"]
        return fresh


def write_hparams(directory: RunDirectory, settings: Mapping[str, Any], *, perplexity: float) -> None:
    """Add a run's settings and its best validation perplexity to TensorBoard's HPARAMS page."""
    shown = {
        name: value if isinstance(value, (int, float, bool, str)) else str(value) for name, value in settings.items()
    }
    with SummaryWriter(str(directory.tensorboard)) as writer:
        writer.add_hparams(shown, {"hparam/perplexity": perplexity}, run_name=".")
