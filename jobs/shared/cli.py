"""Read the command line, turn a mistake into one sentence and exit code 2, and print the ``--json`` line.

argv → ``parser`` / ``config_from`` → the job's own few lines → ``run_job`` (exit code and result)
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from jobs.shared.options import end_soon
from pipeline.errors import KEY_IN_ADDRESS, Notice, UserError, carries_key

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.data.shards import PreparedCorpus

EXIT_USAGE = 2
# limits of a message about a mistake: lines, characters of one line, characters of an argument in it
MOST_LINES, LONGEST_LINE, LONGEST_ARGUMENT = 6, 1000, 200


def config_from(arguments: argparse.Namespace) -> Config:
    """Return the configuration that ``arguments`` name. Raises ``UserError`` as ``pipeline.config.load`` does."""
    from pipeline import config as configuration

    for word in arguments.overrides:
        if "=" not in word:
            raise UserError(f"{word}: is not a section.field=value{_guess(word)}")
    return configuration.load(arguments.config, arguments.overrides)


def _guess(word: str) -> str:
    """Return what the user may have meant by ``word`` on the command line: ``; did you mean …?``, or nothing."""
    from pipeline.config import Config, section_fields

    section, _, field = word.partition(".")
    if word.endswith((".yaml", ".yml")):
        return f"; did you mean --config {word}?"
    if section in Config.model_fields and field in section_fields(section):
        return f"; its value follows without blanks: {word}=…"
    return f"; did you mean corpus.train={word}?" if os.path.exists(word) else ""


def run_job(
    main: Callable[[list[str]], dict[str, Any] | None], argv: list[str] | None = None, *, goes_on: bool = False
) -> None:
    """Call ``main(argv)`` and exit: with 0, with 2 for a mistake by the user, or with the code of a ``SystemExit``.

    With ``--json``, what ``main`` returns is the last line on standard output, as strict JSON. ``goes_on``: an
    interrupted job has saved its work.
    """
    argv = sys.argv[1:] if argv is None else argv
    show_notices()
    try:
        refuse_keys(argv)
        result = main(argv)
        if "--json" in argv and result is not None:
            from pipeline.strict_json import to_json

            print(to_json(result))
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {as_shown(as_option(error), argv)}", file=sys.stderr)
        end_soon()
        raise SystemExit(EXIT_USAGE) from None
    except KeyboardInterrupt:
        print("interrupted" + ("; the same command continues from what is saved" * goes_on), file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        leave_if_nobody_reads()
        raise


def as_shown(sentences: str, argv: list[str]) -> str:
    """Return ``sentences``, one per line, as a terminal can show them: few lines, with long arguments shortened.

    What would move its cursor or hide text is escaped (``\\x1b``), including line ends within an argument.
    """
    for argument in argv:
        for part in (argument, argument.partition("=")[2]):
            if len(part) > LONGEST_ARGUMENT or "\n" in part.strip():
                sentences = sentences.replace(part, _cut(part.replace("\n", "\\n"), LONGEST_ARGUMENT))
    lines = sentences.split("\n")
    if len(lines) > MOST_LINES:
        lines[MOST_LINES - 1 :] = [f"… and {len(lines) - MOST_LINES + 1:,} more"]
    return "\n".join(_cut("".join(map(_printable, line)), LONGEST_LINE) for line in lines)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _printable(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def as_option(error: UserError) -> str:
    """Return the sentence of ``error``. An argument at its beginning becomes an option: ``top_k`` → ``--top-k``."""
    if not error.argument.isidentifier():  # a setting, or the place of one among many
        return str(error)
    return f"--{error.argument.replace('_', '-')}{str(error).removeprefix(error.argument)}"


def show_notices() -> None:
    """Print each ``Notice`` as its sentence alone from now on."""
    usual = warnings.formatwarning

    def shown(message: Warning | str, category: type[Warning], *where: Any, **line: Any) -> str:
        return f"note: {message}\n" if issubclass(category, Notice) else usual(message, category, *where, **line)

    warnings.formatwarning = shown


def refuse_keys(argv: list[str]) -> None:
    """Raise ``UserError`` for an address with a key in it, because arguments are shown and passed around."""
    for argument in argv:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise UserError(f"an argument is not UTF-8: {argument!r}")
    for before, argument in zip(["", *argv], argv, strict=False):
        option, _, address = argument.partition("=")
        if carries_key(argument):
            option, address = before if before.startswith("-") else "an argument", argument
        if carries_key(address) and option != "--address":
            raise UserError(f"{option}: {KEY_IN_ADDRESS}")


def leave_if_nobody_reads() -> None:
    """Exit quietly if the pipe that broke is standard output, as after ``| head``."""
    import select
    import signal

    output = select.poll()
    output.register(sys.stdout.fileno(), select.POLLOUT)
    if any(events & select.POLLERR for _, events in output.poll(0)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        raise SystemExit(128 + signal.SIGPIPE) from None


def executor(config: Config, *, verbose: bool) -> AbstractContextManager[Any]:
    """Return the executor of ``cluster.backend`` (see ``pipeline.launch``); Ray is imported only if it is used."""
    if config.cluster.backend == "local":
        from pipeline.launch import in_process

        return in_process(config)
    from pipeline.cluster.train import on_ray

    return on_ray(config, verbose=verbose)


def preparation(config: Config, *, verbose: bool) -> AbstractContextManager[Callable[..., PreparedCorpus]]:
    """Return what prepares a corpus on ``cluster.backend``: no rank will run, so torch is not imported."""
    if config.cluster.backend == "local":
        from pipeline.data.prepare import prepare_in_process

        return nullcontext(prepare_in_process)
    from pipeline.cluster.prepare import on_ray

    return on_ray(config, verbose=verbose)


def print_dry_run(config: Config, figures: dict[str, Any]) -> dict[str, Any]:
    """Print the resolved settings and what follows from them; return ``figures``."""
    from pipeline import config as configuration

    print(configuration.to_yaml(config))
    for name, value in figures.items():
        print(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")
    return figures
