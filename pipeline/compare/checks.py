"""What a comparison would come upon only when its runs are trained, found before the first of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.compare.costs import check_measured
from pipeline.compare.epochs import check_lengths
from pipeline.compare.plan import Comparison
from pipeline.compare.scores import split_of
from pipeline.config import Config
from pipeline.data.windows import TrainingData
from pipeline.errors import UserError
from pipeline.status import check_scored


def check_runs(
    config: Config,
    comparison: Comparison,
    *,
    num_tokens: Mapping[str, int],
    are_counted: bool = True,
    data_of: Callable[[Config], TrainingData],
) -> None:
    """Refuse a ``comparison`` whose runs cannot all be trained, scored and measured.

    Args:
        num_tokens: tokens of each split.
        are_counted: whether these are exact; if not, nothing is refused for too little text.
        data_of: the configuration of a run → its training split.

    Raises:
        UserError: a variant with too little text for a window, no split to score or a single token in it, or a context
            or window to measure that a variant cannot have.
    """
    if are_counted:
        check_lengths(config, comparison.sizes, data_of)
    split = split_of(num_tokens, config)
    if split not in num_tokens:
        raise UserError(f"compare.split: the prepared corpus has no {config.compare.split} split")
    for name in dict.fromkeys(("valid", split)):
        if are_counted:
            check_scored(name, num_tokens[name])
    check_measured(config, comparison)
