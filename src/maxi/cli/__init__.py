"""The `maxi` command."""

from maxi.cli import data, stages, studies, tasks
from maxi.cli.group import main

__all__ = ["data", "main", "stages", "studies", "tasks"]
