#!/usr/bin/env bash
# Without bos_token=True, word_score_tokenized of minicons gives each word the scores of the tokens one place later.
# Version: minicons 0.3.39, transformers 5.24.0, torch 2.13.0.
# Guess: without a beginning the first token has no score, as in token_score, and every other word has its own.
# Seen: the missing first score is not allowed for, so a word's last token is the next word's first, and the last word
# lacks one. The figures look like surprisals; there is no warning.
# For us: docs/tools.md shows bos_token=True; pipeline/evaluate/surprisal.py scores words without minicons.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check minicons==0.3.39 transformers==5.24.0 torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import os

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from minicons import scorer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

engine = Tokenizer(models.BPE({letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
engine.decoder = decoders.ByteLevel()
engine.add_special_tokens(["<s>"])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=engine, bos_token="<s>", eos_token="<s>", pad_token="<s>")
torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(vocab_size=257, n_embd=16, n_layer=1, n_head=2, bos_token_id=256, eos_token_id=256))
scored = scorer.IncrementalLMScorer(model.eval(), "cpu", tokenizer=tokenizer)


def rounded(pairs):
    return [(name, round(score, 3)) for name, score in pairs]


tokens = rounded(scored.token_score(["ab cd"])[0])
words = rounded(scored.word_score_tokenized(["ab cd"], tokenize_function=str.split)[0])
with_bos = rounded(scored.word_score_tokenized(["ab cd"], tokenize_function=str.split, bos_token=True)[0])
print(f"tokens {tokens}\nwords {words}\nwords with bos_token=True {with_bos}")
scores = [score for _, score in tokens]  # a, b, space, c, d
own = {"ab": sum(scores[:2]), "cd": sum(scores[2:])}
moved = {"ab": sum(scores[1:3]), "cd": sum(scores[3:])}
for word, score in words:
    assert abs(score - moved[word]) < 0.01 < abs(score - own[word])
EOF
