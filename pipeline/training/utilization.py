"""How much of a machine a run uses: peak memory, and model FLOPs utilisation on a GPU.

Model FLOPs of a token are 6 × the numbers of its matrix products: a multiplication and an addition forward, twice that
backward, for every weight of the recurrence, the projection and the output matrix (in a mixture once for each of its
softmaxes), and for attention twice every number that is attended to, as key and as value. The embedding and learned
positions are looked up. What else is computed (gates, softmax, masks) does not count, as in Chowdhery et al. 2022,
PaLM, appendix B.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.model.head import MixtureOfSoftmaxes
from pipeline.model.language_model import LanguageModel
from pipeline.process_memory import peak_bytes

# dense matrix products without sparsity, 10¹² a second, from the makers' data sheets: 16-bit, TF32, float32
PEAK_TERAFLOPS = {
    "B200": (2250.0, 1125.0, 75.0),
    "H200": (989.0, 494.0, 67.0),
    "H100 PCIe": (756.0, 378.0, 51.0),
    "H100": (989.0, 494.0, 67.0),
    "A100": (312.0, 156.0, 19.5),
    "L40S": (362.0, 183.0, 91.6),
    "L4": (121.0, 60.0, 30.3),
    "A10G": (70.0, 35.0, 31.2),
    "A10": (125.0, 62.5, 31.2),
    "V100": (125.0, 15.7, 15.7),
    "T4": (65.0, 8.1, 8.1),
}


def flops_per_token(model: LanguageModel) -> int:
    """Return the FLOPs of training on one token, by the formula above."""
    embedding = model.embedding.weight
    is_tied = any(
        parameter is embedding
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name != "embedding.weight"
    )
    looked_up = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    if is_tied:
        looked_up.remove(id(embedding))
    matrices = [p.numel() for p in model.parameters() if p.dim() > 1 and id(p) not in looked_up]
    head = model.head
    repeated = (head.num_experts - 1) * head.weight.numel() if isinstance(head, MixtureOfSoftmaxes) else 0
    return 6 * (sum(matrices) + repeated + 2 * model.recurrence.num_attended)


def peak_flops(device_name: str, precision: str, *, tf32: bool) -> float | None:
    """Return the peak FLOPs of one GPU in a second, in the format of ``precision``; None if that is unknown."""
    words = device_name.replace("-", " ").split()
    for name, (half, tensor, single) in PEAK_TERAFLOPS.items():
        if all(word in words for word in name.split()):
            known = {"bf16": half, "fp16": half, "float32": tensor if tf32 else single}
            return known[precision] * 1e12 if precision in known else None
    return None


class Utilization:
    """How much of its machines a run uses, from its speed; and the memory of this worker."""

    def __init__(
        self, model: LanguageModel, device: torch.device, precision: str, *, tf32: bool, num_workers: int
    ) -> None:
        self.device = device
        self.flops_per_token = flops_per_token(model)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        peak = peak_flops(name, precision, tf32=tf32)
        self.peak = None if peak is None else num_workers * peak  # of all workers, whose GPUs are taken to be alike

    def figures(self, tokens_per_second: float) -> dict[str, float | None]:
        """Share of the peak FLOPs (None on a CPU, or a GPU that is not in the table), peak memory so far in MB."""
        share = None if self.peak is None else self.flops_per_token * tokens_per_second / self.peak
        gpu = torch.cuda.max_memory_allocated(self.device) / 1e6 if self.device.type == "cuda" else None
        return {"flops_utilization": share, "peak_memory_mb": peak_bytes() / 1e6, "peak_gpu_memory_mb": gpu}
