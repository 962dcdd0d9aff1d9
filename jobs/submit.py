"""Submit a job to a Ray cluster and follow it.

  submit JOB --address http://HOST:8265 [what the job itself takes]

Settings are checked here first. The job's exit code becomes this command's.
Ctrl-C stops following, not the job.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from jobs.shared.cli import config_from, run_job
from jobs.shared.options import OneSentenceParser, parser
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.cluster.job_api import JobApi
    from pipeline.config import Config

WITH_CONFIG = ("prepare", "train", "search", "compare")
WITHOUT_CONFIG = ("evaluate", "generate", "context", "units")
JOBS = WITH_CONFIG + WITHOUT_CONFIG
PATHS = ("DIR", "FILE", "NAME=FOLDER", "N|FILE")  # the metavar of an option that takes a path


def main(argv: list[str]) -> None:
    own_parser = argument_parser()
    arguments, passed_on = own_parser.parse_known_args(argv)
    check_job(own_parser, arguments.job, argv, unknown=passed_on)
    # refuse here what the job itself would refuse once it runs on the cluster
    job = import_module(f"jobs.{arguments.job}")
    job_parser = job.argument_parser()
    job_parser.beside = own_parser.options
    job_arguments = job_parser.parse_args(passed_on)
    if getattr(job_arguments, "interactive", False):
        raise UserError("--interactive: a submitted job has no terminal; give --prompt or --prompts")
    if arguments.job in WITHOUT_CONFIG:
        job.check(job_arguments, job_parser)
    config = None
    if arguments.job in WITH_CONFIG and getattr(job_arguments, "verify", None) is None:
        config = config_from(job_arguments)
        passed_on = own_options(job_parser, passed_on)
    if arguments.verbose:
        passed_on.append("--verbose")

    from pipeline.cluster.job_api import ClusterFailedError, JobApi
    from pipeline.paths import refuse_relative, refuse_relative_paths
    from pipeline.search.paths import refuse_relative_in_space

    refuse_relative_paths(paths_in(job_parser, job_arguments))
    if config is not None:
        refuse_relative(config)
        if arguments.job == "search":
            refuse_relative_in_space(config)
    if arguments.pip is not None and not os.path.isfile(arguments.pip):
        raise UserError(f"--pip: {arguments.pip} is not a file")
    api = JobApi.meant_by(arguments.address)
    try:
        api.check()
        submit(api, arguments, passed_on, config)
    except ClusterFailedError as failed:
        print(f"error: {failed}", file=sys.stderr)
        raise SystemExit(1) from None


def check_job(own_parser: OneSentenceParser, job: str, argv: list[str], *, unknown: list[str]) -> None:
    """Raise ``UserError`` if ``job`` is none, or is the value of an option before it that ``own_parser`` lacks."""
    if job in JOBS:
        return
    before = argv[argv.index(job) - 1] if argv.index(job) else ""
    if before.startswith("-") and before in unknown:
        own_parser.refuse([before], argv, otherwise="; the options of a job come after its name")
    near = difflib.get_close_matches(job, JOBS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the jobs are {', '.join(JOBS)}"
    own_parser.error(f"{job} is no job that can be submitted; {hint}")


def own_options(job_parser: argparse.ArgumentParser, argv: list[str]) -> list[str]:
    """Return the options in ``argv`` that ``job_parser`` takes, with their values, except settings and --config."""
    takes_value = {name: one.nargs != 0 for one in job_parser._actions for name in one.option_strings}
    kept, words = [], iter(argv)
    for word in words:
        name, equals, _ = word.partition("=")
        if name in takes_value:
            option = [word, next(words)] if takes_value[name] and not equals else [word]
            kept += option if name != "--config" else []
    return kept


def paths_in(job_parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Yield each option in ``arguments`` that takes a path on the cluster, with that path."""
    for one in job_parser._actions:
        given = getattr(arguments, one.dest, None)
        if one.metavar in PATHS and one.dest != "config" and given is not None:
            for path in given if isinstance(given, list) else [given]:
                if one.metavar == "N|FILE" and path.isdecimal():
                    continue
                yield one.option_strings[0], path.partition("=")[2] if one.metavar == "NAME=FOLDER" else path


def argument_parser() -> OneSentenceParser:
    result = parser("submit", __doc__ or "", takes_config=False, takes_json=False)
    result.add_argument("job", metavar="JOB", help=f"{', '.join(JOBS[:-1])} or {JOBS[-1]}")
    result.add_argument("--address", metavar="URL", help="the cluster's job API; default: that of ray job submit")
    result.add_argument("--pip", metavar="FILE", help="requirements that Ray installs for the job")
    result.add_argument("--no-wait", action="store_true", help="do not follow the job")
    return result


def submit(api: JobApi, arguments: argparse.Namespace, passed_on: list[str], config: Config | None) -> None:
    """Submit the job, say how to follow and how to stop it, follow it, and exit with its exit code."""
    from pipeline.cluster import submit as submission
    from pipeline.cluster.job_api import LostJobError

    client = submission.connect(api)
    job = submission.submit(client, api, arguments.job, passed_on, config=config, pip=arguments.pip)
    next_commands = submission.what_next(client, api, job)
    print(f"submitted {job}", file=sys.stderr, flush=True)
    if arguments.no_wait:
        print(next_commands, file=sys.stderr)
        return
    try:
        code = submission.follow(client, job, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        print(f"\nno longer following; the job continues.\n{next_commands}", file=sys.stderr)
        raise SystemExit(130) from None
    except LostJobError as lost:
        print(f"error: {lost}\n{next_commands}", file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(code)


if __name__ == "__main__":
    run_job(main)
