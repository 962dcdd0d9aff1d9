#!/usr/bin/env bash
# Ray Tune's ASHA no longer stops any trial once half of those at a rung have an infinite loss.
# Version: ray 2.60.0 (tune), numpy 2.4.6.
# Guess: infinity is the worst of all figures, so trials that diverged are the first to go.
# Seen: the cut-off is interpolated between two infinite figures, which is NaN, and nothing compares as worse than NaN:
# all continue to the end, the diverged ones too. If they diverge to large finite losses, they are cut off.
# For us: a trial that diverges must end, or report a finite figure to the scheduler.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "ray[tune]==2.60.0" numpy==2.4.6
cd "$work"
TMPDIR="$work" "$work/venv/bin/python" - <<'EOF'
import math
import os

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler


def train(config):
    for _ in range(4):
        tune.report({"loss": config["loss"]})


def steps_of(losses):
    scheduler = ASHAScheduler(max_t=4, grace_period=1, reduction_factor=2)
    tuner = tune.Tuner(
        train,
        param_space={"loss": tune.grid_search(losses)},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", scheduler=scheduler, max_concurrent_trials=1, reuse_actors=True
        ),
        run_config=tune.RunConfig(storage_path=os.path.abspath("results"), verbose=0),
    )
    return [result.metrics["training_iteration"] for result in tuner.fit()]


ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
good = [1.0, 2.0, 3.0, 4.0]
found = {str(bad + good): steps_of(bad + good) for bad in ([1e10, 1e11, 1e12, 1e13], [math.inf] * 4)}
ray.shutdown()
for losses, steps in found.items():
    print(f"losses of the trials {losses}, steps they were given {steps}")
finite, infinite = found.values()
assert finite[1:4] == [1, 1, 1]
assert infinite == [4] * 8
EOF
