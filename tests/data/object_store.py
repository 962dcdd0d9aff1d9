"""A store that speaks S3: a local moto server, one bucket, and a door in front of it that can be watched and shut."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from pipeline import storage

BUCKET = "s3://texts"


class Door:
    """Stands in front of the server: records all requests, and turns away those that ``is_shut`` names."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self.application = application
        self.requests: list[tuple[str, str, str]] = []  # method, path, range
        self.is_shut: Callable[[str, str], bool] = lambda method, path: False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path, environ.get("HTTP_RANGE", "")))
        if self.is_shut(method, path):
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"]
        return self.application(environ, start_response)

    def ranges(self, name: str) -> list[tuple[int, int]]:
        """The ranges of bytes, (start, stop), that were read from files whose path contains ``name``."""
        return sorted(
            (int(first), int(last) + 1)
            for method, path, asked in self.requests
            if method == "GET" and name in path
            for first, last in [asked.removeprefix("bytes=").split("-")]
        )


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedMotoServer]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def door(server: ThreadedMotoServer) -> Iterator[Door]:
    assert server._server is not None
    application = server._server.app
    server._server.app = Door(application)
    yield server._server.app
    server._server.app = application


@pytest.fixture(scope="module")
def store(server: ThreadedMotoServer) -> Iterator[fs.FileSystem]:
    """An empty bucket, and the environment variables that lead to it."""
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        bucket = fs.S3FileSystem(endpoint_override=f"http://127.0.0.1:{port}", allow_bucket_creation=True)
        bucket.create_dir("texts")
        storage._connect.cache_clear()
        yield bucket
        storage._connect.cache_clear()


def put(store: fs.FileSystem, path: str, data: bytes) -> None:
    with store.open_output_stream(f"texts/{path}", compression=None) as stream:
        stream.write(data)
