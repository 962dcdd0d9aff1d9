"""The optimizer of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config import OptimizerConfig
from pipeline.training.eager import SGD, Adam, AdamW, Eager
from pipeline.training.muon import Muon


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of ``model``'s parameters; it keeps its settings when it loads the state of another."""
    optimizer = _build(config, model)
    optimizer.register_load_state_dict_pre_hook(_with_own_settings)
    return optimizer


def _with_own_settings(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """``state`` with ``optimizer``'s own settings: these may have changed since it was saved (``train.changes``)."""
    pairs = zip(optimizer.param_groups, state["param_groups"], strict=True)
    return {**state, "param_groups": [{**own, "params": saved["params"]} for own, saved in pairs]}


def _build(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of ``model``'s parameters; weight decay on matrices only, unless ``decayed`` is all.

    On every device it takes the clip factor and the verdict on finite gradients as tensors, so that an update needs
    neither a further pass over the gradients nor the host's attention.
    """
    orthogonal = hidden_matrices(model) if config.name == "muon" else []
    apart = {id(parameter) for parameter in orthogonal}
    parameters = [parameter for parameter in model.parameters() if id(parameter) not in apart]
    decayed = [parameter for parameter in parameters if parameter.dim() > 1 or config.decayed == "all"]
    spared = [parameter for parameter in parameters if parameter.dim() <= 1 and config.decayed != "all"]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    betas = (config.beta1, config.beta2)
    if config.name == "sgd":
        return with_momentum(SGD(groups, lr=config.lr, momentum=config.momentum, fused=True))
    if config.name == "adam":
        return Adam(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)
    if config.name == "adamw":
        return AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)
    if config.name == "muon":
        groups.append({"params": orthogonal, "weight_decay": config.weight_decay, "orthogonal": True})
        return Muon(groups, lr=config.lr, betas=betas, eps=config.eps, momentum=config.muon_momentum)
    return RMSProp(groups, lr=config.lr, beta2=config.beta2, eps=config.eps)


def with_momentum(optimizer: torch.optim.SGD) -> torch.optim.SGD:
    """``optimizer`` with its momentum set to zero, which leaves its first update the same; also after loading a state
    without momentum.

    torch leaves the momentum's memory uninitialized if the very first update is refused (``found_inf``), and keeps it
    as it was while there is no momentum: were that to come back (``train.changes``), it would be of gradients long ago.
    """
    _begin_momentum(optimizer)
    optimizer.register_load_state_dict_post_hook(_begin_momentum)
    return optimizer


def _begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if group["momentum"]:
                optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
            else:
                optimizer.state.pop(parameter, None)  # it has nothing but the momentum


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Return the matrices that Muon updates: all of ``model`` but embeddings (of tokens or positions) and head."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.dim() == 2 and id(parameter) not in embeddings and name.partition(".")[0] != "head"
    ]


class RMSProp(Eager):
    """w ← w − lr · g / (√v + ε), v ← β₂ v + (1 − β₂) g² (Tieleman & Hinton 2012), L2 decay added to g.

    Like torch's fused optimizers, it reads ``grad_scale`` (gradients are divided by it) and ``found_inf`` (1: change
    nothing), tensors that stay on the device; torch's own RMSprop knows neither.
    """

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(self, params: Iterable[Any], *, lr: float, beta2: float, eps: float) -> None:
        super().__init__(params, {"lr": lr, "beta2": beta2, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["square_avg"] = torch.zeros_like(parameter)
        square_avg, gradient = state["square_avg"], parameter.grad
        assert gradient is not None
        if self.grad_scale is not None:
            gradient = gradient / self.grad_scale
        gradient = gradient.add(parameter, alpha=group["weight_decay"])
        decay: float | Tensor = group["beta2"]
        if self.found_inf is not None:
            refused = self.found_inf > 0
            gradient = gradient.masked_fill(refused, 0.0)
            decay = torch.where(refused, 1.0, group["beta2"]).to(parameter.dtype)
        square_avg.mul_(decay).addcmul_(gradient, gradient, value=1 - group["beta2"])
        parameter.addcdiv_(gradient, square_avg.sqrt().add_(group["eps"]), value=-group["lr"])
