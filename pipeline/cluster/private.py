"""What is private to Ray, each in one place: it may change with any version, so all of it can be done without."""

from __future__ import annotations
