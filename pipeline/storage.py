"""Read and write local paths, and URIs (``s3://``, ``gs://``, …) through pyarrow's file systems.

Credentials, regions and endpoints come from the clouds' own environment variables (``AWS_ENDPOINT_URL`` for a store
that speaks S3); pyarrow itself tries again if a store does not answer.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
from pyarrow import fs

from pipeline.errors import KEY_IN_ADDRESS, UserError, carries_key
from pipeline.files import UnwritableError, reason, replacing
from pipeline.globs import as_expression, files_below

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
WILDCARD = re.compile(r"[*?\[]")
ATTEMPTS, WAIT_SECONDS = 3, 1.0
CONNECT_SECONDS, REQUEST_SECONDS = 5, 60
MAY_PASS = re.compile("NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|timed? ?out")
T = TypeVar("T")


class UnreadableError(UserError):
    """A file is missing, or its store does not answer."""


class Found(NamedTuple):
    """A file: its size in bytes, and when it was last changed, in nanoseconds since 1970, or 0 if that is unknown."""

    path: str
    size: int
    changed: int


def is_uri(path: str) -> bool:
    return "://" in path and not path.startswith("hf://")


def join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def compression_of(path: str) -> str | None:
    """Return pyarrow's name of the compression that the ending of ``path`` names."""
    return COMPRESSIONS.get(os.path.splitext(path)[1].lower())


def size(path: str) -> int | None:
    """Return the size of a file in bytes, or None if there is none. Raises ``UnreadableError``."""
    if not is_uri(path):
        return os.stat(path).st_size if os.path.isfile(path) else None
    info = _info(path)
    return info.size if info.type == fs.FileType.File else None


def _info(uri: str) -> fs.FileInfo:
    with _telling(uri):
        store, key = _store(uri)
        return _again(lambda: store.get_file_info(key))


def open_file(path: str) -> pa.NativeFile:
    """Open a file for reading at any position (threads may share ``read_at``). Raises ``UnreadableError``."""
    with _telling(path):
        if not is_uri(path):
            return pa.OSFile(path)
        store, key = _store(path)
        return _again(lambda: store.open_input_file(key))


def read(path: str, start: int = 0, stop: int | None = None) -> bytes:
    """Return the bytes ``start`` to ``stop`` (default: the end) of a file. Raises ``UnreadableError``."""
    with _telling(path), open_file(path) as file:
        return file.read_at((file.size() if stop is None else stop) - start, start)


def read_open(file: pa.NativeFile, path: str, start: int, num_bytes: int) -> bytes:
    """Return ``num_bytes`` from ``start`` of an open file with one ranged read. Raises ``UnreadableError``."""
    with _telling(path):
        return _again(lambda: file.read_at(num_bytes, start))


@contextmanager
def decompressed(file: pa.NativeFile, path: str) -> Iterator[pa.NativeFile]:
    """Yield a stream of the bytes of an open file, decompressed if the ending of ``path`` says so.

    Raises:
        UnreadableError: it cannot be read, or is not what its ending says.
    """
    compression = compression_of(path)
    with _telling(path):
        if compression is None:
            yield file
            return
        if not file.size():
            raise UnreadableError(f"{path}: not a whole {compression} file: it is empty")
        try:
            with pa.CompressedInputStream(file, compression) as stream:
                yield stream
        except OSError as error:
            raise UnreadableError(f"{path}: not a whole {compression} file: {reason(error)}") from None
        except pa.ArrowException as error:
            if type(error) is not pa.ArrowException:  # what the reader of the text found; bz2's own has no kind
                raise
            raise UnreadableError(f"{path}: cannot be read as {compression}: {error}; compress it again") from None


def find(pattern: str) -> list[Found]:
    """Return the files of a path, a directory (all below it) or a glob (``**`` crosses directories), sorted.

    Hidden files and folders count only where the pattern itself names them.

    Raises:
        UnreadableError: a folder, or a file that is named, cannot be read.
        UserError: a name is not UTF-8.
    """
    if is_uri(pattern):
        return _find_remote(pattern)
    path = Path(pattern).expanduser()
    if os.path.isfile(path):  # Path.is_file would raise for an invalid name
        return _found([path])
    if not os.path.isdir(path):
        return _found(map(Path, glob.glob(str(path), recursive=True)))
    try:
        return _found(map(Path, files_below(str(path))))
    except OSError as error:
        raise UnreadableError(f"{error.filename}: cannot be read: {reason(error)}") from None


def _found(paths: Iterable[Path]) -> list[Found]:
    """Those of ``paths`` that are files. Raises ``UserError`` for a link that leads nowhere, or a name not in UTF-8."""
    found = []
    for path in sorted(paths, key=lambda path: path.parts):
        name = str(path)
        if (shown := os.fsencode(path).decode(errors="replace")) != name:
            raise UserError(f"{shown}: its name is not UTF-8; rename it")
        with _telling(name):
            facts = path.stat()
        if stat.S_ISREG(facts.st_mode):
            # not st_mtime, the time of its text: that can be set, and a file moved here keeps its own
            found.append(Found(name, facts.st_size, facts.st_ctime_ns))
    return found


def _find_remote(pattern: str) -> list[Found]:
    wildcard = WILDCARD.search(pattern)
    if wildcard is None and (info := _info(pattern)).type == fs.FileType.File:
        return [Found(pattern, info.size, info.mtime_ns or 0)]
    scheme, _, rest = pattern.partition("://")
    folder = (rest if wildcard is None else rest[: wildcard.start() - len(scheme) - 3].rpartition("/")[0]).rstrip("/")
    with _telling(pattern):
        store, key = _store(f"{scheme}://{folder}")
        infos = _again(lambda: store.get_file_info(fs.FileSelector(key, recursive=True, allow_not_found=True)))
    wanted = as_expression(rest) if wildcard else None
    return sorted(
        Found(f"{scheme}://{info.path}", info.size, info.mtime_ns or 0)
        for info in infos
        if info.type == fs.FileType.File
        and (wanted.fullmatch(info.path) if wanted else "/." not in info.path.removeprefix(folder))
    )


def sizes_in(folder: str) -> dict[str, int]:
    """Return name → bytes of the files in a folder, with one request; empty if there is no such folder."""
    if not is_uri(folder):
        if not os.path.isdir(folder):
            return {}
        return {entry.name: entry.stat().st_size for entry in os.scandir(folder) if entry.is_file()}
    with _telling(folder):
        store, key = _store(folder)
        infos = _again(lambda: store.get_file_info(fs.FileSelector(key, allow_not_found=True)))
    return {info.base_name: info.size for info in infos if info.type == fs.FileType.File}


def modified(path: str) -> float:
    """Return when a file was last written, in seconds since 1970."""
    if not is_uri(path):
        return os.stat(path).st_mtime
    return (_info(path).mtime_ns or 0) / 1e9


def remove(path: str) -> None:
    """Remove a file, if it is there."""
    if not is_uri(path):
        return Path(path).unlink(missing_ok=True)
    store, key = _store(path)
    with suppress(FileNotFoundError):
        store.delete_file(key)


def write(path: str, data: bytes) -> None:
    """Write a whole file, which is complete when it appears under its name. Raises ``UnwritableError``."""
    if not is_uri(path):
        # not flushed: a manifest or a sidecar has checksums, so it is noticed if a power cut emptied it
        with telling_of_writes(path), replacing(path, flush=False) as temporary:
            temporary.write_bytes(data)
        return
    with telling_of_writes(path):
        _again(lambda: _put(path, data))


def _put(path: str, data: Any) -> None:
    store, key = _store(path)
    if isinstance(store, fs.LocalFileSystem):  # the others make folders, if they have any
        store.create_dir(os.path.dirname(key))
    # closed only when all is written: on closing, an object store publishes what it was given so far
    stream = store.open_output_stream(key)
    stream.write(data)
    stream.close()


def upload(local: Path, path: str) -> None:
    """Move a finished local file to ``path``. Raises ``UnwritableError``."""
    with telling_of_writes(path, local):
        if not is_uri(path):
            local.replace(path)
            return
        with pa.memory_map(str(local)) as file:
            _again(lambda: _put(path, file.read_buffer(file.size()) if file.seek(0) == 0 else b""))
    local.unlink()


@contextmanager
def telling_of_writes(path: str, temporary: Path | None = None) -> Iterator[None]:
    """Turn an ``OSError`` into an ``UnwritableError`` that names ``path``, and remove ``temporary``."""
    try:
        yield
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        after = "what is done is kept, and the same command continues"
        raise UnwritableError(f"{path}: cannot be written: {reason(error)}; {after}") from None


@lru_cache(maxsize=64)
def _connect(root: str) -> fs.FileSystem:
    """Return the file system of a bucket."""
    if not root.startswith("s3://"):
        return fs.FileSystem.from_uri(root)[0]
    bucket = root.removeprefix("s3://")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
    )


def _store(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of ``uri`` and its key there. Raises ``UserError`` if it has a password in it."""
    if carries_key(uri):
        raise UserError(f"{uri}: {KEY_IN_ADDRESS}")
    scheme, _, rest = uri.partition("://")
    if scheme == "file":
        return _connect("file:///"), rest
    bucket = rest.partition("/")[0]
    try:
        return _connect(f"{scheme}://{bucket}"), rest.rstrip("/")
    except pa.ArrowInvalid:
        raise UserError(f"{uri}: {scheme}:// is not a store that pyarrow knows (s3://, gs://, …)") from None


def _again(action: Callable[[], T]) -> T:
    """Call ``action``, and call it again if the store fails in a way that may be temporary."""
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except FileNotFoundError:
            raise
        except OSError as error:
            if not MAY_PASS.search(str(error)):
                raise
            time.sleep(WAIT_SECONDS * 2**attempt)
    return action()


@contextmanager
def _telling(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = "every node of a cluster must see it"
        raise UnreadableError(f"{path}: cannot be read: {reason(error)} ({where})") from None
