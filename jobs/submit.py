"""Submit a job to a Ray cluster and follow it: JOB --address http://HOST:8265 [what the job itself takes].

Settings are checked here first. The job's exit code becomes this command's. Ctrl-C stops following, not the job.
"""

from __future__ import annotations

import sys
from typing import Any

from jobs.cli import config_from, parser, run_job

WITH_CONFIG = ("prepare", "train", "search")
WITHOUT_CONFIG = ("evaluate", "generate")


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments_parser = parser("submit", __doc__ or "", takes_config=False, takes_json=False)
    arguments_parser.add_argument("job", choices=WITH_CONFIG + WITHOUT_CONFIG, help="which job")
    arguments_parser.add_argument(
        "--address", metavar="URL", help="the cluster's job API; default: as `ray job submit`"
    )
    arguments_parser.add_argument("--pip", metavar="FILE", help="requirements that Ray installs for the job")
    arguments_parser.add_argument("--no-wait", action="store_true", help="do not follow the job")
    arguments, passed_on = arguments_parser.parse_known_args(argv)
    config = None
    if arguments.job in WITH_CONFIG:
        job_parser = parser(arguments.job, "")
        job_arguments, passed_on = job_parser.parse_known_intermixed_args(passed_on)
        config = config_from(job_arguments)
        flags = {"--json": job_arguments.json, "--dry-run": job_arguments.dry_run}
        passed_on += [flag for flag, given in flags.items() if given]
    if arguments.verbose:
        passed_on.append("--verbose")

    from pipeline.cluster.submit import connect, follow, submit
    from pipeline.paths import refuse_relative

    if config is not None:
        refuse_relative(config)
    client = connect(arguments.address)
    submission = submit(client, arguments.job, passed_on, config=config, pip=arguments.pip)
    print(f"submitted {submission}", file=sys.stderr, flush=True)
    if arguments.no_wait:
        return None
    try:
        code = follow(client, submission, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        address = f" --address {arguments.address}" if arguments.address else ""
        print(
            f"\nno longer following; the job goes on.\n  follow: ray job logs --follow{address} {submission}\n"
            f"  stop:   ray job stop{address} {submission}",
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    raise SystemExit(code)


if __name__ == "__main__":
    run_job(main)
