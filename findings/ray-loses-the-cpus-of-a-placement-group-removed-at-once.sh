#!/usr/bin/env bash
# Ray counts the CPUs of a placement group as taken for ever if the group is removed while Ray is making it.
# Version: ray 2.60.0.
# Guess: removing a placement group gives back what it holds, at whatever moment.
# Seen: one cluster, one node, no actor or task: of 200 groups of 0.01 CPU, each removed within 4 ms, the CPUs of 1 to
# 29 never come back (five runs, the machine busy with other work). All are listed as REMOVED, and groups that need
# those CPUs wait for ever. Groups removed after wait() has reported them ready all give theirs back.
# For us: Tune asks for such a group for each trial and withdraws the request if it reuses a process, so a search could
# leave a cluster with one CPU less; it now waits for a moment before it removes a group
# (pipeline/cluster/placement.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "ray==2.60.0"
cd "$work"
TMPDIR="$work" "$work/venv/bin/python" - <<'EOF'
import random
import time

import ray
from ray.util import placement_group, placement_group_table, remove_placement_group

NUM_GROUPS, CPUS, MOST_ROUNDS = 200, 0.01, 15


def lost(source, *, waits):
    """How many groups' CPUs are not back 20 s after all were removed."""
    before = ray.available_resources()["CPU"]
    for _ in range(NUM_GROUPS):
        group = placement_group([{"CPU": CPUS}])
        if waits:
            assert group.wait(30)
        time.sleep(source.random() / 250)
        remove_placement_group(group)
    give_up = time.monotonic() + 20
    while (missing := before - ray.available_resources()["CPU"]) > CPUS / 2 and time.monotonic() < give_up:
        time.sleep(0.1)
    return round(missing / CPUS)


ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
source = random.Random(1)
after_waiting = lost(source, waits=True)
for number in range(1, MOST_ROUNDS + 1):
    if at_once := lost(source, waits=False):
        break
states = {group["state"] for group in placement_group_table().values()}
ray.shutdown()
print(f"of {NUM_GROUPS} groups lost, when removed after wait(): {after_waiting}; within 4 ms: {at_once} (round {number})")
assert after_waiting == 0
assert at_once > 0
assert states == {"REMOVED"}
EOF
