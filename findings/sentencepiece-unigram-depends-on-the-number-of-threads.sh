#!/usr/bin/env bash
# The Unigram vocabulary that SentencePiece learns may depend on num_threads.
# Version: sentencepiece 0.2.3 (the text is source code of numpy 2.4.6).
# Guess: threads share out the work; the same text and options give the same model, as they do for BPE.
# Seen: some pieces and the number of tokens of the text change with the number of threads, though not from one training
# to the next with the same number. (On a small or very regular text nothing changes.)
# For us: perplexities per token can be compared only for one and the same model file, never for a model trained again
# elsewhere.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check sentencepiece==0.2.3 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import io
from pathlib import Path

import numpy
import sentencepiece

package = Path(numpy.__file__).parent
files = ("lib/_function_base_impl.py", "_core/fromnumeric.py", "_core/numeric.py", "ma/core.py")
lines = [line for name in files for line in (package / name).read_text(encoding="utf-8").splitlines()]


def pieces_and_tokens(model_type, threads):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type=model_type,
        num_threads=threads,
        vocab_size=2000,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = frozenset(processor.id_to_piece(i) for i in range(len(processor)))
    return pieces, sum(map(len, processor.encode(lines)))


found = {}
for model_type in ("bpe", "unigram"):
    for threads in (1, 2, 4):
        pieces, tokens = found[model_type, threads] = pieces_and_tokens(model_type, threads)
        others = len(pieces - found[model_type, 1][0])
        print(f"{model_type}, {threads} threads: {tokens} tokens, {others} of 2000 pieces are not those of one thread")
assert found["unigram", 4] == pieces_and_tokens("unigram", 4)
assert len({found["bpe", threads] for threads in (1, 2, 4)}) == 1
assert len({found["unigram", threads] for threads in (1, 2, 4)}) > 1
EOF
