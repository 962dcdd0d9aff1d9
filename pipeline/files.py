"""Write local files and folders that appear complete or not at all, and hold locks that die with their owner.

new_file, new_folder → a temporary place beside it → written → flushed to the disk → renamed; on failure removed
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import UserError

TEMPORARY = ".tmp"  # the ending of a file that is being written; its name begins with a dot
NAME_CHARACTERS = 48  # of a file's name kept in its temporary one: they fit even at four bytes each


class UnwritableError(UserError):
    """A file could not be written. What was there before is unchanged."""


def write_file(path: str | Path, data: str | bytes, *, argument: str = "") -> None:
    """Write a whole file, text as UTF-8. Raises ``UnwritableError`` as ``new_file`` does."""
    with new_file(path, argument=argument) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def new_file(path: str | Path, *, argument: str = "") -> Iterator[Path]:
    """Yield a temporary path to write; at the end it is flushed to the disk and takes the place of ``path``.

    Raises:
        UnwritableError: for any ``OSError`` within, naming ``path`` (and the ``argument`` that asked for it); what was
            there before is unchanged.
    """
    with telling_of_writes(path, argument=argument), replacing(path) as temporary:
        yield temporary


@contextmanager
def replacing(path: str | Path, *, flush: bool = True) -> Iterator[Path]:
    """Do what ``new_file`` does, but raise ``OSError``. Without ``flush`` a power cut may leave an empty file.

    A link remains a link to the file that is replaced. A device or a pipe (``/dev/stdout``) is written to directly.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        yield target
        return
    temporary = _begin(target)
    try:
        mode = (target if target.exists() else temporary).stat().st_mode & 0o777
        yield temporary
        temporary.chmod(mode)
        if flush:
            flush_to_disk(temporary)
        temporary.replace(target)
        if flush:
            flush_folder(target.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _begin(target: Path) -> Path:
    """Create an empty file beside ``target``, with the permissions that the umask gives, whatever library writes it."""
    temporary = target.with_name(f".{target.name[:NAME_CHARACTERS]}.{secrets.token_hex(4)}{TEMPORARY}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return temporary


def check_writable(path: str | Path, *, argument: str) -> None:
    """Raise ``UnwritableError`` if a file cannot even be created, before its content is computed."""
    target = Path(os.path.realpath(path))
    with telling_of_writes(path, argument=argument):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.is_file() or not target.exists():
            _begin(target).unlink()


@contextmanager
def new_folder(path: str | Path, *, argument: str = "") -> Iterator[Path]:
    """Yield an empty folder to fill; at the end it is flushed to the disk and takes the place of ``path``.

    Raises:
        UnwritableError: as ``new_file``.
    """
    target = Path(path)
    temporary, former = _beside(target)
    with telling_of_writes(path, argument=argument):
        if former.exists() and not target.exists():  # a process was killed between the two renames below
            former.rename(target)
        for left in (temporary, former):
            shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            mode = temporary.stat().st_mode & 0o666  # what the umask gives a file
            for file in filter(Path.is_file, temporary.iterdir()):
                file.chmod(mode)
                flush_to_disk(file)
            if target.exists():
                target.rename(former)
            temporary.rename(target)
            flush_folder(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if not target.exists() and former.exists():
                former.rename(target)
        shutil.rmtree(former, ignore_errors=True)


def _beside(target: Path) -> tuple[Path, Path]:
    """Return where a folder that is to become ``target`` is written, and where the one that it replaces goes."""
    return target.with_name(f".writing-{target.name}"), target.with_name(f".former-{target.name}")


def remove_leftovers(path: Path) -> None:
    """Remove what is left beside ``path`` if a process was killed after ``new_folder`` had put it in place."""
    for left in _beside(path):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def telling_of_writes(path: str | Path, *, argument: str = "") -> Iterator[None]:
    """Turn an ``OSError`` into an ``UnwritableError`` of one sentence that names ``path``."""
    try:
        yield
    except BrokenPipeError:  # the reader of a pipe is gone: no fault of the file
        raise
    except OSError as error:
        raise UnwritableError(f"{path} cannot be written: {reason(error)}", argument=argument) from None


def flush_to_disk(path: Path) -> None:
    """Make the content of a file survive a power cut. Raises ``OSError``: a full network disk says so here."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut, if its file system can do that."""
    with suppress(OSError):
        flush_to_disk(path)


def reason(error: OSError) -> str:
    """Return what an error says as one short sentence."""
    if isinstance(error, shutil.Error) and error.args:  # of a tree: the first of its files that failed
        return reason(OSError(str(error.args[0][0][-1])))
    text = (error.strerror or str(error) or type(error).__name__).splitlines()[0]
    if found := re.search(r"Detail: \[errno \d+\] ([^\[]+)$", text):  # pyarrow's
        return found[1].strip()
    if found := re.fullmatch(r"\[Errno \d+\] ([^:]+)(: .*)?", text):
        return found[1]
    if found := re.search(r" \(os error \d+\)", text):  # Rust's
        return text[: found.start()].rpartition(":")[2].strip()
    text = re.sub(r" \(Request ID: [^)]*\)", "", text)
    if "NETWORK_CONNECTION" in text or "timed out" in text.lower():
        return "its store does not answer (" + text.rpartition("; Details: ")[2].rpartition(": ")[2] + ")"
    return text.rstrip(".")


def hold(path: Path) -> int:
    """Lock the file ``path``, created if necessary, for as long as the returned descriptor is open.

    The operating system drops the lock when the process ends, however it ends. The holder may remove the file.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be created, or its file system has no locks.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass  # its former holder removed it meanwhile
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def make_directory(path: Path) -> list[Path]:
    """Create ``path`` and what is missing above it; return what was created, deepest first. Raises ``OSError``."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # a file is no directory that exists
        raise NotADirectoryError(errno.ENOTDIR, "it is a file, not a directory", str(path)) from None
    return made


def remove_if_empty(folders: list[Path]) -> None:
    """Remove, in order, those of ``folders`` that are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
