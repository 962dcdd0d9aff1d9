"""nanoGPT's model and update written again in plain torch: ``model.positions: learned`` with a block must equal it.

Written from its description (Karpathy 2022, after Radford et al. 2019): learned positions, pre-norm without biases,
one product for queries, keys and values, exact GELU, a final norm, the embedding as output matrix; AdamW, clipped by
norm. Our head has a bias, so this one has one too. Letters: B streams, T time, H hidden, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.model.language_model import LanguageModel


class Block(nn.Module):
    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.ln_1, self.ln_2 = (nn.LayerNorm(size, bias=False) for _ in range(2))
        self.c_attn = nn.Linear(size, 3 * size, bias=False)
        self.c_proj = nn.Linear(size, size, bias=False)
        self.c_fc = nn.Linear(size, 4 * size, bias=False)
        self.out = nn.Linear(4 * size, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, size = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).split(size, dim=2)
        q, k, v = (
            part.view(batch, length, self.num_heads, size // self.num_heads).transpose(1, 2) for part in (q, k, v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(batch, length, size))
        return x + self.out(F.gelu(self.c_fc(self.ln_2(x))))


class NanoGPT(nn.Module):
    """With the weights of ``ours``, a Transformer with learned positions and GELU, tied or not."""

    def __init__(self, ours: LanguageModel, num_heads: int) -> None:
        super().__init__()
        vocab_size, size = ours.embedding.weight.shape
        theirs = dict(ours.named_parameters(remove_duplicate=False))
        num_layers = len({name.split(".")[2] for name in theirs if name.startswith("recurrence.layers.")})
        self.wte = nn.Embedding(vocab_size, size)
        self.wpe = nn.Embedding(len(theirs["recurrence.positions.weight"]), size)
        self.h = nn.ModuleList(Block(size, num_heads) for _ in range(num_layers))
        self.ln_f = nn.LayerNorm(size, bias=False)
        self.lm_head = nn.Linear(size, vocab_size)
        if theirs["head.weight"] is theirs["embedding.weight"]:
            self.lm_head.weight = self.wte.weight
        self.to(ours.dtype)
        names = {
            "ln_1": "norms.0", "ln_2": "norms.1", "c_attn": "into_attention", "c_proj": "out_of_attention",
            "c_fc": "widen", "out": "narrow",
        }  # fmt: skip
        pairs: list[tuple[Any, str]] = [
            (self.wte, "embedding.weight"),
            (self.wpe, "recurrence.positions.weight"),
            (self.ln_f, "recurrence.norms.0.weight"),
            (self.lm_head, "head.weight"),
        ]
        pairs += [
            (getattr(block, mine), f"recurrence.layers.{index}.{name}.weight")
            for index, block in enumerate(self.h)
            for mine, name in names.items()
        ]
        with torch.no_grad():
            for module, name in pairs:
                module.weight.copy_(theirs[name])
            self.lm_head.bias.copy_(theirs["head.bias"])

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """(B, T) ids and targets → mean nats."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.wte(tokens) + self.wpe(places)
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))

    def optimizer(self, *, lr: float, weight_decay: float) -> torch.optim.AdamW:
        """AdamW as nanoGPT has it on a CPU: weight decay for matrices only."""
        parameters = list(self.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999))
