#!/usr/bin/env bash
# pyarrow.compute.binary_join_element_wise cannot join large strings with a separator given as a Python str.
# Version: pyarrow 26.0.1.
# Guess: " " is converted to the type of the columns, as in if_else, fill_null and equal, and as it is for columns of
# string.
# Seen: ArrowNotImplementedError, no kernel for (large_string, large_string, string); the separator has to be
# pa.scalar(" ", pa.large_string()). What polars or pandas 3 hands to Arrow has large strings, so a step that joins two
# fields of a record (a title and its text) works on one table but not on the same table from elsewhere.
# For us: pipeline/ngram/arpa.py passes its separator as a large string.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check pyarrow==26.0.1
"$work/venv/bin/python" - <<'EOF'
import pyarrow as pa
import pyarrow.compute as pc

for type_ in (pa.string(), pa.large_string()):
    column = pa.array(["a", None], type_)
    assert pc.if_else(pa.array([True, False]), column, " ").type == type_
    assert pc.fill_null(column, " ").type == type_
    assert pc.equal(column, "a").to_pylist() == [True, None]
    try:
        print(f"{type_}: {pc.binary_join_element_wise(column, column, ' ').to_pylist()}")
        assert type_ == pa.string()
    except pa.ArrowNotImplementedError as error:
        print(f"{type_}: {error}")
        assert type_ == pa.large_string()
column = pa.array(["a", None], pa.large_string())
assert pc.binary_join_element_wise(column, column, pa.scalar(" ", pa.large_string())).to_pylist() == ["a a", None]
EOF
