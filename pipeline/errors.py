"""What the user got wrong, told apart from what this program got wrong."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake of the user: one sentence that names the setting or file, the value and the constraint.

    It is raised on purpose, where the mistake is seen. A job prints the sentence and exits with 2. Every other
    exception is a bug or a failure of the machine: it keeps its traceback, and Ray tries it again.
    """
