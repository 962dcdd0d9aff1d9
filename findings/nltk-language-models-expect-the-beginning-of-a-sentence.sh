#!/usr/bin/env bash
# NLTK's n-gram models give part of the probability of the next word to <s>, which only begins a sentence.
# Version: nltk 3.9.2.
# Guess: <s> is context only, as in SRILM and KenLM, so the words and </s> share a probability of 1, and a unigram model
# of the one sentence "a b" gives a, b and </s> 1/3 each.
# Seen: padded_everygram_pipeline of order 3 pads with two <s> and two </s>, and each of them counts as an event. a has
# 1/6 and <s> 1/3; after one <s> the next token is another <s> with probability 1/2. Smoothed models fall back on these:
# on four short sentences Witten-Bell leaves 0.76 of the probability for what can follow, so its perplexity is higher
# than that of the same model in other tools.
# For us: jobs.ngram counts <s> as context alone; its .arpa files are read back by KenLM.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check nltk==3.9.2
cd "$work"
"$work/venv/bin/python" - <<'EOF'
from nltk.lm import MLE, WittenBellInterpolated
from nltk.lm.preprocessing import padded_everygram_pipeline


def fitted(kind, sentences):
    model = kind(3)
    model.fit(*padded_everygram_pipeline(3, [sentence.split() for sentence in sentences]))
    return model


one = fitted(MLE, ["a b"])
print(f"unigrams of 'a b': a {one.score('a'):.3f}, <s> {one.score('<s>'):.3f}; <s> after <s> {one.score('<s>', ['<s>'])}")
assert abs(one.score("a") - 1 / 6) < 1e-12
assert abs(one.score("<s>") - 1 / 3) < 1e-12
assert one.score("<s>", ["<s>"]) == 0.5
four = fitted(WittenBellInterpolated, ["the cat sat on the mat", "the dog sat on the cat", "a dog ran", "the mat ran"])
left = sum(four.score(word) for word in four.vocab if word != "<s>")
print(f"Witten-Bell: probability of all that can come {left:.4f}")
assert abs(left - 0.7647) < 1e-4
EOF
