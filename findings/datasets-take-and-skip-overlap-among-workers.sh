#!/usr/bin/env bash
# In datasets, take(n) and skip(n) of a streamed dataset overlap as soon as what is skipped is read by several processes.
# Version: datasets 5.2.0.
# Guess: ds.take(8) for validation and ds.skip(8) for training have no row in common, however many nodes or workers
# read the training part.
# Seen: split_dataset_by_node(ds.skip(8), rank, 2) skips 4 rows in each of the two nodes' own shards. Of 40 rows in 4
# shards, rows 4 to 7 are in both parts, and rows 10 to 13 in neither. Read by one process, the parts are disjoint.
# For us: splits are cut while a corpus is prepared, by file, by document or by place in the text, not by counts of rows.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0
cd "$work"
export HF_HOME=$work/cache HF_HUB_OFFLINE=1
"$work/venv/bin/python" - <<'EOP'
from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node


def rows(shards):
    for shard in shards:
        for row in range(10):
            yield {"number": shard * 10 + row}


dataset = IterableDataset.from_generator(rows, gen_kwargs={"shards": [0, 1, 2, 3]})
held_out, training = dataset.take(8), dataset.skip(8)
valid = {row["number"] for row in held_out}
alone = {row["number"] for row in training}
of_two = {row["number"] for rank in range(2) for row in split_dataset_by_node(training, rank, 2)}
print("one process: in both parts", sorted(valid & alone), "in neither", sorted(set(range(40)) - valid - alone))
print("two nodes:   in both parts", sorted(valid & of_two), "in neither", sorted(set(range(40)) - valid - of_two))
assert not valid & alone and valid | alone == set(range(40))
assert sorted(valid & of_two) == [4, 5, 6, 7]
assert sorted(set(range(40)) - valid - of_two) == [10, 11, 12, 13]
EOP
