#!/usr/bin/env bash
# A configuration of transformers keeps every keyword that it does not know, but drops use_cache and max_length.
# Version: transformers 5.24.0.
# Guess: PretrainedConfig(**kwargs) sets all that is left as attributes, so config.use_cache is what was passed.
# Seen: settings of generation vanish without a word; a model of one's own that reads config.use_cache then fails.
# For us: RecurrayConfig in pipeline/export/modeling_recurray.py names use_cache as a parameter of its own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check transformers==5.24.0
cd "$work"
"$work/venv/bin/python" - <<'EOF'
from transformers import PretrainedConfig

config = PretrainedConfig(anything=3, use_cache=True, max_length=77)
found = {name: getattr(config, name, "not there") for name in ("anything", "use_cache", "max_length")}
print(found)
assert found == {"anything": 3, "use_cache": "not there", "max_length": "not there"}
EOF
