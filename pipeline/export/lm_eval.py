"""lm_eval's own command with one more model type, ``recurray``, which scores a text of any length as one stream.

    python -m pipeline.export.lm_eval --model recurray --model_args pretrained=FOLDER --tasks TASK …

``--model hf`` works too, but cuts a text into windows of 2,048 tokens, each read from a zero state. Here the state is
carried from window to window, so nothing is cut, and memory does not grow with the text. Letters: B rows, T time,
V vocabulary.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import UserError

WINDOW_TOKENS = 512
UNLIMITED = 1 << 40  # tokens: more than any text has

Request = tuple[Any, list[int], list[int]]  # the texts asked about, ids of the context, ids to score


@torch.inference_mode()
def stream_scores(model: Any, rows: Sequence[Sequence[int]]) -> list[tuple[Tensor, Tensor]]:
    """Return, for each row, the log-probability of every id but the first, and whether it was the likeliest.

    Args:
        model: a ``RecurrayForCausalLM``.
        rows: ids, at least one per row; all rows are read side by side, in windows that carry the state.
    """
    device = model.device
    lengths = torch.tensor([len(row) - 1 for row in rows], device=device)
    inputs = torch.zeros(len(rows), int(lengths.max()) + 1, dtype=torch.int64, device=device)
    for row, ids in zip(inputs, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids, device=device)
    log_probs, is_likeliest = [], []
    state = None
    for start in range(0, inputs.shape[1] - 1, WINDOW_TOKENS):
        window = inputs[:, start : start + WINDOW_TOKENS + 1]
        steps = torch.arange(start, start + window.shape[1] - 1, device=device)
        mask = (steps < lengths.unsqueeze(1)).long()  # (B, T): a row that has ended is padding
        output = model(window[:, :-1], attention_mask=mask, cache=state, use_cache=True)
        state = output.cache
        log_p = output.logits.float().log_softmax(-1)  # (B, T, V)
        targets = window[:, 1:]
        log_probs.append(log_p.gather(2, targets.unsqueeze(2)).squeeze(2))
        is_likeliest.append(log_p.argmax(2) == targets)
    if not log_probs:
        return [(torch.zeros(0), torch.zeros(0, dtype=torch.bool)) for _ in rows]
    columns = torch.cat(log_probs, dim=1).cpu(), torch.cat(is_likeliest, dim=1).cpu()
    return [(columns[0][i, :n], columns[1][i, :n]) for i, n in enumerate(lengths.tolist())]


def register() -> None:
    """Make the model type known to lm_eval. Raises ``UserError`` if lm_eval is not installed."""
    try:
        from lm_eval.api.registry import register_model
        from lm_eval.models.huggingface import HFLM
    except ImportError:
        raise UserError("lm_eval is not installed: pip install 'lm_eval[hf]'") from None

    @register_model("recurray")
    class RecurrentLM(HFLM):
        """lm_eval's model for transformers, with log-likelihoods computed over streams."""

        def __init__(self, pretrained: str, **kwargs: Any) -> None:
            super().__init__(pretrained, **{"trust_remote_code": True, **kwargs})

        @property
        def max_length(self) -> int:
            return UNLIMITED

        @property
        def prefix_token_id(self) -> int:
            """The id that a text without a context is read after, even if the tokenizer has no end of text."""
            found = super().prefix_token_id
            return int(self.model.config.bos_token_id if found is None else found)

        def _loglikelihood_tokens(
            self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
        ) -> list[tuple[float, bool]]:
            size = int(override_bs or (self.batch_size if self.batch_size != "auto" else 64))
            order = sorted(range(len(requests)), key=lambda i: -len(requests[i][1]) - len(requests[i][2]))
            answers: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
            for begin in range(0, len(order), size):
                chosen = order[begin : begin + size]
                rows = [requests[i][1] + requests[i][2] for i in chosen]
                for i, (log_p, is_likeliest) in zip(chosen, stream_scores(self.model, rows), strict=True):
                    asked, _, scored = requests[i]
                    first = len(log_p) - len(scored)
                    answers[i] = (float(log_p[first:].double().sum()), bool(is_likeliest[first:].all()))
                    if asked is not None:
                        self.cache_hook.add_partial("loglikelihood", asked, answers[i])
            return answers


def main() -> None:
    """lm_eval's command line."""
    try:
        register()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
