"""Telling a user's mistake, a ``ValueError`` with a sentence of ours, from a library's bug."""

from __future__ import annotations


def is_user_error(error: ValueError) -> bool:
    """Whether ``error`` was raised by this project (a sentence for the user) and not by a library's bug."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "") if traceback else ""
    return module.partition(".")[0] in {"pipeline", "jobs", "argparse", "__main__"}
