#!/usr/bin/env bash
# A trial whose last figure is NaN stays RUNNING in Optuna's study for ever when Ray's OptunaSearch drives it.
# Version: ray 2.60.0 (tune), optuna 5.0.0.
# Guess: it becomes FAIL, as in Optuna's own optimize, in line with Ray's result, which has ended.
# Seen: Ray ends the trial, Optuna refuses NaN, and only a warning is logged: the study keeps the trial as RUNNING, so
# whatever reads the study takes it for one that still runs. With infinity it becomes COMPLETE.
# For us: a trial that diverges must end with an error or a finite figure before a search algorithm sees it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "ray[tune]==2.60.0" optuna==5.0.0 numpy==2.4.6
cd "$work"
TMPDIR="$work" "$work/venv/bin/python" - <<'EOF'
import math
import os

import optuna
import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

optuna.logging.set_verbosity(optuna.logging.ERROR)
FIGURES = {"good": 1.0, "infinite": math.inf, "nan": math.nan}


def train(config):
    tune.report({"loss": FIGURES[config["kind"]]})


storage = optuna.storages.InMemoryStorage()
sampler = optuna.samplers.GridSampler({"kind": list(FIGURES)}, seed=0)
search = OptunaSearch(metric="loss", mode="min", sampler=sampler, storage=storage, study_name="of_ray")
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
results = tune.Tuner(
    train,
    param_space={"kind": tune.choice(list(FIGURES))},
    tune_config=tune.TuneConfig(search_alg=search, num_samples=3, max_concurrent_trials=1, reuse_actors=True),
    run_config=tune.RunConfig(storage_path=os.path.abspath("results"), verbose=0),
).fit()
ray.shutdown()
study = optuna.load_study(study_name="of_ray", storage=storage)
of_ray = {trial.params["kind"]: trial.state.name for trial in study.trials}

alone = optuna.create_study(sampler=optuna.samplers.GridSampler({"kind": list(FIGURES)}, seed=0))
alone.optimize(lambda trial: FIGURES[trial.suggest_categorical("kind", list(FIGURES))])
of_optuna = {trial.params["kind"]: trial.state.name for trial in alone.trials}
print(f"errors that Ray saw {results.num_errors}; states by Ray {of_ray}, by Optuna alone {of_optuna}")
assert results.num_errors == 0 and results.num_terminated == 3
assert of_ray == {"good": "COMPLETE", "infinite": "COMPLETE", "nan": "RUNNING"}
assert of_optuna == {"good": "COMPLETE", "infinite": "COMPLETE", "nan": "FAIL"}
EOF
