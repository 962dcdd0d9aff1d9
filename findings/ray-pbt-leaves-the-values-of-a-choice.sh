#!/usr/bin/env bash
# Ray Tune's population based training multiplies a tune.choice by 1.2 or 0.8: it trains with values outside the choice.
# Version: ray 2.60.0 (tune).
# Guess: tune.choice([32, 64, 128]) in hyperparam_mutations is a set; a mutation draws from it or moves within it.
# Seen: a batch of 128 becomes 154 or 102, and the trial runs with that. Only a plain list is a set there, unlike in
# param_space, where a plain list is one fixed value. A comment in a docstring's example mentions it; nothing warns.
# For us: a search space of ours must have its choices turned into lists before it is given to Ray's scheduler.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "ray[tune]==2.60.0" numpy==2.4.6
cd "$work"
TMPDIR="$work" "$work/venv/bin/python" - <<'EOF'
import os
from pathlib import Path

import ray
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

BATCHES = [32, 64, 128]


class Train(tune.Trainable):
    def setup(self, config):
        self.batch = config["batch"]

    def reset_config(self, config):
        self.batch = config["batch"]
        return True

    def step(self):
        return {"score": self.batch, "batch": self.batch}

    def save_checkpoint(self, directory):
        Path(directory, "empty").touch()

    def load_checkpoint(self, directory):
        pass


def batches_of(mutation):
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        metric="score",
        mode="max",
        perturbation_interval=2,
        hyperparam_mutations={"batch": mutation},
        resample_probability=0.0,
        quantile_fraction=0.5,
        synch=True,
    )
    results = tune.Tuner(
        Train,
        param_space={"batch": tune.grid_search(BATCHES)},
        tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=True),
        run_config=tune.RunConfig(stop={"training_iteration": 8}, storage_path=os.path.abspath("results"), verbose=0),
    ).fit()
    return sorted({int(batch) for result in results for batch in result.metrics_dataframe["batch"]})


ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
found = {"a list": batches_of(BATCHES), "tune.choice": batches_of(tune.choice(BATCHES))}
ray.shutdown()
print(f"batches that were trained with: {found}")
assert found["a list"] == BATCHES
assert set(found["tune.choice"]) - set(BATCHES)
EOF
