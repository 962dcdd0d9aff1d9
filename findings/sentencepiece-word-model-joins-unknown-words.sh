#!/usr/bin/env bash
# A word model of SentencePiece gives neighbouring unknown words ONE <unk>, so a text has fewer tokens than words.
# Version: sentencepiece 0.2.3.
# Guess: model_type="word" is a table of words: as many ids as words, an unknown one is <unk>.
# Seen: a run of unknown words is one id, whatever its length. A figure per token is then not one per word, and ids do
# not line up with words. (Unigram and BPE merge unknown characters in this way, but keep the blanks between words.)
# For us: word tokenizers of our own (pipeline/data/tokenizer) give each word an id; a SentencePiece model's are kept.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check sentencepiece==0.2.3
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import io

import sentencepiece

model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["the river and the ship"] * 20),
    model_writer=model,
    model_type="word",
    vocab_size=7,
    minloglevel=2,
)
processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
unknown = processor.unk_id()
found = {}
texts = ("the ship and the river", "the tide and the river", "the low tide and the river", "a very low spring tide")
for text in texts:
    found[text] = processor.encode(text)
    print(f"{text!r}: {len(text.split())} words, {len(found[text])} ids, {found[text].count(unknown)} unknown")
assert len(found["the ship and the river"]) == len(found["the tide and the river"]) == 5
assert found["the low tide and the river"] == found["the tide and the river"]  # 6 words
assert found["a very low spring tide"] == [unknown]
EOF
