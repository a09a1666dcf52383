"""Improve a model on a folder of clips, stage by stage: index, match, expand, caption, bag, train, evaluate.

Example: python examples/from_python.py clips/ tuned/ "playing guitar" "riding a horse"
"""

import argparse
from pathlib import Path

import maxi

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("clips", help="folder of videos, in folders named as what they show")
parser.add_argument("out", help="folder for checkpoints and the model")
parser.add_argument("names", nargs="+", help="action names")
parser.add_argument("--backbone", default="objects")
arguments = parser.parse_args()
names, out = arguments.names, Path(arguments.out)

model = maxi.load_model(arguments.backbone)
videos = maxi.read_videos(arguments.clips)
labels = [names.index(str(video.label)) for video in videos]  # for evaluation alone


def accuracy() -> float:
    z_v, z_l = maxi.embed_videos(model, videos), maxi.embed_names(model, names, ["a photo of {}."])
    return maxi.evaluate(z_v @ z_l.T, labels, names)["top1"]


z_v, z_l = maxi.embed_videos(model, videos), maxi.embed_names(model, names)
matches = maxi.match([video.id for video in videos], z_v, names, z_l)
phrases, captions = maxi.expand(names), maxi.caption(videos, model)
bags = list(maxi.build_bags(matches, phrases, captions))
before = accuracy()
done = maxi.train(model, bags, videos, folder=out)  # other settings: maxi.TrainConfig(...)
model.save(out / "model")
print(f"{done['steps']} steps, loss {done['first_loss']} -> {done['last_loss']}")
print(f"top-1 of {len(videos)} videos: {before} % -> {accuracy()} %")
