#!/usr/bin/env bash
# A user-defined symbol of SentencePiece with a blank in it gets an id, but no text is ever encoded as that id.
# Version: sentencepiece 0.2.3.
# Guess: user_defined_symbols=["new york"] keeps "new york" whole, as "<x>" is kept.
# Seen: the trainer accepts it and gives it an id, but texts are matched after blanks have become "▁", and the symbol
# keeps its blank: it never matches, in unigram and BPE models alike. One type of the vocabulary is dead, without a
# warning.
# For us: ids are those of the package itself (pipeline/data/tokenizer/sentencepiece.py), dead types included.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check sentencepiece==0.2.3
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import io

import sentencepiece

for kind in ("unigram", "bpe"):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the new york river and the ship at new york"] * 20),
        model_writer=model,
        model_type=kind,
        vocab_size=40,
        hard_vocab_limit=False,
        user_defined_symbols=["new york", "<x>"],
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    symbol = processor.piece_to_id("new york")
    pieces = processor.encode("at new york <x>", out_type=str)
    print(kind, "id of the symbol:", symbol, "pieces:", pieces)
    assert processor.id_to_piece(symbol) == "new york"
    assert "<x>" in pieces
    for text in ("at new york", "new york", "atnew yorkat"):
        assert symbol not in processor.encode(text)
EOF
