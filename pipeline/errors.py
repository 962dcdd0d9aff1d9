"""Errors made by the user, as opposed to bugs in this program."""

from __future__ import annotations

import re

# also as ``pathlib`` writes an address, with one slash
ADDRESS = re.compile(r"\b(?P<scheme>[a-z][a-z0-9+.-]{1,30})(?P<slashes>:/{1,2})(?P<rest>[^\s'\"]+)", re.IGNORECASE)
BUCKETS = {"s3", "s3a", "gs", "gcs"}  # schemes with a bucket where others have host and port
PASSWORD = re.compile(r":(?!\d*$)")  # a colon that no port follows
QUERY_KEY = re.compile(
    r"(?P<name>[?&][^=&?\s'\"]{0,60}?(?:key|token|secret|password|credential|sig)[^=&?\s'\"]{0,60}=)[^&\s'\"]+",
    re.IGNORECASE,
)
HIDDEN = "***"
KEY_IN_ADDRESS = (
    "an address must not hold a key or a password, which would be saved and shown with it; set them in the environment "
    "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3://)"
)


class UserError(ValueError):
    """A mistake by the user: one sentence that names the setting, argument or file, the value and the constraint.

    It is raised on purpose, where the mistake is noticed. A job prints the sentence and exits with 2. Every other
    exception is a bug or a failure of the machine: it keeps its traceback, and Ray tries again.
    """

    def __init__(self, sentence: str, *, argument: str = "") -> None:
        """``argument``: what is wrong (``top_k``, ``train.bptt``); begins the sentence, in a job as ``--top-k``."""
        super().__init__(without_keys(f"{argument}: {sentence}" if argument else sentence))
        self.argument = argument


class CannotContinueError(UserError):
    """A run directory holds something that this run cannot continue; starting over would set it aside."""


class Notice(UserWarning):
    """Something that a user should know although the work was done. A job prints its sentence and continues."""


def without_keys(text: str) -> str:
    """Hide keys and passwords in the addresses in ``text`` (``s3://KEY:SECRET@bucket``, ``…?X-Amz-Signature=…``)."""
    return ADDRESS.sub(_without_key, text)


def carries_key(address: str) -> bool:
    """Return whether an address of a store holds a key or a password, or something that can only be one."""
    found = ADDRESS.match(address)
    return found is not None and _without_key(found) != found[0]


def _without_key(found: re.Match[str]) -> str:
    scheme, rest = found["scheme"].lower(), found["rest"]
    host = rest.partition("/")[0].rstrip(",.;:)]}>")
    if scheme != "hf":  # a name on the hub, or a folder
        user, _, host = host.rpartition("@")
        host = re.sub(r"^\[.*\]", "", host)  # an IPv6 address
        if ":" in user or PASSWORD.search(host) or (scheme in BUCKETS and ":" in host):
            # a pasted key may contain slashes: only what comes last is the host
            rest = f"{HIDDEN}@{rest.rpartition('@')[2]}" if "@" in rest else HIDDEN
        elif user:
            rest = f"{HIDDEN}@{rest.partition('@')[2]}"
    return found["scheme"] + found["slashes"] + QUERY_KEY.sub(rf"\g<name>{HIDDEN}", rest)
