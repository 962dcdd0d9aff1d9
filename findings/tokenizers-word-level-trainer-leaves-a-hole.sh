#!/usr/bin/env bash
# A word-level vocabulary learnt from a text that holds its own special token has an id without a token.
# Version: tokenizers 0.23.3.
# Guess: in a text that contains <unk>, as Penn Treebank and WikiText do, the special token <unk> has id 0, and the ids
# of n types are 0 to n - 1.
# Seen: <unk> is counted as a word too and gets its id there; id 0 has no token any more. The ids run to
# get_vocab_size() itself: an embedding with that many rows has none for the rarest word, and fails when it occurs.
# For us: in a tokenizer file that is read the highest id counts, not the number of types, and jobs.export says that ids
# with gaps cannot be kept in a Hugging Face folder; our own vocabularies have <unk> once.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check tokenizers==0.23.3
cd "$work"
"$work/venv/bin/python" - <<'EOF'
from tokenizers import Tokenizer, models, pre_tokenizers, trainers


def learnt(text: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(text, trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    return tokenizer


for text in (["the cat saw the mat"], ["the cat saw the <unk>"]):
    tokenizer = learnt(text)
    read = Tokenizer.from_str(tokenizer.to_str())
    assert read.get_vocab() == tokenizer.get_vocab()
    ids = sorted(tokenizer.get_vocab().values())
    print(text, "types:", tokenizer.get_vocab_size(), "ids:", ids, "<unk>:", tokenizer.token_to_id("<unk>"),
          "token 0:", tokenizer.id_to_token(0))

plain, marked = learnt(["the cat saw the mat"]), learnt(["the cat saw the <unk>"])
assert sorted(plain.get_vocab().values()) == [0, 1, 2, 3, 4] and plain.token_to_id("<unk>") == 0
assert marked.get_vocab_size() == 4 and sorted(marked.get_vocab().values()) == [1, 2, 3, 4]
assert marked.id_to_token(0) is None and max(marked.encode("the cat saw").ids) == 4 == marked.get_vocab_size()
EOF
