#!/usr/bin/env bash
# RWKV of transformers, saved after it has read a text in evaluation mode, comes back as another model.
# Version: transformers 5.24.0, torch 2.13.0 (CPU).
# Guess: reading a text changes no weights, so save_pretrained and from_pretrained give the logits of the model that was
# saved, whenever it was saved. This is so before the first text.
# Seen: the first call in evaluation mode divides weights of the layers after the sixth by 2, 4, ... in place
# (rescale_every=6); the next call in training mode multiplies them again. The file gets the divided weights, and the
# model that is loaded from it divides them once more; each further round of loading, reading and saving does it again.
# To evaluate and then save is enough, which is the order of Trainer where it does both. There is no warning, a model of
# six layers shows nothing, and one with rescale_every=0 is right.
# For us: an exported model changes no weights when it reads, and no state either but that of the cache.
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
from transformers import RwkvConfig, RwkvForCausalLM

transformers.utils.logging.disable_progress_bar()
text = torch.arange(2, 22).unsqueeze(0)


def model_of(layers, **settings):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": layers}
    model = RwkvForCausalLM(RwkvConfig(vocab_size=32, **sizes, **settings)).eval()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@torch.no_grad()
def logits(model):
    return model(text).logits


def saved_and_loaded(model):
    model.save_pretrained("saved")
    return RwkvForCausalLM.from_pretrained("saved").eval()


def difference(first, second):
    return float((first - second).abs().max())


found = {}
for name, model in {
    "12 layers": model_of(12),
    "6 layers": model_of(6),
    "12 layers, rescale_every=0": model_of(12, rescale_every=0),
}.items():
    early = saved_and_loaded(model)
    exact = logits(model)
    late = saved_and_loaded(model)
    found[name] = [difference(logits(early), exact), difference(logits(late), exact)]
    model.train()
    logits(model)
    found[name].append(difference(logits(saved_and_loaded(model)), exact))
    print(f"{name}: saved before the first text, the logits are off by {found[name][0]:.1e}; saved after it, by")
    print(f"  {found[name][1]:.1e}; saved after a call in training mode, by {found[name][2]:.1e}")
    print(f"  (the standard deviation of the logits is {float(exact.std()):.1f})")
assert found["12 layers"][0] == 0 and found["12 layers"][1] > 0.1 and found["12 layers"][2] < 1e-3
assert found["6 layers"][:2] == found["12 layers, rescale_every=0"][:2] == [0, 0]
EOF
