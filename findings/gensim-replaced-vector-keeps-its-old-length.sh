#!/usr/bin/env bash
# gensim's KeyedVectors divides a vector that was replaced by the length of the old one: cosines of 10 are the result.
# Version: gensim 4.4.0.
# Guess: after vectors["c"] = new, most_similar and similarity agree on the new vector.
# Seen: similarity("a", "c") is 0.995, while most_similar("a") puts "c" first with 10.0, and get_vector("c", norm=True)
# has a length of 10.05. Lengths are computed at the first most_similar and stay until fill_norms(force=True).
# For us: nothing here searches among vectors; it is for those who look at the embeddings of a model with gensim.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check gensim==4.4.0
cd "$work"
"$work/venv/bin/python" - <<'EOP'
import numpy as np
from gensim.models import KeyedVectors

vectors = KeyedVectors(2)
vectors.add_vectors(["a", "b", "c", "d"], np.array([[1, 0], [1, 0.1], [0, 1], [0.6, 0.8]], dtype="float32"))
vectors.most_similar("a")
vectors["c"] = np.array([10, 1], dtype="float32")
word, cosine = vectors.most_similar("a")[0]
length = np.linalg.norm(vectors.get_vector("c", norm=True))
print(f"most_similar: {word} {cosine:.3f}; similarity: {vectors.similarity('a', 'c'):.3f}; length of the unit {length:.2f}")
assert word == "c" and abs(cosine - 10) < 1e-4
assert abs(vectors.similarity("a", "c") - 0.995) < 1e-3
assert length > 10
vectors.fill_norms(force=True)
assert abs(dict(vectors.most_similar("a"))["c"] - 0.995) < 1e-3
EOP
