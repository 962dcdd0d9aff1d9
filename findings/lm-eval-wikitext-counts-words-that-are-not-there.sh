#!/usr/bin/env bash
# The word perplexity of lm_eval's task wikitext counts two words more per page than the page has.
# Version: lm_eval 0.4.13.
# Guess: log-likelihoods are divided by the number of words, and "a b" has 2, whatever is around it.
# Seen: words are what re.split(r"\s+", page) returns. If a page begins and ends with white space, as lines of the raw
# WikiText do, the result has an empty string at each end. A page of 3 words counts as 5, and a model that gives each
# word a probability of 1/100 has a word perplexity of 15.8. On pages of thousands of words it hardly matters; on one's
# own short texts with the same task it does.
# For us: jobs.evaluate counts words itself, and docs compare perplexities per token or per byte.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check lm_eval==0.4.13
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'EOF'
import math

from lm_eval.tasks.wikitext.preprocess_wikitext import process_results


def word_perplexity(page, num_words):
    log_likelihood, weight = process_results({"page": page}, [num_words * math.log(1 / 100)])["word_perplexity"]
    return math.exp(-log_likelihood / weight), weight


bare, around = word_perplexity("the cat sat", 3), word_perplexity(" the cat sat \n", 3)
print(f"three words: counted as {bare[1]}, perplexity {bare[0]:.1f}; with white space around: {around[1]}, {around[0]:.1f}")
assert bare[1] == 3 and abs(bare[0] - 100) < 1e-6
assert around[1] == 5 and abs(around[0] - 100 ** (3 / 5)) < 1e-6
EOF
