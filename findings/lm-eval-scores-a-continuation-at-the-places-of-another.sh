#!/usr/bin/env bash
# lm_eval gives a continuation a wrong log-likelihood if another request divides the same text at an earlier place.
# Version: lm_eval 0.4.13, transformers 5.24.0, torch 2.13.0.
# Guess: the log-likelihood of a continuation after its context does not depend on what else is asked, batches apart.
# Seen: requests whose texts are equal but for the last token are read once, and the scores of the shorter continuation
# are taken from where the longer one begins: the log-probabilities of its tokens at places before them. Whether it is
# the likeliest text is looked up at the right places. Pull request 2987 (2025) chose the longer one, to end a crash.
# It happens where two items share a text and divide it differently: "The cat" + " sees a dog", "The cat sees" + " a dog".
# For us: --model recurray (pipeline/export/lm_eval.py) scores each request by itself; with hf, logits_cache=False.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    'lm_eval[hf]==0.4.13' transformers==5.24.0 torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import logging
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

logging.disable(logging.WARNING)
engine = Tokenizer(models.BPE({letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
engine.decoder = decoders.ByteLevel()
engine.add_special_tokens(["<s>"])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=engine, bos_token="<s>", eos_token="<s>", pad_token="<s>")
torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(vocab_size=257, n_embd=16, n_layer=1, n_head=2, bos_token_id=256, eos_token_id=256))
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.5)
model.eval()


def scores(pairs, **options):
    scorer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu", **options)
    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    return [round(log_p, 3) for log_p, _ in scorer.loglikelihood(asked, disable_tqdm=True)]


pairs = [("The cat", " sees a dog"), ("The cat sees", " a dog")]
alone = [scores([pair])[0] for pair in pairs]
together = scores(pairs)
without = scores(pairs, logits_cache=False)
with torch.no_grad():
    ids = torch.tensor(tokenizer("The cat sees a dog").input_ids)
    log_p = model(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
exact = [round(float(log_p[-len(text) :].sum()), 3) for _, text in pairs]
print(f"exact {exact}\nasked alone {alone}\ntogether {together}\ntogether, logits_cache=False {without}")
assert all(abs(a - b) < 0.01 for a, b in zip(alone + without, exact + exact))
assert abs(together[0] - exact[0]) < 0.01 < 1 < abs(together[1] - exact[1])
EOF
