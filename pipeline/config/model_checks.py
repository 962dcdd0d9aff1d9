"""Checks that the settings of the model go together."""

from __future__ import annotations

from pipeline.config.model import ModelConfig
from pipeline.errors import UserError


def check_model(model: ModelConfig) -> None:
    """Raise ``UserError`` for settings that do not go together."""
    sizes = model.layer_sizes
    if len(sizes) != model.num_layers:
        raise UserError(f"model.hidden_size: {len(sizes)} sizes, {sizes}, for model.num_layers={model.num_layers}")
    if isinstance(model.hidden_size, list) and model.last_hidden_size is not None:
        raise UserError(f"model.last_hidden_size: model.hidden_size lists the last layer's size already, {sizes}")
    if model.weight_dropout and model.cell in ("mingru", "minlstm"):
        raise UserError(f"model.weight_dropout: {model.weight_dropout}, but {model.cell} has no recurrent weights")
    inputs = [model.embedding_size or sizes[0], *sizes[:-1]]
    if model.residual and all(a != b for a, b in zip(inputs, sizes, strict=True)):
        raise UserError(
            f"model.residual: no layer has inputs of its own size: embedding {inputs[0]}, layers of {sizes}"
        )
    check_heads(model)
    check_mogrifier(model, inputs)
    if model.cell == "transformer":
        check_transformer(model)
    else:
        check_recurrence(model)


def check_heads(model: ModelConfig) -> None:
    """Raise ``UserError`` for heads that layers do not have or cannot be cut into."""
    if model.cell != "slstm" and model.slstm_forget_gate != "sigmoid":
        raise UserError(f"model.slstm_forget_gate: {model.slstm_forget_gate}, but model.cell={model.cell} is not slstm")
    if model.cell not in ("slstm", "transformer"):
        if model.num_heads != 4:
            raise UserError(
                f"model.num_heads: {model.num_heads}, but model.cell={model.cell} is neither slstm nor transformer"
            )
        return
    for size in model.layer_sizes:
        if size % model.num_heads:
            raise UserError(
                f"model.num_heads: a layer of {size} units (model.hidden_size) does not divide into {model.num_heads} "
                "equal heads"
            )


def check_mogrifier(model: ModelConfig, inputs: list[int]) -> None:
    """Raise ``UserError`` for rounds that the cell does not have, or a bad rank; ``inputs``: their sizes, by layer."""
    if model.mogrifier_rounds and model.cell != "lstm":
        raise UserError(
            f"model.mogrifier_rounds: {model.mogrifier_rounds}, but only model.cell=lstm has them, not {model.cell}"
        )
    if model.mogrifier_rank is None:
        return
    if not model.mogrifier_rounds:
        raise UserError(f"model.mogrifier_rank: {model.mogrifier_rank}, but model.mogrifier_rounds is 0")
    smallest = min(*inputs, *model.layer_sizes)
    if model.mogrifier_rank >= smallest:
        raise UserError(
            f"model.mogrifier_rank: must be less than {smallest}, the smallest size of inputs and layers, not "
            f"{model.mogrifier_rank}"
        )


def check_transformer(model: ModelConfig) -> None:
    """Raise ``UserError`` for settings that no Transformer can have."""
    sizes = model.layer_sizes
    size, key_heads = sizes[0], model.num_kv_heads or model.num_heads
    if set(sizes) != {size}:
        raise UserError(f"model.hidden_size: all layers of a transformer have the same size, not {sizes}")
    if model.embedding_size not in (None, size):
        raise UserError(
            f"model.embedding_size: a transformer's is its model.hidden_size, {size}, not {model.embedding_size}"
        )
    for name in ("weight_dropout", "layer_norm", "residual", "attention"):
        if value := getattr(model, name):
            raise UserError(f"model.{name}: {str(value).lower()}, but a transformer {OF_ITS_OWN[name]}")
    if model.num_heads % key_heads:
        raise UserError(
            f"model.num_kv_heads: {model.num_heads} heads (model.num_heads) cannot share {key_heads} equally"
        )
    if model.positions == "rotary" and size // model.num_heads % 2:
        raise UserError(
            f"model.positions: rotary rotates pairs of numbers, but a head has {size // model.num_heads} "
            f"(model.hidden_size={size}, model.num_heads={model.num_heads})"
        )
    if model.context == 0 and model.block_size is None:
        raise UserError("model.block_size: model.context=0 reads a text in blocks; say how many tokens each has")
    if model.context != 0 and model.block_size is not None:
        raise UserError(f"model.block_size: {model.block_size}, but there are blocks only with model.context=0")
    if model.context != 0 and model.positions == "learned":
        raise UserError("model.positions: learned positions are positions in a block: set model.context=0")


OF_ITS_OWN = {
    "weight_dropout": "has no recurrent weights",
    "layer_norm": "normalises in every layer anyway",
    "residual": "adds each layer's input to its output anyway",
    "attention": "attends in every layer anyway",
}


def check_recurrence(model: ModelConfig) -> None:
    """Raise ``UserError`` for settings of a Transformer, or of attention, that a recurrence cannot have."""
    for name in ("num_kv_heads", "feedforward", "positions", "block_size"):
        if getattr(model, name) != ModelConfig.model_fields[name].default:
            raise UserError(f"model.{name}: is for model.cell=transformer, not {model.cell}")
    if model.attention is None:
        if model.context is not None:
            raise UserError(
                f"model.context: is for model.cell=transformer or with model.attention, not for {model.cell} alone"
            )
    elif model.attention > model.num_layers:
        raise UserError(f"model.attention: there is no layer {model.attention} (model.num_layers={model.num_layers})")
    elif model.context == 0:
        raise UserError("model.context: attention in a recurrence needs a past of at least one state, not 0")


def check_context(model: ModelConfig, bptt: int) -> None:
    """Raise ``UserError`` if a model attends to fewer tokens than a window has."""
    if model.cell != "transformer" and model.attention is None:
        return
    if bptt > model.num_slots:
        name = "block_size" if model.context == 0 else "context"
        default = " (the default)" if getattr(model, name) is None else ""
        raise UserError(
            f"model.{name}: {model.num_slots} tokens{default} are shorter than the window, train.bptt={bptt}"
        )
