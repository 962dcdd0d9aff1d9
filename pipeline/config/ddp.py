"""Section of data-parallel training: how workers average their gradients."""

from __future__ import annotations

from typing import Literal

from pipeline.config.fields import Section, setting


class DdpConfig(Section):
    """How several workers average their gradients."""

    communication: Literal["full", "ordered", "bf16", "powersgd"] = setting(
        "full",
        "What workers exchange: gradients as they are; the same summed in the order of workers, whatever the buckets; "
        "rounded to bf16; or matrices as low-rank products, with what is left out added to the next gradient.",
        source="Vogels et al. 2019, PowerSGD",
    )
    powersgd_rank: int = setting(4, "Rank of powersgd's products.", only_with="ddp.communication=powersgd", ge=1)
    powersgd_after_steps: int = setting(
        1000,
        "Steps with whole gradients before powersgd begins.",
        unit="steps",
        only_with="ddp.communication=powersgd",
        ge=0,
    )
