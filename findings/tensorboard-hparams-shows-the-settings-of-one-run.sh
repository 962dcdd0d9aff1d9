#!/usr/bin/env bash
# The HPARAMS page has columns for the settings and figures of ONE run; what only other runs have is not shown.
# Version: tensorboard 2.21.0, torch 2.13.0 (SummaryWriter.add_hparams).
# Guess: the columns are those of all runs together, with empty fields where a run lacks one.
# Seen: each run writes a description of the experiment, and the first that is found is taken for all. In a search whose
# settings depend on one another (the window of a QRNN) columns are missing, and which ones depends on the order.
# For us: a search writes one description of the settings of all trials (pipeline/search/tensorboard.py); its
# leaderboard has all of them as well.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check tensorboard==2.21.0 torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment
from torch.utils.tensorboard import SummaryWriter

runs = {
    "one": {"cell": "lstm", "forget_bias": 1.0},
    "two": {"cell": "gru", "reset_after": True},
    "three": {"cell": "qrnn", "window": 2},
}
for name, settings in runs.items():
    with SummaryWriter(f"logs/{name}") as writer:
        writer.add_hparams(settings, {f"figure of {name}": 1.0}, run_name=".")

multiplexer = EventMultiplexer()
multiplexer.AddRunsFromDirectory("logs")
multiplexer.Reload()
provider = MultiplexerDataProvider(multiplexer, "logs")
context = backend_context.Context(TBContext(data_provider=provider, multiplexer=multiplexer, logdir="logs"))
request = api_pb2.GetExperimentRequest()
experiment = get_experiment.Handler(RequestContext(), context, "", request).run()
columns = {info.name for info in experiment.hparam_infos}
figures = [info.name.tag for info in experiment.metric_infos]
print(f"columns {sorted(columns)}, figures {figures}; runs {runs}")
shown = [name for name, settings in runs.items() if columns == set(settings)]
assert len(shown) == 1
assert figures == [f"figure of {shown[0]}"]
EOF
