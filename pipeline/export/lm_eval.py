"""lm_eval's own command with one more model type, ``recurray``, which scores a text of any length as one stream.

    python -m pipeline.export.lm_eval --model recurray --model_args pretrained=FOLDER --tasks TASK …

``--model hf`` works too, but cuts a text into windows of 2,048 tokens, each read from a zero state, and reads a context
or prompt without what a text begins with. Here the state is carried from window to window, so nothing is cut, and
memory does not grow with the text; and every text begins as everywhere in this project. Letters: B rows, T time,
V vocabulary.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import UserError

WINDOW_TOKENS = 512
UNLIMITED = 1 << 40  # tokens: more than any text has
AUTOMATIC_ROWS = 64  # read side by side with batch_size=auto; lm_eval would try out rows of max_length

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

        def _detect_batch_size(self, requests: Any = None, pos: int = 0) -> int:
            return AUTOMATIC_ROWS

        def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> Any:
            """The text of ``tokens``; None, where nothing stops, of the end of text of a tokenizer without one."""
            return None if tokens is None else super().tok_decode(tokens, skip_special_tokens=skip_special_tokens)

        def tok_batch_encode(self, strings: Sequence[str], *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            """Return (B, T) ids and mask of prompts, padded on the left, each after what a text begins with."""
            return left_padded([[self.prefix_token_id, *self.tok_encode(text)] for text in strings])

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            """Score every token of each continuation; its context is read after what a text begins with."""
            asked = []
            for context, continuation in (request.args for request in requests):
                before, scored = [], self.tok_encode(continuation, add_special_tokens=False)
                if context:
                    before, scored = self._encode_pair(context, continuation)
                asked.append(((context, continuation), [self.prefix_token_id, *before], scored))
            return self._loglikelihood_tokens(asked, disable_tqdm=disable_tqdm)

        def _loglikelihood_tokens(
            self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
        ) -> list[tuple[float, bool]]:
            size = int(override_bs or (self.batch_size if self.batch_size != "auto" else AUTOMATIC_ROWS))
            answers: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
            for chosen in longest_first(requests, size):
                rows = [requests[i][1] + requests[i][2] for i in chosen]
                for i, (log_p, is_likeliest) in zip(chosen, stream_scores(self.model, rows), strict=True):
                    asked, _, scored = requests[i]
                    first = len(log_p) - len(scored)
                    answers[i] = (float(log_p[first:].double().sum()), bool(is_likeliest[first:].all()))
                    if asked is not None:
                        self.cache_hook.add_partial("loglikelihood", asked, answers[i])
            return answers


def longest_first(requests: Sequence[Request], size: int) -> Iterator[list[int]]:
    """Yield the indices of ``size`` requests at a time, those of similar length together."""
    order = sorted(range(len(requests)), key=lambda i: -len(requests[i][1]) - len(requests[i][2]))
    yield from (order[begin : begin + size] for begin in range(0, len(order), size))


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return ids and mask (B, T) of the ``rows``, which all end at T; ids and mask are 0 before each."""
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, -len(row) :], mask[i, -len(row) :] = torch.tensor(row), 1
    return ids, mask


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
