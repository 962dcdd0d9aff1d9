"""Read the command line, turn a mistake into one sentence and exit code 2, and print the ``--json`` line.

argv → ``parser`` / ``config_from`` → the job's own few lines → ``run_job`` (exit code and result)
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from jobs.shared.numbers import number, whole
from pipeline.errors import KEY_IN_ADDRESS, Notice, UserError, carries_key
from pipeline.options import Sampling

if TYPE_CHECKING:
    from pipeline.config import Config

EXIT_USAGE = 2
LINE_WIDTH, OPTION_WIDTH = 80, 28
# how a command is called; ``recurray`` sets its own
PROGRAM = "python -m jobs.{}"
# of what is said of a mistake: lines, and characters of one line and of an argument in it
MOST_LINES, LONGEST_LINE, LONGEST_ARGUMENT = 6, 1000, 200


class OneSentenceParser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that complains in one sentence, without a usage block, and takes options anywhere.

    It imports the settings only if the help or an unknown option needs them.
    """

    takes_config = False
    shown = ""  # the topic of which --help shows the options; empty: those of no topic; all: every one

    def topic(self, name: str, title: str) -> argparse._ArgumentGroup:
        """Return a group of options that only ``--help NAME`` and ``--help all`` show."""
        group = self.add_argument_group(title)
        group.topic = name  # type: ignore[attr-defined]
        return group

    @property
    def topics(self) -> dict[str, str]:
        """The title of each topic, by its name."""
        return {topic_of(group): group.title or "" for group in self._action_groups if topic_of(group)}

    @property
    def first_of_needed(self) -> list[argparse.Action]:
        """The first option of each group of which one must be given."""
        return [group._group_actions[0] for group in self._mutually_exclusive_groups if group.required]

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        arguments = sys.argv[1:] if args is None else list(args)
        for argument in arguments:
            if argument.startswith("--") and argument.endswith("=--"):  # argparse would take it for no value at all
                self.error(f"argument {argument.removesuffix('=--')}: expected a value, not --")
        known, unknown = self.parse_known_intermixed_args(arguments, namespace)
        if unknown:
            self.refuse(unknown, arguments)
        return known

    def refuse(self, unknown: list[str], arguments: list[str]) -> None:
        """Raise ``UserError`` for ``unknown`` ones among the ``arguments``, and guess what the first one should be."""
        option, hint = unknown[0], ""
        if option.startswith("-"):
            from jobs.settings import meant_by

            following = [*arguments, ""][arguments.index(option) + 1] if option in arguments else ""
            options = [name for action in self._actions for name in action.option_strings]
            hint = meant_by(option, following, options, takes_config=self.takes_config)
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")

    def format_help(self) -> str:
        needed = [
            f"{one.option_strings[0]} {one.metavar or 'FORMAT'}"
            for one in self._actions
            if one.option_strings and (one.required or one in self.first_of_needed)
        ]
        positional = [one for one in self._actions if not one.option_strings]
        rest = [f"[{one.metavar} …]" if one.nargs else f"{one.metavar} …" for one in positional]
        self.usage = " ".join([self.prog, *needed, "[options]", *rest])
        groups = self._action_groups
        self._action_groups = [one for one in groups if self.shown == "all" or topic_of(one) == self.shown]
        try:
            return super().format_help()
        finally:
            self._action_groups = groups

    def exit(self, status: int = 0, message: str | None = None) -> Any:
        end_soon()
        super().exit(status, message)

    def error(self, message: str) -> Any:
        if message.startswith("argument -"):  # of one option, which the sentence names
            raise UserError(message.removeprefix("argument "))
        raise UserError(f"{self.prog}: {message} (see --help)")


class Help(argparse.Action):
    """``--help`` shows the job and its options, ``--help all`` and ``--help SECTION`` the settings as well.

    Of a job without settings, ``--help TOPIC`` shows the options of a topic.
    """

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if parser.topics and values is not None:
            if values not in ("all", *parser.topics):
                raise UserError(f"--help: {values} is no topic; there are {', '.join(parser.topics)}, all")
            parser.shown = values
        if parser.takes_config:
            from jobs.settings import sections_text, settings_text

            is_named = values is not None and "=" not in values  # or it is a setting that --help stands before
            parser.epilog = settings_text([] if values == "all" else [values]) if is_named else sections_text()
        parser.print_help()
        parser.exit()


def topic_of(group: argparse._ArgumentGroup) -> str:
    """Return the name of the topic of a group of options, or nothing."""
    return getattr(group, "topic", "")


def formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=OPTION_WIDTH, width=LINE_WIDTH)


def parser(
    job: str, description: str, *, takes_config: bool = True, takes_json: bool = True, topics: str = ""
) -> OneSentenceParser:
    """Return the parser of ``python -m jobs.<job>``. ``takes_config`` adds --config, overrides and --dry-run.

    ``topics``: names those that ``OneSentenceParser.topic`` is called for, as help shows them.
    """
    result = OneSentenceParser(
        prog=PROGRAM.format(job),
        description=description.replace("``", ""),
        formatter_class=formatter,
        allow_abbrev=False,
        add_help=False,
        usage="",  # is put together where it is shown
    )
    if takes_config:
        which = "show this; all, or a section: its settings, too"
        result.add_argument("-h", "--help", action=Help, nargs="?", metavar="all", help=which)
    else:
        nargs, which = ("?", f"show this; {topics}, all: more options") if topics else (0, "show this")
        result.add_argument("-h", "--help", action=Help, nargs=nargs, metavar="TOPIC", help=which)
    if takes_config:
        result.takes_config = True
        result.add_argument("overrides", nargs="*", metavar="section.field=value", help=argparse.SUPPRESS)
        result.add_argument("--config", metavar="FILE", help="YAML file of settings")
        result.add_argument("--dry-run", action="store_true", help="print the settings and what follows; write nothing")
    verbose = "show Ray's own log as well" if takes_config or job == "submit" else argparse.SUPPRESS
    result.add_argument("--verbose", action="store_true", help=verbose)
    if takes_json:
        result.add_argument("--json", action="store_true", help="end with a line of JSON on standard output")
    return result


def add_sampling(result: argparse._ActionsContainer) -> None:
    """Add the options of ``sampling_of``."""
    result.add_argument(
        "--temperature", type=number, default=1.0, metavar="X", help="below 1: safer; 0: likeliest only"
    )
    result.add_argument("--top-k", type=whole, metavar="K", help="draw from the k likeliest tokens")
    result.add_argument(
        "--top-p", type=number, metavar="P", help="draw from the likeliest of this probability together"
    )
    result.add_argument("--min-p", type=number, metavar="P", help="draw from those P times as likely as the likeliest")
    penalty = "above 1: tokens that occurred become less likely"
    result.add_argument("--repetition-penalty", type=number, default=1.0, metavar="X", help=penalty)


def sampling_of(arguments: argparse.Namespace) -> Sampling:
    """Return how tokens are drawn. Raises ``UserError`` if an option is out of its range."""
    return Sampling(**{field.name: getattr(arguments, field.name) for field in fields(Sampling)})


def config_from(arguments: argparse.Namespace) -> Config:
    """Return the configuration that ``arguments`` name. Raises ``UserError`` as ``pipeline.config.load`` does."""
    from pipeline import config as configuration

    for word in arguments.overrides:
        if "=" not in word and word.endswith((".yaml", ".yml")):
            raise UserError(f"{word}: is no section.field=value; did you mean --config {word}?")
    return configuration.load(arguments.config, arguments.overrides)


def run_job(
    main: Callable[[list[str]], dict[str, Any] | None], argv: list[str] | None = None, *, goes_on: bool = False
) -> None:
    """Call ``main(argv)`` and exit: with 0, with 2 for a mistake of the user, or with the code of a ``SystemExit``.

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
        print("interrupted" + ("; the same command goes on from what is saved" * goes_on), file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        leave_if_nobody_reads()
        raise


def as_shown(sentences: str, argv: list[str]) -> str:
    """Return ``sentences``, one a line, as a terminal can show them: few lines, with long arguments shortened.

    What would move its cursor or hide text is spelled out (``\\x1b``), line ends within an argument too.
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
    """Return the sentence of ``error``. An argument at its beginning becomes an option: ``top_k``, ``--top-k``."""
    if not error.argument.isidentifier():  # a setting, or the place of one among many
        return str(error)
    return f"--{error.argument.replace('_', '-')}{str(error).removeprefix(error.argument)}"


def show_notices() -> None:
    """Print each ``Notice`` as its sentence alone from now on."""
    usual = warnings.formatwarning

    def shown(message: Warning | str, category: type[Warning], *where: Any, **line: Any) -> str:
        return f"note: {message}\n" if issubclass(category, Notice) else usual(message, category, *where, **line)

    warnings.formatwarning = shown


def end_soon() -> None:
    """Let the interpreter exit without a last garbage collection, which takes long after large imports."""
    atexit.register(gc.freeze)


def refuse_keys(argv: list[str]) -> None:
    """Raise ``UserError`` for an address with a key in it, because arguments are shown and sent around."""
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


def command_line(job: str, argv: list[str]) -> str:
    """Return the command that runs ``job`` again, as a person would type it."""
    import shlex

    return f"{PROGRAM.format(job)} {shlex.join(argv)}".rstrip()


def executor(config: Config, *, verbose: bool) -> AbstractContextManager[Any]:
    """Return the executor of ``cluster.backend`` (see ``pipeline.launch``); Ray is imported only if it is used."""
    if config.cluster.backend == "local":
        from pipeline.launch import in_process

        return in_process(config)
    from pipeline.cluster.train import on_ray

    return on_ray(config, verbose=verbose)


def print_dry_run(config: Config, figures: dict[str, Any]) -> dict[str, Any]:
    """Print the resolved settings and what follows from them; return ``figures``."""
    from pipeline import config as configuration

    print(configuration.to_yaml(config))
    for name, value in figures.items():
        print(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")
    return figures
