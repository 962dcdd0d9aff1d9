#!/usr/bin/env bash
# The normalizer that tokenizers runs for SentencePiece models does not do what SentencePiece does with the same table.
# Version: tokenizers 0.23.3 (normalizers.Precompiled), sentencepiece 0.2.3.
# Guess: Precompiled applies the model's table of characters, so the normalized text is SentencePiece's.
# Seen: where a mark follows a character that the table maps, the mark is lost (an accent on a ligature, or on a
# no-break space), and what the table joins stays apart (half-width katakana with its sound mark, Hangul letters).
# For us: texts are encoded by SentencePiece's own package. pipeline/export/sentencepiece_engine.py has no other
# normalizer than this for transformers, so such texts may get other ids there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check tokenizers==0.23.3 sentencepiece==0.2.3 protobuf==7.36.2
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import io

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import normalizers

model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["a text to learn from"] * 20),
    model_writer=model,
    vocab_size=16,
    add_dummy_prefix=False,
    remove_extra_whitespaces=False,
    minloglevel=2,
)
spec = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue()).normalizer_spec
hugging_face = normalizers.Precompiled(spec.precompiled_charsmap)
original = sentencepiece.SentencePieceNormalizer(model_proto=model.getvalue())
texts = {
    "\ufb01": ("fi", "fi"),  # a ligature alone: the same
    "\ufb01\u0301": ("fi", "fi\u0301"),  # with an accent
    "\u00a0\u0301": (" ", " \u0301"),  # an accent shown by itself
    "\uff76\uff9e": ("\u30ab\u3099", "\u30ac"),  # half-width KA, voiced: GA
    "\u1112\u1161\u11ab": ("\u1112\u1161\u11ab", "\ud55c"),  # HAN in three letters
}
for text, (theirs, right) in texts.items():
    found = hugging_face.normalize_str(text), original.normalize(text).replace("\u2581", " ")
    print(f"{ascii(text)}: tokenizers {ascii(found[0])}, SentencePiece {ascii(found[1])}")
    assert found == (theirs, right)
EOF
