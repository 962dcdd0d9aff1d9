"""``python -m jobs.evaluate``."""

from jobs.evaluate import main
from jobs.shared.cli import run_job

run_job(main)
