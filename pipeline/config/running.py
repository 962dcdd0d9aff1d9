"""Sections of what surrounds training: the held-out score, the run."""

from __future__ import annotations

from pydantic import field_validator

from pipeline.config.fields import Section, setting
from pipeline.errors import UserError


class EvaluateConfig(Section):
    """Held-out perplexity."""

    streams: int = setting(
        16,
        "Streams, or documents side by side, in which held-out text is scored, whatever the number of workers.",
        unit="streams",
        ge=1,
    )
    burn_in: int = setting(
        64,
        "Tokens read without being scored before each stream except the first.",
        unit="tokens",
        only_with="data.layout=streams",
        ge=0,
    )


class RunConfig(Section):
    """Where a run lives and what it shows."""

    directory: str | None = setting(None, "Checkpoints, metrics and TensorBoard files; null: runs/<config name>.")
    sample_tokens: int = setting(
        200,
        "Tokens of sample text written after each validation; 0: none.",
        unit="tokens",
        only_with="corpus.valid or corpus.valid_fraction",
        ge=0,
        le=1_000_000,
    )
    sample_prompt: str = setting(
        "",
        "What the sample text begins with; empty: a zero state.",
        only_with="run.sample_tokens and corpus.valid or corpus.valid_fraction",
    )

    @field_validator("directory")
    @classmethod
    def _is_no_bucket(cls, directory: str | None) -> str | None:
        if directory is not None and "://" in directory:
            raise UserError(
                f"{directory} is not a folder; a run needs one that every worker writes to (data may be in a bucket)"
            )
        return directory
