#!/usr/bin/env bash
# JobSubmissionClient connects to the cluster of the variable RAY_ADDRESS, whatever address it is given.
# Version: ray 2.60.0 (default).
# Guess: an argument that is written out wins over the environment, as with ray.init(address=...).
# Seen: JobSubmissionClient("http://127.0.0.1:2") with RAY_ADDRESS=http://127.0.0.1:1 tries to reach port 1, and its
# error names that address only. On a machine that has the variable set a job goes to another cluster than the one
# named.
# For us: jobs.submit sets RAY_API_SERVER_ADDRESS to the address that it was given, which wins over both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "ray[default]==2.60.0"
cd "$work"
RAY_ADDRESS=http://127.0.0.1:1 TMPDIR="$work" "$work/venv/bin/python" - <<'EOF'
from ray.job_submission import JobSubmissionClient

try:
    JobSubmissionClient("http://127.0.0.1:2")
except ConnectionError as error:
    print("asked for port 2:", error)
    assert "127.0.0.1:1" in str(error), error
    assert "127.0.0.1:2" not in str(error), error
else:
    raise SystemExit("nothing listens on either port, and yet it connected")
EOF
