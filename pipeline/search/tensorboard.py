"""A search on TensorBoard, beside the curves that each trial writes: the HPARAMS page, and the pictures.

    <run.directory>/tensorboard/                 the columns of HPARAMS, and the pictures as images
    <run.directory>/trials/<name>/tensorboard/   a trial: its curves by tokens, and its row of HPARAMS

TensorBoard takes the columns of HPARAMS, their types and their figures from one description if there is one, else from
the settings of some of the runs, which miss some settings if there are conditions.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.events import EventFile
from pipeline.files import telling_of_writes
from pipeline.search.domains import Domain
from pipeline.search.lives import Life
from pipeline.search.space import Space
from pipeline.search.standing import DONE, LOST, RUNNING, STOPPED, Trial
from pipeline.training.directory import RunDirectory

HPARAMS, SUMMARY = ".hparams", ".search"  # endings of the event files
EXPERIMENT, START, END = ("_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info")
BEST, TOKENS, LAST = "search/best_perplexity", "search/tokens", "perplexity/valid"
METRICS = {
    BEST: ("best perplexity", "The lowest validation perplexity of the trial: the one that counts."),
    LAST: ("last perplexity", "The last point of its curve."),
    TOKENS: ("tokens", "How far it was trained."),
}


def write_trial(folder: Path, trial: Trial, space: Space) -> None:
    """Write the row of ``trial``, whose run is in ``folder``, with the figures of its curves, over the former row.

    Raises:
        UnwritableError: the storage refuses it.
    """
    from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_RUNNING, STATUS_SUCCESS, STATUS_UNKNOWN
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo, SessionStartInfo

    best = min(trial.reports, key=lambda report: report["perplexity"], default=None)
    if best is None:
        return
    times = [report.get("time", time.time()) for report in trial.reports]
    start = SessionStartInfo(group_name=trial.name, start_time_secs=times[0])
    for path, value in Life.of(trial).now.items():
        set_value(start.hparams[path], str(value) if path in space and is_text(space[path]) else value)
    statuses = {DONE: STATUS_SUCCESS, STOPPED: STATUS_SUCCESS, LOST: STATUS_FAILURE, RUNNING: STATUS_RUNNING}
    last = trial.reports[-1]
    end = SessionEndInfo(status=statuses.get(trial.status, STATUS_UNKNOWN), end_time_secs=times[-1])
    directory = RunDirectory(folder).tensorboard
    with telling_of_writes(directory):
        events = replaced(directory, HPARAMS)
        events.summary(plugin_summary(START, session_start_info=start), when=times[0])
        events.scalars([(BEST, best["perplexity"])], step=best["tokens"], when=times[trial.reports.index(best)])
        events.scalars([(TOKENS, last["tokens"])], step=last["tokens"], when=times[-1])
        events.summary(plugin_summary(END, session_end_info=end), when=times[-1])
        events.finish()


def write_search(directory: Path, space: Space, pictures: Mapping[str, bytes], *, description: str = "") -> None:
    """Write the columns of HPARAMS for all trials of the search in ``directory``, and its ``pictures`` (PNG) by name.

    Raises:
        UnwritableError: as ``write_trial``.
    """
    from tensorboard.plugins.hparams.api_pb2 import DATASET_VALIDATION, Experiment, MetricInfo, MetricName

    metrics = [
        MetricInfo(name=MetricName(tag=tag), display_name=name, description=text, dataset_type=DATASET_VALIDATION)
        for tag, (name, text) in METRICS.items()
    ]
    columns = [column(path, domain) for path, domain in space.items()]
    experiment = Experiment(description=description, hparam_infos=columns, metric_infos=metrics)
    folder = directory / "tensorboard"
    with telling_of_writes(folder):
        events = replaced(folder, SUMMARY)
        events.summary(plugin_summary(EXPERIMENT, experiment=experiment))
        for name, png in pictures.items():
            events.summary(image(name, png))
        events.finish()


def replaced(folder: Path, ending: str) -> EventFile:
    """A new event file that replaces those with this ``ending``."""
    for former in folder.glob(f"*{ending}"):
        former.unlink(missing_ok=True)
    return EventFile(folder, ending=ending)


def column(path: str, domain: Domain) -> Any:
    """The column of HPARAMS for a setting: its type, and its values or bounds."""
    from tensorboard.plugins.hparams.api_pb2 import DATA_TYPE_BOOL, DATA_TYPE_FLOAT64, DATA_TYPE_STRING, HParamInfo

    info = HParamInfo(name=path, display_name=path, type=DATA_TYPE_FLOAT64)
    if domain.is_range:
        info.domain_interval.min_value, info.domain_interval.max_value = float(domain.low), float(domain.high)
        return info
    values = domain.arguments
    if all(isinstance(value, bool) for value in values):
        info.type = DATA_TYPE_BOOL
    elif is_text(domain):
        info.type = DATA_TYPE_STRING
        values = [str(value) for value in values]
    for value in values:
        set_value(info.domain_discrete.values.add(), value)
    return info


def is_text(domain: Domain) -> bool:
    """Whether the column of a setting holds text: a column of TensorBoard has one type."""
    values = domain.ends()
    return not all(map(is_number, values)) and not all(isinstance(value, bool) for value in values)


def set_value(target: Any, value: Any) -> None:
    """Put ``value`` into a ``google.protobuf.Value``; lists as text."""
    if isinstance(value, bool):
        target.bool_value = value
    elif is_number(value):
        target.number_value = value
    else:
        target.string_value = str(value)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def plugin_summary(tag: str, **content: Any) -> Any:
    """A summary for the HPARAMS plugin."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_FLOAT
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    data = HParamsPluginData(version=0, **content).SerializeToString()
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="hparams", content=data))
    nothing = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=0)]))
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=nothing)])


def image(name: str, png: bytes) -> Any:
    """A summary of a picture."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    width, height = struct.unpack(">II", png[16:24])
    shown = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=name, image=shown)])


def write_trials(folder: Path, trials: Sequence[Trial], space: Space) -> None:
    """``write_trial`` for each, in their folders below ``folder``."""
    for trial in trials:
        if (folder / trial.name).is_dir():
            write_trial(folder / trial.name, trial, space)
