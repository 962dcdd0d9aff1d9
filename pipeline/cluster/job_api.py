"""Check that an address is a cluster's job API, with a sentence for whatever else may answer there; without Ray.

the address → its version, asked for without a token → nothing to say, or an error that names the address
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import requests

from pipeline.errors import UserError

ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # in the order in which Ray looks at them
ANSWER_SECONDS = 20.0
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
DEFAULT_TOKEN_PATH = "~/.ray/auth_token"
WRONG_TOKEN = "Invalid authentication token"  # Ray's own words; a proxy in front of it may answer 403 too


class ClusterFailedError(Exception):
    """Not a mistake of the user's: the cluster failed, or the way to it. One sentence, exit code 1."""


class LostJobError(ClusterFailedError):
    """A job that was submitted can no longer be followed; it may well still run."""


@dataclass(frozen=True)
class JobApi:
    """Where a job API is expected.

    Attributes:
        address: as it was given; None: Ray looks for a cluster on this machine.
        origin: the option or the variable that it comes from.
        has_rival: one of Ray's variables names another cluster, which Ray would prefer to an option.
    """

    address: str | None
    origin: str
    has_rival: bool = False

    @classmethod
    def meant_by(cls, option: str | None) -> JobApi:
        """The job API that the ``option`` --address names, else Ray's own variables."""
        if option:
            rivals = [os.environ[name] for name in ADDRESS_VARIABLES if os.environ.get(name, option) != option]
            return cls(option, "--address", has_rival=bool(rivals))
        for name in ADDRESS_VARIABLES:
            if os.environ.get(name):
                return cls(os.environ[name], name)
        return cls(None, "--address")

    def check(self) -> None:
        """Ask an HTTP address for its version; any other is for Ray to look up.

        Raises:
            UserError: nothing is there, or something else, or it wants a token that Ray would not send.
            ClusterFailedError: it says that it failed.
        """
        if self.address is None or not self.address.startswith(("http://", "https://")):
            return
        try:
            response = requests.get(f"{self.address.rstrip('/')}/api/version", timeout=ANSWER_SECONDS)
        except requests.RequestException as error:
            raise UserError(self.silence(error)) from None
        if response.status_code in (401, 403) and token_mode():
            return  # Ray's client sends the token
        if response.status_code != 200:
            raise self.refusal(response.status_code, response.text)
        try:
            known = isinstance(response.json()["ray_version"], str)
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise UserError(self.stranger(response.text))

    @property
    def name(self) -> str:
        return self.address or "Ray's default address"

    def silence(self, error: BaseException) -> str:
        """The sentence for an address that does not answer."""
        return f"{self.origin}: no Ray cluster answers at {self.name}: {reason(error)}"

    def stranger(self, answer: str = "") -> str:
        """The sentence for an ``answer`` that does not come from Ray's job API."""
        said = f"; it says: {shortened(answer)}" if shortened(answer) else ""
        return (
            f"{self.origin}: something other than Ray's job API, which a head has at http://HOST:8265, "
            f"answers at {self.name}{said}"
        )

    def refusal(self, status: int, answer: str) -> UserError | ClusterFailedError:
        """The error to raise for an ``answer`` whose ``status`` is not 200."""
        said = f": {shortened(answer)}" if shortened(answer) else ""
        if status == 401:
            return UserError(self.missing_token())
        if status == 403 and WRONG_TOKEN in answer:
            return UserError(
                f"{self.origin}: the cluster at {self.name} refuses the token in {token_place()}: it wants the "
                "one that its head was started with, which `ray get-auth-token` prints there"
            )
        if status == 404:
            return UserError(self.stranger(answer))
        if status >= 500:
            return ClusterFailedError(f"the cluster at {self.name} failed: it answers {status}{said}")
        return UserError(f"{self.origin}: the cluster at {self.name} refuses: it answers {status}{said}")

    def missing_token(self) -> str:
        """The sentence for a cluster that wants a token: what to set, given what is set."""
        mode, place = os.environ.get(MODE), token_place()
        is_there = place != DEFAULT_TOKEN_PATH or os.path.exists(os.path.expanduser(place))
        wants = f"{self.origin}: the cluster at {self.name} wants a token"
        put = f"put its head's token into {TOKEN}, or into a file that {TOKEN_PATH} names (else {DEFAULT_TOKEN_PATH})"
        if token_mode():
            return f"{wants}, and none can be read from {place}: {put}" if is_there else f"{wants}: {put}"
        but = f" (it is {mode!r})" if mode else ""
        if is_there:
            return f"{wants}: set {MODE}=token{but}, so that the one in {place} is sent"
        return f"{wants}: set {MODE}=token{but}, and {put}"


def token_mode() -> bool:
    """Whether Ray sends a token: only if it is told to, whatever tokens there are."""
    return os.environ.get(MODE, "").lower() == "token"


def token_place() -> str:
    """Where Ray takes the token from: the first of three places."""
    if os.environ.get(TOKEN):
        return TOKEN
    return os.environ.get(TOKEN_PATH) or DEFAULT_TOKEN_PATH


def reason(error: BaseException | None) -> str:
    """The system's own words for why a request failed, without what libraries wrapped around them."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {ANSWER_SECONDS:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "its answer breaks off"
    text, cause = str(error), error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        text, cause = str(cause) or text, cause.__cause__ or cause.__context__
    return shortened(text)


def shortened(text: str, length: int = 200) -> str:
    """An answer in one line: the words of a page without its tags, the last line of a traceback."""
    text = re.sub(r"(?is)<(script|style|head)\b.*?</\1>|<[^<>]*>", " ", text)
    if "Traceback (most recent call last)" in text:
        text = text.strip().splitlines()[-1]
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[:length]} …"
