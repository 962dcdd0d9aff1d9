"""The options of a job: a parser that complains in one sentence, its help by topic, and options that jobs share."""

from __future__ import annotations

import argparse
import atexit
import gc
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from jobs.shared.numbers import number, whole
from pipeline.errors import UserError
from pipeline.options import Sampling

LINE_WIDTH, OPTION_WIDTH = 80, 28
# how a command is called; ``recurray`` sets its own
PROGRAM = "python -m jobs.{}"


class OneSentenceParser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that complains in one sentence, without a usage block, and takes options anywhere.

    It imports the settings only if the help or an unknown option needs them.
    """

    takes_config = False
    beside: Sequence[str] = ()  # options of the command that hands arguments on to this parser, known to its hints
    shown = ""  # the topic whose options --help shows; empty: options without a topic; all: every option

    def topic(self, name: str, title: str) -> argparse._ArgumentGroup:
        """Return a group of options that only ``--help NAME`` and ``--help all`` show."""
        group = self.add_argument_group(title)
        group.topic = name  # type: ignore[attr-defined]
        return group

    @property
    def topics(self) -> dict[str, str]:
        """Return the title of each topic, by its name."""
        return {topic_of(group): group.title or "" for group in self._action_groups if topic_of(group)}

    @property
    def options(self) -> list[str]:
        """Return the names of its options."""
        return [name for action in self._actions for name in action.option_strings]

    @property
    def first_of_needed(self) -> list[argparse.Action]:
        """Return the first option of each group from which one must be given."""
        return [group._group_actions[0] for group in self._mutually_exclusive_groups if group.required]

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        arguments = sys.argv[1:] if args is None else list(args)
        for argument in arguments:
            if argument.startswith("--") and argument.endswith("=--"):  # argparse would take it for a missing value
                self.error(f"argument {argument.removesuffix('=--')}: expected a value, not --")
        known, unknown = self.parse_known_intermixed_args(arguments, namespace)
        if unknown:
            self.refuse(unknown, arguments)
        return known

    def refuse(self, unknown: list[str], arguments: list[str], *, otherwise: str = "") -> None:
        """Raise ``UserError`` for ``unknown`` ones among the ``arguments``, and guess what the first one should be.

        ``otherwise``: what to say if nothing is like it.
        """
        option, hint = unknown[0], ""
        if option.startswith("-"):
            from jobs.settings import meant_by

            following = [*arguments, ""][arguments.index(option) + 1] if option in arguments else ""
            options = [*self.options, *self.beside]
            hint = meant_by(option, following, options, takes_config=self.takes_config)
        elif not otherwise and option in arguments[2:] and arguments[arguments.index(option) - 2].startswith("--"):
            hint = "; a value with blanks needs quotes"
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint or otherwise}")

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
                raise UserError(f"--help: {values} is not a topic; the topics are {', '.join(parser.topics)}, all")
            parser.shown = values
        if parser.takes_config:
            from jobs.settings import sections_text, settings_text

            is_named = values is not None and "=" not in values  # else it is a setting that follows --help
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

    ``topics``: the names of those that ``OneSentenceParser.topic`` adds, as help shows them.
    """
    result = OneSentenceParser(
        prog=PROGRAM.format(job),
        description=description.replace("``", ""),
        formatter_class=formatter,
        allow_abbrev=False,
        add_help=False,
        usage="",  # is built when it is shown
    )
    if takes_config:
        which = "show this; with all or a section, its settings, too"
        result.add_argument("-h", "--help", action=Help, nargs="?", metavar="all", help=which)
    else:
        nargs, which = ("?", f"show this; {topics}, all: more options") if topics else (0, "show this")
        result.add_argument("-h", "--help", action=Help, nargs=nargs, metavar="TOPIC", help=which)
    if takes_config:
        result.takes_config = True
        result.add_argument("overrides", nargs="*", metavar="section.field=value", help=argparse.SUPPRESS)
        result.add_argument("--config", metavar="FILE", help="YAML file of settings")
        result.add_argument(
            "--dry-run", action="store_true", help="print settings and what follows from them; write nothing"
        )
    verbose = "show Ray's own log as well" if takes_config or job == "submit" else argparse.SUPPRESS
    result.add_argument("--verbose", action="store_true", help=verbose)
    if takes_json:
        result.add_argument("--json", action="store_true", help="end with a line of JSON on standard output")
    return result


def refuse_given(
    arguments: argparse.Namespace, parser: argparse.ArgumentParser, names: Iterable[str], sentence: str
) -> None:
    """Raise ``UserError`` with ``sentence`` for the first of ``names`` whose value is not the default."""
    for name in names:
        if getattr(arguments, name) != parser.get_default(name):
            raise UserError(f"--{name.replace('_', '-')}: {sentence}")


def add_sampling(result: argparse._ActionsContainer) -> None:
    """Add the options of ``sampling_of``."""
    result.add_argument(
        "--temperature", type=number, default=1.0, metavar="X", help="below 1: safer; 0: likeliest only"
    )
    result.add_argument("--top-k", type=whole, metavar="K", help="draw from the k likeliest tokens")
    result.add_argument("--top-p", type=number, metavar="P", help="draw from the likeliest that together have P")
    result.add_argument(
        "--min-p", type=number, metavar="P", help="draw from those at least P times as likely as the top one"
    )
    penalty = "above 1: tokens that occurred become less likely"
    result.add_argument("--repetition-penalty", type=number, default=1.0, metavar="X", help=penalty)


def sampling_of(arguments: argparse.Namespace) -> Sampling:
    """Return how tokens are drawn. Raises ``UserError`` if an option is out of its range."""
    return Sampling(**{field.name: getattr(arguments, field.name) for field in fields(Sampling)})


def end_soon() -> None:
    """Let the interpreter exit without a last garbage collection, which takes long after large imports."""
    atexit.register(gc.freeze)


def command_line(job: str, argv: list[str]) -> str:
    """Return the command that runs ``job`` again, as a person would type it."""
    import shlex

    return f"{PROGRAM.format(job)} {shlex.join(argv)}".rstrip()


def command_again(job: str, argv: list[str]) -> str:
    """Return the command that continues ``job``; a submitted one has its settings in a folder that vanishes with it."""
    from pipeline.paths import in_submitted_job

    return "the command that submitted this job" if in_submitted_job() else command_line(job, argv)
