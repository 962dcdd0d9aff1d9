"""Servers on this machine that answer, each in its own wrong way, where a cluster's job API is expected."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = json.dumps({"version": "4", "ray_version": "2.60.0", "ray_commit": "x"})


@dataclass(frozen=True)
class Answer:
    """A status of 0 closes the connection without an answer; ``promised`` more bytes are announced than are sent."""

    status: int
    text: str = ""
    promised: int = 0
    wait: Callable[[], None] | None = None


@dataclass
class FakeHead:
    address: str
    requests: list[tuple[str, str]] = field(default_factory=list)  # "GET /api/version", the authorization it carried


@contextmanager
def fake_head(
    *, version: Answer, others: Answer = Answer(200), answers: dict[str, Answer] | None = None, token: str = ""
) -> Iterator[FakeHead]:
    """A head that answers ``version`` when asked for its version, and otherwise by the beginning of ``METHOD /path``.

    With a ``token`` it answers, as Ray does, only requests that carry it.
    """
    known = {"GET /api/version": version, **(answers or {})}

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            request = f"{self.command} {self.path}"
            head.requests.append((request, self.headers.get("Authorization", "")))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = next((a for start, a in known.items() if request.startswith(start)), others)
            if token and not (sent := self.headers.get("Authorization")):
                answer = Answer(401, "Unauthorized: Missing authentication token")
            elif token and sent != f"Bearer {token}":
                answer = Answer(403, "Forbidden: Invalid authentication token")
            if answer.wait is not None:
                answer.wait()
            self.close_connection = True
            if answer.status:
                body = answer.text.encode()
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(body) + answer.promised))
                self.end_headers()
                self.wfile.write(body)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    head = FakeHead(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield head
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
