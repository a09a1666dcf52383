"""Print what happens when in a long video; neighbouring windows with the same best name share one line.

Example: python examples/classify_windows.py long.mp4 actions.txt --model runs/mine --window 5
"""

import argparse
from itertools import groupby
from pathlib import Path

import maxi

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("video")
parser.add_argument("actions", help="action names, one a line")
parser.add_argument("--model", default="objects", help="run folder, saved model or backbone")
parser.add_argument("--window", type=float, default=5.0, help="seconds")
parser.add_argument("--prompt", default="a video of a person {}", help="{} stands for the name")
arguments = parser.parse_args()

lines = Path(arguments.actions).read_text(encoding="utf-8").splitlines()
names = [line for line in lines if line.strip()]
try:
    model = maxi.load_model(arguments.model)
    windows = maxi.classify(
        arguments.video, model, names, prompt=arguments.prompt, n_frames=8, window=arguments.window
    )
except maxi.MaxiError as error:
    raise SystemExit(str(error)) from None

for name, neighbours in groupby(windows, key=lambda window: window.names[0]):
    group = list(neighbours)
    cosine = sum(window.cosines[0] for window in group) / len(group)
    print(f"{group[0].start:7.1f} to {group[-1].end:7.1f} s   {name}   (mean cosine {cosine:.2f})")
