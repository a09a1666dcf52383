"""The `maxi` command."""

from maxi.cli import answers, data, stages, studies, tasks
from maxi.cli.group import main

__all__ = ["answers", "data", "main", "stages", "studies", "tasks"]
