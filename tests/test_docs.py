"""README, docs and examples are true: their code runs, their commands exist, their tables are whole."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

import maxi
from maxi.cli import main
from maxi.config import Config, Stage
from maxi.settings import full_key, load_config

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(DOCS.rglob("*.md")),
]
QUICK = {"README.md"}  # the code of all other pages takes minutes

# Arguments of each example, in a folder that `site` has filled.
EXAMPLES = {
    "adapt_folder.py": "videos actions.txt runs/example --backbone clip:path/to/clip",
    "from_python.py": "videos tuned 'playing guitar' 'riding a horse' 'high jump' --backbone clip:path/to/clip",
    "classify_windows.py": "clip.mp4 actions.txt --model clip:path/to/clip --window 0.5",
}

# Hosts of package and model registries, folders of one machine, and the folder beside the project.
FORBIDDEN = re.compile(
    r"pypi\.|pythonhosted\.|npmjs\.|huggingface\.co|hf-mirror|artifactory|nexus[./]|proxy\.golang"
    r"|localhost|(?<![\w.])/(?:work|opt|tmp|root|home|usr|mnt|Users)/|shared/"
)


class Block(NamedTuple):
    """A fenced block, the line it begins on, and what the comment above it says."""

    page: str
    line: int
    mark: str
    language: str
    code: str


FENCE = re.compile(
    r"^(?:<!-- (?P<mark>.+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page.name, text.count("\n", 0, m.start("code")), m["mark"] or "", m[2], m["code"])
        for m in FENCE.finditer(text)
    ]
    assert len(re.findall(r"^\s*```", text, re.M)) == 2 * len(found), f"{page}: a fence is not seen"
    return found


def commands(block: Block) -> list[list[str]]:
    """Arguments of each `maxi` command: lines after `$ ` in ```console, any line in ```bash."""
    if block.language not in ("console", "bash"):
        return []
    lines = block.code.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    found = []
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words[:1] == ["maxi"]:
            end = next((i for i, w in enumerate(words) if w in ("|", ">", ">>", "&&", ";")), None)
            found.append(words[1:end])
    return found


def verbs(group: Any = main, before: str = "") -> dict[str, Any]:
    """Every verb by its words, such as `bags show`."""
    found: dict[str, Any] = {}
    for name, verb in group.commands.items():
        inner = getattr(verb, "commands", None)
        found |= verbs(verb, f"{before}{name} ") if inner else {before + name: verb}
    return found


ALL = [block for page in PAGES for block in blocks(page)]
COMMANDS = [(f"{b.page}:{b.line}", words) for b in ALL for words in commands(b)]


@pytest.fixture
def site(
    videos: Path,
    actions: Path,
    tiny_clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A working folder with the files that the pages speak of; modules written there are forgotten."""
    shutil.copytree(videos, tmp_path / "videos")
    shutil.copytree(videos, tmp_path / "heldout")
    shutil.copytree(tiny_clip, tmp_path / "path" / "to" / "clip")
    shutil.copy(sorted(videos.rglob("*.mp4"))[-1], tmp_path / "clip.mp4")
    shutil.copy(actions, tmp_path / "actions.txt")
    rows = [
        f"{path.relative_to(tmp_path)},{path.parent.name},{'test' if n % 4 else 'train'}\n"
        for n, path in enumerate(sorted((tmp_path / "heldout").rglob("*.mp4")))
    ]
    (tmp_path / "splits.csv").write_text("".join(["path,label,split\n", *rows]))
    (tmp_path / "other.txt").write_text("swimming\nlifting weights\ncooking\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_there_is_something_to_test() -> None:
    assert {p.name for p in PAGES} >= {"README.md", "commands.md", "settings.md", "extending.md"}
    assert len(COMMANDS) >= len(verbs())
    for block in ALL:
        known = ("", "run") if block.language in ("console", "bash") else ("",)
        if block.language == "python" and block.mark.partition(": ")[0] in ("not run", "file"):
            assert block.mark.partition(": ")[2], block
        else:
            assert block.mark in known, block


@pytest.mark.parametrize(
    "page",
    [page if page.name in QUICK else pytest.param(page, marks=pytest.mark.slow) for page in PAGES],
    ids=lambda page: page.name,
)
def test_code_runs(page: Path, site: Path) -> None:
    """A page is worked through from top to bottom, in one folder and one namespace, as a reader would."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        where = f"{page.name}, line {block.line}"
        if block.language == "python" and not block.mark.startswith("not run"):
            if block.mark.startswith("file: "):
                (site / block.mark.removeprefix("file: ")).write_text(block.code, encoding="utf-8")
            exec(compile("\n" * block.line + block.code, str(page), "exec"), names)
        if block.mark == "run":
            assert commands(block), where
            for words in commands(block):
                done = CliRunner().invoke(main, ["-q", *words])
                assert done.exit_code == 0, f"{where}: maxi {shlex.join(words)}\n{done.output}"


@pytest.mark.parametrize(("where", "words"), COMMANDS, ids=[w for w, _ in COMMANDS])
def test_commands_parse(where: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    for verb in verbs().values():
        monkeypatch.setattr(verb, "callback", lambda **options: given.update(options))
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, f"{where}: {done.output}"
    load_config(given.get("config_file"), given.get("settings", ()))


def sections() -> dict[str, str]:
    parts = re.split(
        r"^## `maxi ([\w ]+)`$",
        (DOCS / "reference" / "commands.md").read_text(encoding="utf-8"),
        flags=re.M,
    )
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_verb_has_a_section() -> None:
    assert sorted(sections()) == sorted(verbs())


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_option_is_documented(verb: str) -> None:
    rows = re.findall(r"^\| `(-[^` ]+)", sections()[verb], re.M)
    options = {o for p in verbs()[verb].params for o in p.opts if o.startswith("-")}
    assert sorted(rows) == sorted(options)
    assert f"$ maxi {verb} " in sections()[verb], "an example is missing"


def test_options_of_all_verbs_are_documented() -> None:
    before = (
        (DOCS / "reference" / "commands.md").read_text(encoding="utf-8").partition("\n## `maxi ")[0]
    )
    for parameter in main.params:
        assert all(f"`{option}`" in before for option in parameter.opts), parameter.opts


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    text = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: maxi\.(\w+)$", text, re.M)) == sorted(maxi.__all__)


def test_every_page_is_in_the_menu() -> None:
    menu = re.findall(r"- ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(menu) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def fields() -> list[str]:
    found = []
    for name, field in Config.model_fields.items():
        stage = field.annotation
        if isinstance(stage, type) and issubclass(stage, Stage):
            found += [f"{name}.{inner}" for inner in stage.model_fields]
        else:
            found.append(name)
    return found


def test_every_setting_is_documented_with_its_default() -> None:
    text = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    row = re.compile(
        r"^\| `(?P<key>[a-z_.]+)` \| `(?P<default>[^`]+)` \| (?:`(?P<own>[^`]+)`)? ?\|", re.M
    )
    rows = [(m["key"], m["default"], m["own"]) for m in row.finditer(text)]
    assert [key for key, _, _ in rows] == fields()
    assert all(full_key(key) == key for key, _, _ in rows)
    assert load_config(None, [f"{key}={default}" for key, default, _ in rows]) == Config()
    with_objects = {key: own or default for key, default, own in rows if key != "backbone"}
    documented = load_config(
        None, [f"{k}={v}" for k, v in with_objects.items()], backbone="objects"
    )
    assert documented == load_config(backbone="objects")
    for key, default, own in rows:
        assert own is None or own != default, f"{key}: the same for `objects`; leave the cell empty"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_hosts_and_no_machine_paths(page: Path) -> None:
    assert not [m[0] for m in FORBIDDEN.finditer(page.read_text(encoding="utf-8"))]


def test_counts_of_shipped_data() -> None:
    from maxi.method.captioning import sentence_bank
    from maxi.text.phrasebook import shipped_book

    method = (DOCS / "why" / "method.md").read_text(encoding="utf-8")
    assert f"{len(shipped_book().texts):,} actions shipped" in method
    for page in ("why/method.md", "reference/files.md"):
        text = " ".join((DOCS / page).read_text(encoding="utf-8").split())
        assert f"of {len(sentence_bank()):,} shipped sentences" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?![a-z]+:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.slow
def test_every_example_runs_and_is_short(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = sorted((ROOT / "examples").glob("*.py"))
    assert [path.name for path in paths] == sorted(EXAMPLES)
    for path in paths:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 40
        monkeypatch.setattr(sys, "argv", [str(path), *shlex.split(EXAMPLES[path.name])])
        runpy.run_path(str(path), run_name="__main__")
        assert capsys.readouterr().out
