#!/usr/bin/env bash
# sacrebleu.corpus_bleu leaves out, without a word, all sentences beyond the end of the shortest list.
# Version: sacrebleu 2.6.0.
# Guess: an error, as a translation, or one of several references, is missing for some of the sentences.
# Seen: one hypothesis with three references has a BLEU of 100, and so have three hypotheses, two of them wrong, if one
# of two lists of references has a single line. So a file of outputs that was cut off may get a better score.
# For us: jobs.evaluate --bleu has a text and a reference for each of its prompts, so neither list can be the longer one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check sacrebleu==2.6.0
cd "$work"
"$work/venv/bin/python" - <<'EOF'
from sacrebleu import corpus_bleu

right = ["the cat sat on the mat .", "a dog ran over the green hill .", "it was cold and late at night ."]
wrong = [right[0], "they never saw such a thing here", "we went to market with two pigs"]
whole = corpus_bleu(wrong, [right]).score
cut_off = corpus_bleu(right[:1], [right]).score
one_short = corpus_bleu(wrong, [right, right[:1]]).score
print(f"BLEU of three outputs {whole:.1f}, of the first of three {cut_off:.1f}, with one reference cut off {one_short:.1f}")
assert whole < 60
assert round(cut_off, 6) == round(one_short, 6) == 100
EOF
