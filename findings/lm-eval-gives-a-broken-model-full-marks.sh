#!/usr/bin/env bash
# A model that gives every sentence the same score, or NaN, has accuracy 1.0 on lm_eval's tasks of sentence pairs.
# Version: lm_eval 0.4.13, datasets 5.2.0.
# Guess: a tie counts as half right or as wrong, and NaN as wrong or as an error, so a model that knows nothing gets 0.5
# or less.
# Seen: the first choice wins ties and NaN; BLiMP's tasks, whose definition is used here, put the good sentence first.
# With the bad one first the same model gets 0.0.
# For us: unknown words make ties; pipeline/evaluate/pairs.py counts pairs itself, and reports how many were ties.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check lm_eval==0.4.13 datasets==5.2.0
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import json
import logging
import math
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = "cache"
os.environ["TQDM_DISABLE"] = "1"
from lm_eval import evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

logging.disable(logging.WARNING)
lines = [json.dumps({"sentence_good": f"the cats sleep {i}", "sentence_bad": f"the cats sleeps {i}"}) for i in range(9)]
Path("pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


class Constant(LM):
    def __init__(self, score):
        super().__init__()
        self.score = score

    def loglikelihood(self, requests):
        return [(self.score, False) for _ in requests]

    loglikelihood_rolling = generate_until = None


def accuracy(score, choices, target):
    task = {
        "task": "pairs",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": str(Path("pairs.jsonl").resolve())}},
        "validation_split": "validation",
        "output_type": "multiple_choice",
        "doc_to_text": "",
        "doc_to_choice": choices,
        "doc_to_target": target,
        "metric_list": [{"metric": "acc"}],
    }
    tasks = TaskManager(include_defaults=False).load([task])["tasks"]
    return evaluate(lm=Constant(score), task_dict=tasks, bootstrap_iters=0)["results"]["pairs"]["acc,none"]


good_first = {score: accuracy(score, "{{[sentence_good, sentence_bad]}}", 0) for score in (-5.0, -math.inf, math.nan)}
bad_first = {score: accuracy(score, "{{[sentence_bad, sentence_good]}}", 1) for score in good_first}
print(f"accuracy by the score of every sentence: good one first {good_first}, bad one first {bad_first}")
assert set(good_first.values()) == {1.0}
assert set(bad_first.values()) == {0.0}
EOF
