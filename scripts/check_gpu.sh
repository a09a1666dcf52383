#!/bin/sh
# The first run on a GPU with real weights: does it work, and does the frozen CLIP come to its published figure?
#
# Usage: scripts/check_gpu.sh UCF-101 testlist01.txt OUT
#   UCF-101         the data set's folder of class folders
#   testlist01.txt  its first official test list
# CLIP, CAPTIONER and DEVICE may name others than openai/clip-vit-base-patch16, blip and cuda.
set -eu
videos=${1:?name the folder UCF-101} list=${2:?name testlist01.txt} out=${3:?name a folder for the results}
clip=${CLIP:-openai/clip-vit-base-patch16} captioner=${CAPTIONER:-blip} device=${DEVICE:-cuda}
mkdir -p "$out"

python - "$videos" "$list" "$out" "$device" <<'END'
import csv, platform, sys
from importlib.metadata import version
from pathlib import Path
import torch

videos, listed, out, device = Path(sys.argv[1]).resolve(), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
if device == "cuda" and not torch.cuda.is_available():
    sys.exit("check_gpu: torch sees no GPU; install its CUDA build, or set DEVICE=cpu")
name = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
print(f"maxi {version('maxi')}, torch {torch.__version__}, CUDA {torch.version.cuda}, {name}, Python {platform.python_version()}")
test = [line.strip() for line in listed.read_text().splitlines() if line.strip()]
held_out = set(test)
others = sorted(str(p.relative_to(videos)) for p in videos.glob("*/*") if p.is_file())
pool = [path for path in others if path not in held_out]
pool = pool[:: max(1, len(pool) // 1000)]  # unlabelled: about a thousand
names = sorted({path.split("/")[0] for path in test})
(out / "names.txt").write_text("\n".join(names) + "\n")
(out / "pool.txt").write_text("\n".join(str(videos / path) for path in pool) + "\n")
with (out / "test.csv").open("w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["path", "label"])
    rows.writerows([videos / path, path.split("/")[0]] for path in test)
print(f"{len(pool)} unlabelled videos, {len(test)} test videos, {len(names)} names")
END

echo "== the miniature: about three minutes on two CPU cores"
time maxi demo -o "$out/demo" -s "device=$device"

echo "== UCF101, one epoch on the unlabelled videos; frozen CLIP B/16: 69.9 published (mean of three splits)"
time maxi adapt "$out/pool.txt" --actions "$out/names.txt" -o "$out/ucf101" --backbone "clip:$clip" \
    --captioner "$captioner" --device "$device" --eval "$out/test.csv" \
    -s "eval.prompt=a photo of a {}." -s epochs=1 -s batch_size=64 --resume
echo "== please report $out/ucf101/results.json, $out/ucf101/training.json and the lines above"
