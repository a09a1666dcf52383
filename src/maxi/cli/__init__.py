"""The `maxi` command."""

from maxi.cli import stages, tasks
from maxi.cli.group import main

__all__ = ["main", "stages", "tasks"]
