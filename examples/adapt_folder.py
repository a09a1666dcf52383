"""Adapt a model to a folder of unlabelled videos, then list the videos whose predicted name has changed.

Example: python examples/adapt_folder.py videos/ actions.txt runs/mine --backbone objects
"""

import argparse
import json

import maxi

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("videos", help="folder, csv with a `path` column, or text file of paths")
parser.add_argument("actions", help="action names, one a line")
parser.add_argument("out", help="new folder for the run")
parser.add_argument("--backbone", default="objects")
arguments = parser.parse_args()

try:
    run = maxi.adapt(
        arguments.videos, arguments.actions, arguments.out, backbone=arguments.backbone
    )
except maxi.MaxiError as error:
    raise SystemExit(str(error)) from None

n_changed = 0
for line in run.predictions.read_text(encoding="utf-8").splitlines():
    row = json.loads(line)
    before, after = row["frozen"][0][0], row["adapted"][0][0]
    if before != after:
        n_changed += 1
        print(f"{row['path']}: {before} -> {after}")
print(f"{n_changed} videos changed their name; look at {run.report}")
