"""A recurrent language model trained by Recurray, for transformers: it needs only torch and transformers.

tokens (B, T) → embedding → recurrent layers → head → logits (B, T, V)

The whole past is held in a ``RecurrentState`` of fixed size, which ``generate`` carries as its cache: a token costs the
same after ten tokens as after ten thousand. Letters: B rows, T time, E embedding, H hidden, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.generation import utils as generation
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import ModelOutput

# what generate calls the state: older versions know it only by the second name
CACHE = "cache" if "cache" in getattr(generation, "ALL_CACHE_NAMES", ["cache"]) else "past_key_values"


class RecurrayConfig(PretrainedConfig):
    """The shape of the model.

    Args:
        cell: rnn, lstm, gru, gru_reset_before, mingru, minlstm, qrnn or slstm.
        hidden_sizes: the size of each recurrent layer.
        embedding_size: the size of a token's embedding.
        num_wide: how many of a QRNN's first layers see the previous input beside the present one.
        num_heads, slstm_forget_gate: of an sLSTM; the gate is sigmoid or exponential.
        mogrifier_rounds, mogrifier_rank: of an LSTM; 0 rounds: none.
        layer_norm: whether the input of each layer and the output of the last are normalised.
        residual: whether a layer's input is added to its output if both have the same size.
        head: softmax, adaptive or mixture; the logits of the last two are log-probabilities.
        adaptive_cutoffs, adaptive_shrinkage: the first id of each tail of an adaptive softmax, and how many times
            narrower each tail is than the one before, if the matrices are not tied.
        num_experts: the number of softmaxes in a mixture.
        dropout: on the embedding, between layers and before the head, while training.
        reset_after_token_id: the type after which a row's state becomes blank: the end of a document, if training
            began each with a blank state; None: there is none.
    """

    model_type = "recurray"
    keys_to_ignore_at_inference = ["cache", "past_key_values"]  # noqa: RUF012 (transformers expects a list here)

    def __init__(
        self,
        vocab_size: int = 256,
        cell: str = "lstm",
        hidden_sizes: list[int] | None = None,
        embedding_size: int = 256,
        num_wide: int = 1,
        num_heads: int = 4,
        slstm_forget_gate: str = "sigmoid",
        mogrifier_rounds: int = 0,
        mogrifier_rank: int | None = None,
        layer_norm: bool = False,
        residual: bool = False,
        head: str = "softmax",
        adaptive_cutoffs: list[int] | None = None,
        adaptive_shrinkage: int = 4,
        num_experts: int = 15,
        dropout: float = 0.0,
        tie_word_embeddings: bool = False,
        use_cache: bool = True,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        pad_token_id: int | None = None,
        reset_after_token_id: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.cell = cell
        self.hidden_sizes = hidden_sizes or [256]
        self.hidden_size = self.hidden_sizes[-1]
        self.num_hidden_layers = len(self.hidden_sizes)
        self.embedding_size = embedding_size
        self.num_wide = num_wide
        self.num_heads = num_heads
        self.slstm_forget_gate = slstm_forget_gate
        self.mogrifier_rounds = mogrifier_rounds
        self.mogrifier_rank = mogrifier_rank
        self.layer_norm = layer_norm
        self.residual = residual
        self.head = head
        self.adaptive_cutoffs = adaptive_cutoffs
        self.adaptive_shrinkage = adaptive_shrinkage
        self.num_experts = num_experts
        self.dropout = dropout
        self.use_cache = use_cache
        self.reset_after_token_id = reset_after_token_id
        # some versions have no such attributes of their own, and tools ask for them
        self.bos_token_id, self.eos_token_id, self.pad_token_id = bos_token_id, eos_token_id, pad_token_id
        special = {"bos_token_id": bos_token_id, "eos_token_id": eos_token_id, "pad_token_id": pad_token_id}
        super().__init__(tie_word_embeddings=tie_word_embeddings, **special, **kwargs)


# By these names Trainer knows for which models it has to shift the labels if it smooths them: without ours, it would
# teach the model to repeat what it has read.
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.setdefault(RecurrayConfig.model_type, "RecurrayForCausalLM")


class RecurrentState:
    """The state of every layer, in parts of (B, H), after ``num_tokens``: what ``generate`` calls a cache.

    It is at least in float32, whatever the format of the weights.
    """

    is_compileable = False
    is_linear = (False,)  # so that transformers drops the tokens that were already read

    def __init__(self, layers: list[tuple[Tensor, ...]], num_tokens: int) -> None:
        self.layers = layers
        self.num_tokens = num_tokens

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens were read, padding included."""
        return self.num_tokens

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the rows ``beam_idx``, in that order."""
        self.layers = [tuple(part.index_select(0, beam_idx.to(part.device)) for part in layer) for layer in self.layers]

    batch_select_indices = reorder_cache

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row ``repeats`` times."""
        self.layers = [tuple(part.repeat_interleave(repeats, dim=0) for part in layer) for layer in self.layers]


@dataclass
class RecurrayOutput(ModelOutput):
    """Mean nats per label, (B, T, V) logits, the state after the last token, (B, T, ·) of embedding and layers."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    cache: RecurrentState | None = None
    hidden_states: tuple[Tensor, ...] | None = None

    @property
    def past_key_values(self) -> RecurrentState | None:
        """``cache`` under its older name."""
        return self.cache


def exact(values: Tensor) -> Tensor:
    """``values`` at least in float32, in which gates and states are computed, also under autocast."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(…, E) → (…, V): the product with a (V, E) matrix in its format, or autocast's; the result is ``exact``."""
    return exact(F.linear(rows.to(weight.dtype), weight, bias))


class Reading:
    """Where the tokens stand in a padded batch.

    Rows are read with their tokens moved to the front, so that padding, on either side, changes no state.
    """

    def __init__(self, mask: Tensor) -> None:
        """``mask``: (B, T), true where there is a token."""
        self.mask = mask
        self.order = torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)  # (B, T): tokens first
        # padding gets the output of the token before it: generate continues from the last place, whatever is there
        self.back = (mask.cumsum(1) - 1).clamp(min=0)  # (B, T)
        self.lengths = mask.sum(1)  # (B,)
        self.is_first = mask.cumsum(1) <= 1  # (B, T): up to the first token, which no token predicts

    def within(self, begin: int, end: int) -> Reading:
        """Where the tokens stand in the steps from ``begin`` to ``end`` once all are moved to the front."""
        steps = torch.arange(begin, end, device=self.mask.device)
        return Reading(steps < self.lengths.unsqueeze(1))

    @staticmethod
    def moved(values: Tensor, order: Tensor) -> Tensor:
        """(B, T, H) with its steps in ``order``."""
        return values.gather(1, order.unsqueeze(2).expand_as(values))

    def ends(self, values: Tensor, before: Tensor) -> Tensor:
        """(B, T, H) → (B, H) after each row's last token; ``before`` where a row has none."""
        last = (self.lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, values.shape[2])
        found = values.gather(1, last).squeeze(1)
        return torch.where((self.lengths > 0).unsqueeze(1), found, before)


class FusedLayer:
    """What torch's own RNN, LSTM and GRU share: a call that takes a state and padding, and a single step.

    A call first lays out the weights for many steps, which takes longer than a single step.
    """

    state_sizes: tuple[int, ...]

    def step(self, gates: Tensor, recurrent: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Products of the input and of the hidden vector, (B, ·H) each, and a state of (B, H) → the next state."""
        raise NotImplementedError

    def run(self, inputs: Tensor, state: tuple[Tensor, ...], reading: Reading | None) -> Any:
        """(B, T, E) and a state of (B, H) → (B, T, H), the next state."""
        if inputs.shape[1] == 1 and reading is None:
            own: Any = self
            gates = product(inputs[:, 0], own.weight_ih_l0, own.bias_ih_l0)
            end = self.step(gates, product(state[0], own.weight_hh_l0, own.bias_hh_l0), state)
            return end[0].unsqueeze(1), end
        parts = tuple(part.unsqueeze(0).to(inputs.dtype).contiguous() for part in state)
        begin = parts if len(parts) == 2 else parts[0]
        layer: Any = super()
        if reading is None:
            hidden, end = layer.forward(inputs, begin)
            ends = end if isinstance(end, tuple) else (end,)
            return hidden, tuple(exact(part.squeeze(0)) for part in ends)
        lengths = reading.lengths.clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        hidden, end = layer.forward(packed, begin)
        hidden, _ = nn.utils.rnn.pad_packed_sequence(hidden, batch_first=True, total_length=inputs.shape[1])
        ends = tuple(exact(part.squeeze(0)) for part in (end if isinstance(end, tuple) else (end,)))
        has_tokens = (reading.lengths > 0).unsqueeze(1)
        return hidden, tuple(torch.where(has_tokens, part, before) for part, before in zip(ends, state, strict=True))


class RNN(FusedLayer, nn.RNN):
    """h_t = tanh(W x + U h_(t−1) + b)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        nn.RNN.__init__(self, input_size, hidden_size, batch_first=True)
        self.state_sizes = (hidden_size,)

    def step(self, gates: Tensor, recurrent: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.tanh(gates + recurrent),)


class LSTM(FusedLayer, nn.LSTM):
    """Torch's LSTM; its state is (h, c)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        nn.LSTM.__init__(self, input_size, hidden_size, batch_first=True)
        self.state_sizes = (hidden_size, hidden_size)

    def step(self, gates: Tensor, recurrent: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        enter, forget, candidate, output = (gates + recurrent).chunk(4, dim=1)
        cell = torch.sigmoid(forget) * state[1] + torch.sigmoid(enter) * torch.tanh(candidate)
        return torch.sigmoid(output) * torch.tanh(cell), cell


class GRU(FusedLayer, nn.GRU):
    """Torch's GRU, whose reset gate acts after the recurrent product."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        nn.GRU.__init__(self, input_size, hidden_size, batch_first=True)
        self.state_sizes = (hidden_size,)

    def step(self, gates: Tensor, recurrent: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (reset, update, new), (of_reset, of_update, of_new) = gates.chunk(3, dim=1), recurrent.chunk(3, dim=1)
        candidate = torch.tanh(new + torch.sigmoid(reset + of_reset) * of_new)
        return (torch.lerp(candidate, state[0], torch.sigmoid(update + of_update)),)


class Cell(nn.Module):
    """A layer that computes ``num_products`` products of its inputs."""

    num_products: int

    def __init__(self, input_size: int, hidden_size: int, *, width: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(self.num_products * hidden_size, width * input_size))
        self.bias = nn.Parameter(torch.empty(self.num_products * hidden_size))
        self.state_sizes: tuple[int, ...] = (hidden_size,)

    def run(self, inputs: Tensor, state: tuple[Tensor, ...], reading: Reading | None) -> Any:
        """(B, T, E) and a state of (B, H) → (B, T, H), the next state."""
        hidden, states = self.unrolled(inputs, state)
        if reading is None:
            return hidden, tuple(exact(part[:, -1]) for part in states)
        return hidden, tuple(reading.ends(exact(part), before) for part, before in zip(states, state, strict=True))

    def unrolled(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, T, E), state → (B, T, H) outputs, each part of the state after every step (B, T, ·)."""
        raise NotImplementedError

    def products(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """(B, T, E) → (B, T, H) each."""
        return product(inputs, self.weight, self.bias).chunk(self.num_products, dim=-1)


def running_average(candidates: Tensor, forget: Tensor, start: Tensor) -> Tensor:
    """(B, T, H) x and f, (B, H) start → (B, T, H): h_t = f_t h_(t−1) + (1 − f_t) x_t."""
    hidden, steps = start, []
    for candidate, gate in zip(candidates.unbind(1), forget.unbind(1), strict=True):
        hidden = torch.lerp(candidate, hidden, gate)
        steps.append(hidden)
    return torch.stack(steps, dim=1)


class MinGRU(Cell):
    """h_t = (1 − z_t) h_(t−1) + z_t h̃_t, where z = σ(W_z x) and h̃ = W_h x (Feng et al. 2024)."""

    num_products = 2  # z, h̃

    def unrolled(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        update, candidates = self.products(inputs)
        hidden = running_average(candidates, torch.sigmoid(-update), state[0])
        return hidden, (hidden,)


class MinLSTM(Cell):
    """h_t = f' h_(t−1) + i' h̃_t, where f' = f / (f + i) and i' = i / (f + i) (Feng et al. 2024)."""

    num_products = 3  # f, i, h̃

    def unrolled(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        forget, enter, candidates = self.products(inputs)
        gates = torch.sigmoid(F.logsigmoid(forget) - F.logsigmoid(enter))
        hidden = running_average(candidates, gates, state[0])
        return hidden, (hidden,)


class QRNN(Cell):
    """c_t = f_t c_(t−1) + (1 − f_t) z_t, h_t = o_t c_t (Bradbury et al. 2017); its state is (c, the previous input)."""

    num_products = 3  # z, f, o

    def __init__(self, input_size: int, hidden_size: int, *, width: int) -> None:
        super().__init__(input_size, hidden_size, width=width)
        self.width = width
        self.state_sizes = hidden_size, (width - 1) * input_size

    def unrolled(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        cell, before = state
        seen = inputs
        if self.width == 2:
            before = before.to(inputs.dtype).unsqueeze(1)
            seen = torch.cat([torch.cat([before, inputs[:, :-1]], dim=1), inputs], dim=2)  # (B, T, 2E)
        candidates, forget, output = self.products(seen)
        cells = running_average(torch.tanh(candidates), torch.sigmoid(forget), cell)
        return torch.sigmoid(output) * cells, (cells, inputs[:, :, : self.state_sizes[1]])


class ResetBeforeGRU(Cell):
    """h_t = (1 − z) n + z h_(t−1), where n = tanh(W_n x + U_n (r h_(t−1))) (Cho et al. 2014)."""

    num_products = 3  # r, z, n

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))

    def unrolled(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        size = self.weight_hh.shape[1]
        gates_weight, new_weight = self.weight_hh[: 2 * size], self.weight_hh[2 * size :]
        hidden, steps = state[0], []
        for sums in product(inputs, self.weight, self.bias).unbind(1):  # (B, 3H)
            reset, update = torch.sigmoid(sums[:, : 2 * size] + product(hidden, gates_weight)).chunk(2, dim=1)
            new = torch.tanh(sums[:, 2 * size :] + product(reset * hidden, new_weight))
            hidden = torch.lerp(new, hidden, update)
            steps.append(hidden)
        outputs = torch.stack(steps, dim=1)
        return outputs, (outputs,)


class MogrifierLSTM(Cell):
    """x ← 2σ(Q h) x and h ← 2σ(R x) h in turn, then an LSTM's step (Melis et al. 2020); its state is (h, c)."""

    num_products = 4  # i, f, candidate, o

    def __init__(self, input_size: int, hidden_size: int, *, num_rounds: int, rank: int | None) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.mixers = nn.ParameterList()  # one per round, or with a rank two, which are multiplied
        for index in range(num_rounds):
            rows, columns = (hidden_size, input_size) if index % 2 else (input_size, hidden_size)
            shapes = [(rows, columns)] if rank is None else [(rows, rank), (rank, columns)]
            self.mixers.extend(nn.Parameter(torch.empty(shape)) for shape in shapes)
        self.state_sizes = hidden_size, hidden_size
        self.num_factors = 1 if rank is None else 2

    def unrolled(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        (hidden, cell), steps, mixers = state, [], list(self.mixers)
        for seen in inputs.unbind(1):  # (B, E)
            both = [seen, hidden]
            for index, place in enumerate(range(0, len(mixers), self.num_factors)):
                sums = both[1 - index % 2]
                for factor in reversed(mixers[place : place + self.num_factors]):
                    sums = product(sums, factor)
                both[index % 2] = both[index % 2] * 2 * torch.sigmoid(sums)
            sums = product(both[0], self.weight, self.bias) + product(both[1], self.weight_hh)
            enter, forget, candidate, output = sums.chunk(4, dim=1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
            hidden = torch.sigmoid(output) * torch.tanh(cell)
            steps.append((hidden, cell))
        hiddens, cells = (torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))
        return hiddens, (hiddens, cells)


class SLSTM(Cell):
    """An LSTM with exponential gates and several heads (Beck et al. 2024).

    Its state is (h, a, l): the hidden vector, the average a = c/n, and l = log n; l = 0 stands for n = 0.
    """

    num_products = 4  # for each head: f, i, z, o

    def __init__(self, input_size: int, hidden_size: int, *, num_heads: int, is_exponential: bool) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size // num_heads))
        self.head_norm = nn.Parameter(torch.ones(hidden_size))
        self.state_sizes = (hidden_size,) * 3
        self.num_heads, self.is_exponential = num_heads, is_exponential

    def unrolled(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        (hidden, average, log), steps = state, []
        blocks = self.weight_hh.unflatten(0, (self.num_heads, -1))  # (K, 4D, D)
        for sums in product(inputs, self.weight, self.bias).unbind(1):  # (B, 4H)
            before = hidden.to(blocks.dtype).unflatten(1, (self.num_heads, -1))  # (B, K, D)
            heads = exact(torch.einsum("bkd,kgd->bkg", before, blocks))  # (B, K, 4D)
            gates = (sums.unflatten(1, (self.num_heads, -1)) + heads).chunk(4, dim=2)  # (B, K, D) each
            forget, enter, candidate, output = (gate.flatten(1) for gate in gates)
            log = log.masked_fill(log == 0, -torch.inf)
            kept = (forget if self.is_exponential else F.logsigmoid(forget)) + log
            log_share = F.logsigmoid(enter - kept)
            average = torch.lerp(average, torch.tanh(candidate), torch.exp(log_share))
            log = enter - log_share
            log = log.masked_fill(log == 0, torch.finfo(log.dtype).tiny)
            hidden = torch.sigmoid(output) * average
            steps.append((hidden, average, log))
        states = tuple(torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))
        heads = states[0].unflatten(2, (self.num_heads, -1))
        return F.layer_norm(heads, heads.shape[3:]).flatten(2) * self.head_norm, states


CELLS: dict[str, Any] = {
    "rnn": RNN,
    "lstm": LSTM,
    "gru": GRU,
    "gru_reset_before": ResetBeforeGRU,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
    "qrnn": QRNN,
    "slstm": SLSTM,
}


def new_layer(config: RecurrayConfig, index: int, input_size: int) -> nn.Module:
    """Layer ``index``."""
    cell: Any = CELLS[config.cell]
    options: dict[str, Any] = {}
    if config.cell == "qrnn":
        options = {"width": 2 if index < config.num_wide else 1}
    elif config.cell == "slstm":
        options = {"num_heads": config.num_heads, "is_exponential": config.slstm_forget_gate == "exponential"}
    elif config.mogrifier_rounds:
        cell, options = MogrifierLSTM, {"num_rounds": config.mogrifier_rounds, "rank": config.mogrifier_rank}
    layer: nn.Module = cell(input_size, config.hidden_sizes[index], **options)
    return layer


class Recurrence(nn.Module):
    """The recurrent layers and what lies between them."""

    # set by activation_checkpointing_enable: a layer is then run again for its gradients instead of being remembered
    gradient_checkpointing = False
    _gradient_checkpointing_func: Any

    def __init__(self, config: RecurrayConfig) -> None:
        super().__init__()
        sizes = [config.embedding_size, *config.hidden_sizes]
        self.layers = nn.ModuleList(new_layer(config, index, size) for index, size in enumerate(sizes[:-1]))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes) if config.layer_norm else None
        self.residual, self.dropout = config.residual, config.dropout

    def forward(
        self, hidden: Tensor, state: list[tuple[Tensor, ...]], reading: Reading | None
    ) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
        """(B, T, E), the state of each layer → (B, T, ·) of the input and after each layer, the next states."""
        outputs, ends = [hidden], []
        layers: Any = self.layers
        for index, (layer, begin) in enumerate(zip(layers, state, strict=True)):
            branch = F.dropout(self.normalized(hidden, index), self.dropout, self.training)
            if self.gradient_checkpointing and self.training:
                output, end = self._gradient_checkpointing_func(layer.run, branch, begin, reading)
            else:
                output, end = layer.run(branch, begin, reading)
            output = output.to(branch.dtype)
            hidden = hidden + output if self.residual and hidden.shape == output.shape else output
            outputs.append(hidden)
            ends.append(end)
        outputs[-1] = self.normalized(hidden, len(layers))
        return outputs, ends

    def normalized(self, hidden: Tensor, index: int) -> Tensor:
        """Normalise the input of layer ``index``, or, after the last layer, the output."""
        return hidden if self.norms is None else self.norms[index](hidden)


class AdaptiveSoftmax(nn.Module):
    """A softmax over the frequent types and the tails of rarer ones (Grave et al. 2017), as log-probabilities."""

    def __init__(self, config: RecurrayConfig, input_size: int) -> None:
        super().__init__()
        bounds = [0, *(config.adaptive_cutoffs or []), config.vocab_size]
        self.sizes = [end - begin for begin, end in pairwise(bounds)]
        self.tails = nn.Linear(input_size, len(self.sizes) - 1)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.weights = nn.ParameterList()
        self.projections = nn.ModuleList()
        if config.tie_word_embeddings:
            self.weight = nn.Parameter(torch.empty(config.vocab_size, input_size))
            return
        self.register_parameter("weight", None)
        widths = [max(1, input_size // config.adaptive_shrinkage**index) for index in range(len(self.sizes))]
        self.weights.extend(
            nn.Parameter(torch.empty(size, width)) for size, width in zip(self.sizes, widths, strict=True)
        )
        self.projections.extend(nn.Linear(input_size, width, bias=False) for width in widths[1:])

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, H) → (…, V)."""
        weights = list(self.weights) if self.weight is None else list(self.weight.split(self.sizes))
        biases = self.bias.split(self.sizes)
        first = F.linear(hidden, torch.cat([weights[0], self.tails.weight]), torch.cat([biases[0], self.tails.bias]))
        log_p = first.log_softmax(-1)
        num_first = self.sizes[0]
        parts = [log_p[..., :num_first]]
        for index, (weight, bias) in enumerate(zip(weights[1:], biases[1:], strict=True)):
            narrowed = hidden if self.weight is not None else self.projections[index](hidden)
            within = F.linear(narrowed, weight, bias).log_softmax(-1)
            parts.append(within + log_p[..., num_first + index, None])
        return torch.cat(parts, dim=-1)


class MixtureOfSoftmaxes(nn.Module):
    """Softmaxes of several vectors, mixed with weights that depend on the context (Yang et al. 2018), as log-p."""

    def __init__(self, config: RecurrayConfig, input_size: int) -> None:
        super().__init__()
        self.num_experts = config.num_experts
        self.experts = nn.Linear(input_size, config.num_experts * config.embedding_size)
        self.prior = nn.Linear(input_size, config.num_experts, bias=False)
        self.weight = nn.Parameter(torch.empty(config.vocab_size, config.embedding_size))
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, H) → (…, V)."""
        vectors = torch.tanh(self.experts(hidden)).unflatten(-1, (self.num_experts, -1))
        log_prior = self.prior(hidden).log_softmax(-1)
        total: Any = None
        for vector, log_weight in zip(vectors.unbind(-2), log_prior.unbind(-1), strict=True):  # one (…, V) at a time
            part = F.linear(vector, self.weight, self.bias).log_softmax(-1) + log_weight.unsqueeze(-1)
            total = part if total is None else torch.logaddexp(total, part)
        return total


class RecurrayForCausalLM(PreTrainedModel, GenerationMixin):
    """A recurrent language model whose whole past is a state of fixed size."""

    config_class = RecurrayConfig
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _is_stateful = True  # a state cannot go back to an earlier token: no assisted generation
    _tied_weights_keys = {"head.weight": "embedding.weight"}  # noqa: RUF012 (transformers expects a dict here)
    _no_split_modules = ["Recurrence"]  # noqa: RUF012

    def __init__(self, config: RecurrayConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.recurrence = Recurrence(config)
        size = config.hidden_sizes[-1]
        tied = config.tie_word_embeddings and config.head != "mixture"
        self.projection = (
            nn.Linear(size, config.embedding_size, bias=False) if tied and size != config.embedding_size else None
        )
        head_size = config.embedding_size if self.projection is not None else size
        if config.head == "softmax":
            self.head: nn.Module = nn.Linear(head_size, config.vocab_size)
        else:
            self.head = (AdaptiveSoftmax if config.head == "adaptive" else MixtureOfSoftmaxes)(config, head_size)
        self.post_init()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise weights that a checkpoint lacks: uniform in ±1/√(their inputs); norms as ones."""
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
            return
        for name, parameter in module.named_parameters(recurse=False):
            if name == "head_norm":
                nn.init.ones_(parameter)
            else:
                nn.init.uniform_(parameter, -(parameter.shape[-1] ** -0.5), parameter.shape[-1] ** -0.5)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embedding = value

    def get_output_embeddings(self) -> nn.Module | None:
        return self.head if self.config.head == "softmax" else None

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.head = new_embeddings

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As in every model. Raises ``ValueError`` if the head has matrices of its own for the types."""
        head = self.config.head
        is_same = new_num_tokens in (None, self.config.vocab_size) and not args and not kwargs.get("pad_to_multiple_of")
        if not is_same and (head == "adaptive" or (head == "mixture" and not self.config.tie_word_embeddings)):
            raise ValueError(f"new_num_tokens: the head of this model ({head}) has a fixed number of types")
        return super().resize_token_embeddings(new_num_tokens, *args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As in every model; a state may be given as ``cache`` or as ``past_key_values``."""
        for name in {"cache", "past_key_values"} & kwargs.keys():
            kwargs[CACHE] = kwargs.pop(name)
        return super().generate(*args, **kwargs)

    def _update_model_kwargs_for_generation(self, outputs: Any, model_kwargs: Any, *args: Any, **kwargs: Any) -> Any:
        """Hand the state on to the next step, in older versions too: else each token would be read alone."""
        found = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        return {**found, CACHE: outputs.cache} if "cache" in outputs else found

    def blank_state(self, batch_size: int) -> RecurrentState:
        """The state before any token."""
        like = exact(self.embedding.weight.new_zeros(0))
        layers: Any = self.recurrence.layers
        return RecurrentState(
            [tuple(like.new_zeros(batch_size, size) for size in layer.state_sizes) for layer in layers], 0
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: RecurrentState | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int = 0,
        past_key_values: RecurrentState | None = None,
        **kwargs: Any,
    ) -> RecurrayOutput | tuple[Any, ...]:
        """(B, T) token ids and the state before them → logits, the state after them, and the loss if labels are given.

        Args:
            attention_mask: (B, all tokens so far); padding, on either side, of any id, leaves a row's state as it is.
            cache: the state that an earlier call returned; ``past_key_values`` is the same under its older name.
            inputs_embeds: (B, T, E) in place of ``input_ids``; no state is then reset within them.
            labels: (B, T) token ids, usually ``input_ids`` themselves: they are shifted here; −100 does not count, nor
                does a row's first token, also after padding.
            logits_to_keep: return only the logits of this many last tokens; 0: of all.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        given: Any = input_ids if input_ids is not None else inputs_embeds
        batch_size, num_steps = given.shape[:2]
        reading = self._reading(attention_mask, num_steps)
        ended = self._ended(input_ids, reading)
        if input_ids is not None and reading is not None:
            # a tokenizer may pad with a type that was added to it, and that this model does not have
            input_ids = input_ids.masked_fill(~reading.mask, 0)
        hidden = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds  # (B, T, E)
        before = cache if cache is not None else past_key_values
        before = before if before is not None else self.blank_state(batch_size)
        if reading is not None:
            hidden = reading.moved(hidden, reading.order)
        outputs, ends = self._unrolled(hidden, before.layers, reading, ended)
        if reading is not None:
            outputs = [reading.moved(output, reading.back) for output in outputs]
        last = F.dropout(outputs[-1], self.config.dropout, self.training)
        last = last if not logits_to_keep or labels is not None else last[:, -logits_to_keep:]
        logits = self.head(last if self.projection is None else self.projection(last))
        loss = None
        if labels is not None:
            labels = labels if reading is None else labels.masked_fill(reading.is_first, -100)
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        keeps_state = self.config.use_cache if use_cache is None else use_cache
        wants_hidden = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        result = RecurrayOutput(
            loss=loss,
            logits=logits,
            cache=RecurrentState(ends, before.num_tokens + num_steps) if keeps_state else None,
            hidden_states=tuple(outputs) if wants_hidden else None,
        )
        return result.to_tuple() if return_dict is False else result

    def _ended(self, input_ids: Tensor | None, reading: Reading | None) -> Tensor | None:
        """(B, T), in the order of reading: after which tokens a row's state becomes blank; None: after none."""
        if input_ids is None or self.config.reset_after_token_id is None:
            return None
        ended = input_ids == self.config.reset_after_token_id
        if reading is not None:
            ended = (ended & reading.mask).gather(1, reading.order)
        return ended if bool(ended.any()) else None

    def _unrolled(
        self, hidden: Tensor, state: list[tuple[Tensor, ...]], reading: Reading | None, ended: Tensor | None
    ) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
        """``self.recurrence``, with a row's state made blank after the tokens where (B, T) ``ended`` is true."""
        if ended is None:
            outputs, ends = self.recurrence(hidden, state, reading)
            return outputs, ends
        cuts = (ended.any(0).nonzero().flatten() + 1).tolist()
        stretches = []
        for begin, end in pairwise(sorted({0, *cuts, hidden.shape[1]})):
            within = None if reading is None else reading.within(begin, end)
            outputs, state = self.recurrence(hidden[:, begin:end], state, within)
            blank = ended[:, end - 1, None]  # (B, 1)
            state = [tuple(part.masked_fill(blank, 0) for part in layer) for layer in state]
            stretches.append(outputs)
        return [torch.cat(parts, dim=1) for parts in zip(*stretches, strict=True)], state

    @staticmethod
    def _reading(attention_mask: Tensor | None, num_steps: int) -> Reading | None:
        """Where the tokens of this call stand; None if there is no padding among them."""
        if attention_mask is None or num_steps == 0:
            return None
        mask = attention_mask[:, -num_steps:].bool()
        return None if bool(mask.all()) else Reading(mask)
