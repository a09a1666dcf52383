"""Arrows between the rooms point one way, no file needs one that needs it, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import maxi

SOURCE = Path(maxi.__file__).parent

# Each room, and the rooms below it whose files it imports. The ground floor is open to all.
ROOMS = {
    "miniature": "",
    "text": "",
    "video": "text",
    "datasets": "text video",
    "models": "text",
    "features": "models video",
    "method": "features models text video",
    "training": "features method models text video",
    "reports": "datasets method text video",
    "stages": "datasets features method models reports text training video",
    "baselines": "features method models stages text training video",
    "studies": "baselines method miniature models reports stages text video",
    "demo": "method miniature models reports stages studies video",
    "app": "features method models reports stages text video",
    "cli": "app datasets demo method models reports stages studies text video",
}
GROUND = (
    "config documents errors files memory processes progress randomness records run settings trust"
)


def imports(path: Path) -> set[str]:
    """The files of the package that a file imports, such as `method/bags`."""
    targets = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names if alias.name.startswith("maxi.")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "maxi":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}".replace(".", "/").removeprefix("maxi/")
                targets.add(f"{node.module}.{alias.name}" if exists(inner) else str(node.module))
    return {t.removeprefix("maxi.").replace(".", "/") for t in targets} - {"maxi"}


def exists(name: str) -> bool:
    return (SOURCE / f"{name}.py").is_file() or (SOURCE / name).is_dir()


def files() -> dict[str, set[str]]:
    """Every file of the package and what it imports, but for the doors `__init__` and `__main__`."""
    paths = [p for p in SOURCE.rglob("*.py") if p.stem not in ("__init__", "__main__")]
    return {p.relative_to(SOURCE).with_suffix("").as_posix(): imports(p) for p in paths}


def room(name: str) -> str:
    first = name.split("/")[0]
    return first if first in ROOMS else "ground"


def test_every_file_is_in_a_room_or_on_the_ground_floor() -> None:
    outside = {name for name in files() if "/" not in name}
    assert outside == {*GROUND.split()}
    assert {room(name) for name in files()} == {*ROOMS, "ground"}


def test_rooms_import_only_rooms_below_them() -> None:
    arrows = {
        (room(name), room(target))
        for name, targets in files().items()
        for target in targets
        if room(target) not in (room(name), "ground")
    }
    assert arrows == {(upper, lower) for upper, row in ROOMS.items() for lower in row.split()}
    below = list(ROOMS)
    assert all(below.index(lower) < below.index(upper) for upper, lower in arrows)


def test_no_file_imports_one_that_imports_it() -> None:
    graph = {name: {t for t in targets if t != name} for name, targets in files().items()}
    assert list(TopologicalSorter(graph).static_order())


def test_only_sources_reads_directory_names() -> None:
    readers = {"iterdir", "glob", "rglob", "walk", "listdir", "scandir"}
    # These list checkpoints, weights, phrases and folders to be written, never videos.
    own_folders = {
        "files",
        "training/checkpoints",
        "models/hugging_face",
        "models/saving",
        "run",
        "stages/rehearsal",
        "text/phrasebook",
    }
    without_paths = {
        "method/bags",
        "method/matching",
        "stages/index",
        "training/batches",
        "training/loop",
    }
    wrong = [
        f"{name}:{node.lineno}"
        for name in files().keys() - own_folders - {"video/sources"}
        if not name.startswith("miniature/")
        for node in ast.walk(ast.parse((SOURCE / f"{name}.py").read_text()))
        if isinstance(node, ast.Attribute)
        and (node.attr in readers or (node.attr in ("parent", "parts") and name in without_paths))
    ]
    assert not wrong


def test_importing_maxi_loads_no_torch() -> None:
    heavy = ("torch", "av", "numpy", "transformers", "spacy")
    code = f"import sys, maxi, maxi.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_resolve() -> None:
    for name in maxi.__all__:
        assert getattr(maxi, name) is not None
