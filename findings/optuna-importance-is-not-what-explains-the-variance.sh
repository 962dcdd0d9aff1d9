#!/usr/bin/env bash
# The importances that Optuna shows by default can be the opposite of fANOVA's for one and the same study.
# Version: optuna 5.0.0, scikit-learn 1.9.1.
# Guess: "hyperparameter importance" is the share of the figure's variance that a setting explains (fANOVA).
# Seen: the default is PED-ANOVA: what tells the best trials from the others. Where a wrong learning rate ruins a run,
# it causes nearly all of the variance, yet the default gives it under a hundredth. Even a constant figure gets shares.
# For us: a search's table of importances must name its method; compare with published ones only if that is fANOVA.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check optuna==5.0.0 scikit-learn==1.9.1
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import optuna
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

optuna.logging.set_verbosity(optuna.logging.ERROR)


def study_of(figure):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: figure(trial.suggest_float("rate", 0, 1), trial.suggest_float("dropout", 0, 1)), 300)
    return study


def shares(study, evaluator=None):
    return {name: round(float(share), 3) for name, share in get_param_importances(study, evaluator=evaluator).items()}


study = study_of(lambda rate, dropout: (10.0 if rate > 0.9 else 0.0) + dropout)
default, fanova = shares(study), shares(study, FanovaImportanceEvaluator(seed=0))
constant = shares(study_of(lambda rate, dropout: 1.0))
print(f"default {default}, fANOVA {fanova}, default for a constant figure {constant}")
assert default == shares(study, PedAnovaImportanceEvaluator())
assert default["rate"] < 0.05 and fanova["rate"] > 0.9
assert constant == {"rate": 0.5, "dropout": 0.5}
EOF
