"""The card beside a run's model: what it was made from, how, and how good it is."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from maxi.config import Config
from maxi.documents import Beside, Layout, Results, read_document
from maxi.files import write_text
from maxi.method.metrics import with_interval
from maxi.records import Match, read_jsonl
from maxi.run import Run

CARD = "README.md"
PACKAGES = ("maxi", "torch", "transformers", "av")
N_NAMES = 400  # further names are only counted


def write_card(run: Run, config: Config, names: list[str]) -> Path:
    """Write `model/README.md`, with the front matter that hubs read, and return its path.

    Text from outside, such as action names, stands in code blocks only.
    """
    path = run.model / CARD
    write_text(path, [_front_matter(config), *_body(run, config, names)])
    return path


def _front_matter(config: Config) -> str:
    """Return the YAML head, which names the base model when it is one of the hub."""
    kind, _, base = config.backbone.partition(":")
    front: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["video", "action-recognition", "zero-shot", "maxi"],
    }
    if kind in ("clip", "siglip") and base and not Path(base).expanduser().exists():
        front["base_model"] = base.partition("@")[0]
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n"


def _body(run: Run, config: Config, names: list[str]) -> list[str]:
    """Return the pieces of the card below its head."""
    matches = read_jsonl(run.matches, Match)
    n_kept = sum(row.kept for row in matches)
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    more = f"\n... and {len(names) - N_NAMES} more" if len(names) > N_NAMES else ""
    return [
        "\n# A model adapted to actions in unlabelled videos\n\n",
        "Made by `maxi` with the method of MAXI (ICCV 2023). The model that it started from matched videos to action "
        "names, the names were expanded to bags of texts, and both encoders were trained on these bags and averaged "
        f"with the original weights ({1 - config.train.alpha:.2f} original, {config.train.alpha:.2f} "
        f"trained). {_labels_used(config)}\n\n",
        "## Use\n\n",
        f"{_layout(run)} The embedding of a video is the mean over its frames' image embeddings, "
        f"{config.eval.n_frames} frames at segment centres, one centre crop; then unit norm.\n\n",
        f"Prompt at test: {_code(config.eval.prompt)}\n\n",
        "## Data\n\n",
        f"{len(matches):,} videos without labels, {n_kept:,} of them kept for training; {len(names):,} action "
        "names:\n\n",
        _fenced("\n".join(names[:N_NAMES]) + more),
        "\n## Figures\n\n",
        *_figures(run),
        "\n## Recipe\n\n",
        _fenced(
            yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        ),
        f"\n{versions}, Python {platform.python_version()}.\n",
    ]


def _labels_used(config: Config) -> str:
    """Say whether labels were used in training."""
    if not config.match.supervised:
        return "No label of any video was used."
    shots = f", {config.match.shots} of each name" if config.match.shots else ""
    return f"The videos' own labels were taken for matches{shots}."


def _layout(run: Run) -> str:
    """Say how the model's folder is read."""
    config = run.model / "config.json"
    settings = read_document(run.model / "maxi.json", Beside)
    if not config.is_file():
        return "Read with `maxi.load_model`."
    if blocks := settings.get("temporal_blocks"):
        return f"Read with `maxi.load_model`: the last {blocks} image blocks attend across frames."
    return f"A Hugging Face `{read_document(config, Layout)['architectures'][0]}` folder."


def _figures(run: Run) -> list[str]:
    """Return the table of accuracies on labelled videos, line by line."""
    if not run.results.exists():
        return ["Not measured: the run had no labelled videos.\n"]
    records = [r for r in read_document(run.results, Results) if r["split"] == "all"]
    lines = [
        f"On {records[0]['n']:,} labelled videos, one view; the gain is over the model that it started from, on the "
        "same videos (paired), with its 95 % interval.\n\n",
        "| model | top-1 | top-5 | gain in top-1 |\n|---|---|---|---|\n",
    ]
    for r in records:
        gain = r.get("gain", {}).get("top1")
        points = with_interval(gain["gain"], gain["interval"]) if gain else ""
        lines.append(f"| {r['model']} | {r['top1']:.1f} | {r['top5']:.1f} | {points} |\n")
    return lines


def _fenced(text: str) -> str:
    """Return a code block whose fence does not occur in the text, so that the text cannot end it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text.rstrip()}\n{fence}\n"


def _code(text: str) -> str:
    """Return a text as inline code, its backticks replaced by apostrophes."""
    return f"`{text.replace('`', chr(39))}`"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
