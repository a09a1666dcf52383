"""Arrows point one way, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import maxi

SOURCE = Path(maxi.__file__).parent

# Lower imports nothing higher; within a line, a file may import those before it.
LAYERS = [
    "errors records randomness memory config settings text cache replies chat",
    "video decoding datasets transforms shards backbones hub layouts archives bpe blocks towers clip siglip exports",
    "blip language objects",
    "model objectives metrics checkpoint averaging distributed",
    "zero_shot features loader clips gradients indexing runs progress logbooks figures findings pages lookup"
    " wordnet verbs wordings",
    "matching expansion captioning agreement bags training evaluation classification verification",
    "cards reports showcase inspection",
    "jobs",
    "caching",
    "stages improving",
    "comparison",
    "ensembling rehearsal",
    "planning",
    "pipeline",
    "trial",
    "demo",
    "command",
    "cli_stages",
    "cli __init__ __main__",
]
# Folders of modules, and what these may import beside each other.
PACKAGES = {"miniature": "errors randomness records"}
# The loader draws from bags with the stage's own rule; reports and verification draw what stages left in files.
ALLOWED = {
    ("loader", "bags"),
    ("reports", "matching"),
    ("reports", "bags"),
    ("backbones", "clip"),
    ("backbones", "objects"),
    ("backbones", "siglip"),
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("maxi"):
            inner = node.module.removeprefix("maxi").lstrip(".")
            found |= {inner.split(".")[0]} if inner else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("maxi.")}
    return found


def test_every_module_has_a_layer() -> None:
    assert sorted(" ".join(LAYERS).split()) == sorted(p.stem for p in SOURCE.glob("*.py"))


def test_arrows_point_down() -> None:
    rows = [line.split() for line in LAYERS]
    layer = {name: i for i, row in enumerate(rows) for name in row}
    wrong = []
    for name in layer:
        for other in imports(SOURCE / f"{name}.py") - {name}:
            if other not in layer or (name, other) in ALLOWED or name in ("__init__", "__main__"):
                continue
            same = layer[other] == layer[name] < 5 and rows[layer[name]].index(other) < rows[
                layer[name]
            ].index(name)
            if not (layer[other] < layer[name] or same):
                wrong.append(f"{name} -> {other}")
    assert not wrong


def test_packages_import_only_their_base() -> None:
    assert sorted(PACKAGES) == sorted({p.parent.name for p in SOURCE.glob("*/*.py")})
    wrong = [
        f"{path.parent.name}.{path.stem} -> {other}"
        for path in SOURCE.glob("*/*.py")
        for other in imports(path) - {path.parent.name, *PACKAGES[path.parent.name].split()}
    ]
    assert not wrong


def test_only_datasets_reads_directory_names() -> None:
    readers = {"iterdir", "glob", "rglob", "walk", "listdir", "scandir"}
    own_folders = {
        "checkpoint",
        "hub",
        "backbones",
        "rehearsal",
    }  # list checkpoints and weights, never videos
    found = [
        f"{path.stem}:{node.lineno}"
        for path in SOURCE.glob("*.py")
        if path.stem not in own_folders | {"datasets"}
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in readers)
        or (
            isinstance(node, ast.Attribute)
            and node.attr in ("parent", "parts")
            and path.stem in ("indexing", "loader", "bags", "matching", "training")
        )
    ]
    assert not found


def test_importing_maxi_loads_no_torch() -> None:
    heavy = ("torch", "av", "numpy", "transformers", "spacy")
    code = f"import sys, maxi, maxi.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_resolve() -> None:
    for name in maxi.__all__:
        assert getattr(maxi, name) is not None
