#!/usr/bin/env bash
# RecurrentGemma of transformers keeps its recurrent state in the model, not in the cache, so beams and texts mix.
# Version: transformers 5.24.0, torch 2.13.0 (CPU).
# Guess: the cache of a text is all that the model knows of it. Beam search reorders it, so the score of a sequence is
# the log-probability that the model gives it, with a cache or without; and two texts, each with a cache of its own, may
# be read in turn. Both hold for Mamba of the same library.
# Seen: beam search reorders the keys and values of the attention layers alone; the states of the recurrent layers stay
# where they were, so a beam continues with the state of another, and scores are not the model's. With use_cache=False
# they are. Read in turn, each text continues from the state of the other. There is no warning.
# For us: tests/export/test_hugging_face.py has an exported model write with beams; its state is in its cache.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    transformers==5.24.0 torch==2.13.0 numpy==2.4.6
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'EOF'
import torch
import transformers
from transformers import DynamicCache, MambaConfig, MambaForCausalLM, RecurrentGemmaConfig, RecurrentGemmaForCausalLM

transformers.logging.set_verbosity_error()
shared = {"vocab_size": 32, "hidden_size": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
torch.manual_seed(0)
gemma = RecurrentGemmaForCausalLM(
    RecurrentGemmaConfig(num_hidden_layers=3, intermediate_size=48, num_attention_heads=2, lru_width=16, **shared)
)
mamba = MambaForCausalLM(MambaConfig(num_hidden_layers=2, state_size=4, **shared))
for model in (gemma, mamba):
    model.eval()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.25)
first, second = torch.randint(2, 32, (2, 1, 8))


@torch.no_grad()
def error_of_the_scores(model, use_cache):
    how = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 12, "do_sample": False}
    output = model.generate(
        first,
        attention_mask=torch.ones_like(first),
        use_cache=use_cache,
        return_dict_in_generate=True,
        output_scores=True,
        length_penalty=0.0,
        **how,
    )
    predicted = model(output.sequences[:, :-1], use_cache=False).logits.log_softmax(-1)
    exact = predicted.gather(2, output.sequences[:, 1:, None])[:, -12:, 0].sum(1)
    return float((output.sequences_scores - exact).abs().max())


@torch.no_grad()
def error_in_turn(model):
    caches, logits = [DynamicCache(config=model.config) for _ in range(2)], []
    model(first[:, :4], cache=caches[0], use_cache=True)
    model(second[:, :4], cache=caches[1], use_cache=True)
    for place in range(4, 8):
        logits.append(model(first[:, place : place + 1], cache=caches[0], use_cache=True).logits)
        model(second[:, place : place + 1], cache=caches[1], use_cache=True)
    return float((torch.cat(logits, 1) - model(first, use_cache=False).logits[:, 4:]).abs().max())


for model in (gemma, mamba):
    errors = error_of_the_scores(model, True), error_of_the_scores(model, False), error_in_turn(model)
    print(f"{type(model).__name__}: scores of beams are off by {errors[0]:.1e}, without a cache by {errors[1]:.1e};")
    print(f"  logits of two texts read in turn by {errors[2]:.1e}")
    assert errors[1] < 1e-4
    assert (errors[0] > 0.01 and errors[2] > 0.01) if model is gemma else (errors[0] < 1e-4 and errors[2] < 1e-4)
EOF
