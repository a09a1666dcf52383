from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maxi.config import Config
from maxi.documents import Predicted, read_rows
from maxi.errors import MaxiError
from maxi.files import write_json
from maxi.records import Bag, BagText, Caption, Match, Skipped, Video, write_jsonl
from maxi.reports import figures
from maxi.reports import tables as findings
from maxi.reports.html import jpeg
from maxi.reports.report import write_report
from maxi.run import Run
from maxi.settings import dump_config
from maxi.video.workers import Decoder
from media import write_video

NAMES = ["running", "walking", "jumping rope", "singing"]
EVIL = "<script>alert(1)</script>"
CHROMIUM = shutil.which("chromium")


class Page(HTMLParser):
    """Tags, attributes and text of a page, as a browser would see them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.skip = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.skip = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self.skip = False

    def handle_data(self, data: str) -> None:
        if not self.skip:
            self.text += " ".join(data.split()) + " "

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


@pytest.fixture(scope="module")
def decoder():
    with Decoder(1) as decoder:
        yield decoder


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Video]:
    folder = tmp_path_factory.mktemp("clips")
    paths = [write_video(folder / f"clip {i}.mp4", n_frames=6, seed=i) for i in range(4)]
    return [Video(f"v{i}", str(path), 6, 10.0, 64, 48) for i, path in enumerate(paths)]


def top(*names: str) -> list[list[Any]]:
    return [[name, round(0.3 - 0.01 * i, 2)] for i, name in enumerate(names)]


def lay_out(run: Path, videos: list[Video], names: list[str] = NAMES) -> Path:
    """An unlabelled run over these videos, as the stages leave it."""
    run.mkdir()
    (run / "config.yaml").write_text(dump_config(Config(backbone="miniature")), encoding="utf-8")
    (run / "actions.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    write_jsonl(run / "manifest.jsonl", videos)
    matches = [
        Match(v.id, names[i % len(names)], 0.2 + 0.01 * i, i > 0) for i, v in enumerate(videos)
    ]
    write_jsonl(run / "matches.jsonl", matches)
    write_jsonl(run / "captions.jsonl", [Caption(v.id, ("a man runs", "a dog")) for v in videos])
    texts = (BagText("go for a run", "phrase:shipped"), BagText("run", "caption:retrieval"))
    write_jsonl(run / "bags.jsonl", [Bag(m.video, m.name, texts) for m in matches if m.kept])
    log(run / "train.jsonl", 12)
    rows = [
        {
            "video": v.id,
            "path": v.path,
            "frozen": top("singing", "running", "walking"),
            "adapted": top("running" if i % 2 else "singing", "walking", "jumping rope"),
        }
        for i, v in enumerate(videos)
    ]
    write_rows(run / "predictions.jsonl", rows)
    return run


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def log(path: Path, n_steps: int) -> None:
    row = {"epoch": 0, "loss": 2.5, "lr": 1e-5, "clips": 4, "seconds": 2.0, "data_seconds": 0.5}
    write_rows(path, [{"step": i, **row} for i in range(n_steps)])


def record(model: str, top1: float, **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "split": "all",
        "seed": 0,
        "n": 65,
        "n_names": 4,
        "top1": top1,
        "top1_interval": [top1 - 9, top1 + 9],
        "top5": 90.0,
        "top5_interval": [81.0, 95.0],
        "mean_per_class": top1,
        "majority": 20.0,
        "per_class": {"running": [int(top1) // 2, 40], "walking": [3, 25]},
        "conditions": {"prompt": "a photo of {}."},
        **more,
    }


def gain(value: float, low: float, high: float) -> dict[str, Any]:
    one = {"gain": value, "interval": [low, high]}
    return {"gain": {"top1": one, "top5": one}}


def label(run: Path, videos: list[Video], adapted: dict[str, Any]) -> None:
    shuffled = record("shuffled", 41.0, **gain(-1.5, -6.0, 3.0))
    write_json(run / "results.json", [record("frozen", 42.0), adapted, shuffled])
    (run / "eval").mkdir()
    write_jsonl(run / "eval" / "manifest.jsonl", videos)
    answers = read_rows(run / "predictions.jsonl", Predicted)
    write_rows(run / "eval" / "predictions.jsonl", [{**row, "label": "running"} for row in answers])
    log(run / "control" / "train.jsonl", 12)


def test_unlabelled_run_claims_no_gain(tmp_path, clips, decoder):
    run = lay_out(tmp_path / "my run", clips)
    path = write_report(Run(run), decoder)
    page = Page(path)
    assert path == run / "report.html"
    assert "No gain is claimed" in page.text
    assert "points" not in page.text
    assert f"maxi verify '{run}' -n 40" in page.text
    assert "miniature" in page.text
    assert "3 of 4 matches were confident enough" in page.text
    assert "50.0 % of 4 videos: the frozen and the adapted model agree" in page.text
    assert "1.00 match entropy" in page.text
    assert "25 % of them waiting for data" in page.text
    assert "Accuracy" not in page.text


def test_gain_is_told_from_noise(tmp_path, clips, decoder):
    run = lay_out(tmp_path / "run", clips)
    label(run, clips, record("adapted", 44.0, **gain(2.0, -3.0, 7.0)))
    text = Page(write_report(Run(run), decoder)).text
    assert "No gain can be told from noise on 65 clips: +2.0 points" in text
    assert "No gain is claimed" not in text
    assert "right for 20.0 %" in text
    assert "changes by −1.5 points (−6.0 to +3.0)" in text


def test_verdict_follows_the_interval():
    frozen = record("frozen", 42.0)
    better = [frozen, record("adapted", 60.0, **gain(18.0, 9.0, 27.0))]
    (said,) = findings.outcome(better)[0]["sentences"]
    assert said.startswith("The adapted model is better on these 65 clips: +18.0 points")
    worse = [frozen, record("adapted", 19.0, **gain(-23.0, -30.0, -9.0))]
    said, warned = findings.outcome(worse)[0]["sentences"]
    assert said.startswith("The adapted model is worse on these 65 clips: −23.0 points")
    assert warned == "Always giving the commonest label would be right at least as often."
    touching = [frozen, record("adapted", 44.0, **gain(2.0, 0.0, 4.0))]
    assert "noise" in findings.outcome(touching)[0]["sentences"][0]


def test_splits_and_seeds_are_kept_apart():
    records = [
        record("frozen", 40.0, split=split, seed=seed)
        for split in ("all", "unseen")
        for seed in (0, 1)
    ]
    titles = [group["title"] for group in findings.outcome(records)]
    assert titles == ["all · seed 0", "all · seed 1", "unseen · seed 0", "unseen · seed 1"]


def test_control_that_gains_too_is_named():
    records = [
        record("frozen", 42.0),
        record("adapted", 60.0, **gain(18.0, 9.0, 27.0)),
        record("shuffled", 58.0, **gain(16.0, 8.0, 24.0)),
    ]
    assert "does not come from the matches" in findings.outcome(records)[0]["sentences"][-1]


def test_nothing_from_outside_becomes_markup(tmp_path, clips, decoder):
    names = [EVIL, "a & b", "$x_1$ costs $2", "日本語"]
    run = lay_out(tmp_path / EVIL.replace("/", "_"), clips, names)
    label(run, clips, record("adapted", 44.0, **gain(2.0, -3.0, 7.0)))
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    for row in results:
        row["per_class"] = {EVIL: [1, 2]}
        row["conditions"] = {EVIL: EVIL}
        row["split"] = EVIL
    write_json(run / "results.json", results)
    write_jsonl(run / "captions.jsonl", [Caption(v.id, (EVIL,)) for v in clips])
    bags = [Bag(v.id, EVIL, (BagText(EVIL, f"caption:{EVIL}"),)) for v in clips]
    write_jsonl(run / "bags.jsonl", bags)
    write_jsonl(run / "skipped.jsonl", [Skipped(f"{EVIL}.mp4", "unreadable", EVIL)])
    rows = [
        {**r, "path": f'"{EVIL}', "label": EVIL, "frozen": top(EVIL), "adapted": top("a & b")}
        for r in read_rows(run / "predictions.jsonl", Predicted)
    ]
    write_rows(run / "predictions.jsonl", rows)
    write_rows(run / "eval" / "predictions.jsonl", rows)
    with (run / "config.yaml").open("a", encoding="utf-8") as file:
        file.write(f"# {EVIL}\n")

    page = Page(write_report(Run(run), decoder))
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(EVIL) > 15
    assert "$x_1$ costs $2" in page.text
    assert "日本語" in page.text


def test_page_needs_no_other_file(tmp_path, clips, decoder):
    run = lay_out(tmp_path / "run", clips)
    label(run, clips, record("adapted", 44.0, **gain(2.0, -3.0, 7.0)))
    path = write_report(Run(run), decoder)
    page = Page(path)
    sources = page.values("src")
    assert len(sources) == 4 * (4 + 2 + 2)
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert all(link.startswith("#") for link in page.values("href") + page.values("xlink:href"))
    html = path.read_text(encoding="utf-8")
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert page.tags.count("svg") == 8
    ids = page.values("id")
    for name in (link[1:] for link in page.values("href")):
        assert ids.count(name) == 1


@pytest.mark.slow
def test_same_run_gives_the_same_page(tmp_path, clips, decoder):
    run = lay_out(tmp_path / "run", clips)
    first = write_report(Run(run), decoder).read_bytes()
    assert write_report(Run(run), decoder).read_bytes() == first


def test_lost_clip_gets_a_placeholder(tmp_path, clips, decoder):
    gone = Video("gone", str(tmp_path / "gone.mp4"), 20, 10.0, 64, 48)
    run = lay_out(tmp_path / "run", [gone, clips[1]])
    page = Page(write_report(Run(run), decoder))
    assert page.text.count("no preview: the file can no longer be decoded") == 1


@pytest.mark.parametrize(
    "name", ["matches.jsonl", "bags.jsonl", "train.jsonl", "predictions.jsonl", "config.yaml"]
)
def test_absent_file_leaves_its_section_out(tmp_path, clips, decoder, name):
    run = lay_out(tmp_path / "run", clips[:2])
    (run / name).unlink()
    page = Page(write_report(Run(run), decoder))
    titles = {
        "matches.jsonl": "Matching",
        "bags.jsonl": "Bags",
        "train.jsonl": "Training",
        "predictions.jsonl": "What changed most",
        "config.yaml": "Settings",
    }
    present = [title for file, title in titles.items() if f"{title} " in page.text]
    assert present == [title for file, title in titles.items() if file != name]


def test_manifest_alone_is_enough(tmp_path, clips, decoder):
    run = tmp_path / "run"
    run.mkdir()
    write_jsonl(run / "manifest.jsonl", clips)
    page = Page(write_report(Run(run), decoder))
    assert "adapted to 4 unlabelled videos" in page.text
    assert "nothing has been evaluated yet" in page.text
    assert "h2" not in page.tags


def test_folder_without_a_run_is_refused(tmp_path, decoder):
    with pytest.raises(MaxiError, match="holds no run"):
        write_report(Run(tmp_path), decoder)


def test_malformed_row_is_named(tmp_path, clips, decoder):
    run = lay_out(tmp_path / "run", clips)
    with (run / "predictions.jsonl").open("a", encoding="utf-8") as file:
        file.write("[1, 2]\n")
    with pytest.raises(MaxiError, match=r"predictions\.jsonl:5"):
        write_report(Run(run), decoder)


def test_collapsed_matches_are_warned_of_twice(tmp_path, clips, decoder):
    run = lay_out(tmp_path / "run", clips)
    write_jsonl(run / "matches.jsonl", [Match(v.id, "singing", 0.3, True) for v in clips])
    text = Page(write_report(Run(run), decoder)).text
    assert text.count("100% of the videos match one name") == 2


def test_large_collection_makes_a_small_page(tmp_path, clips, decoder):
    many = [Video(f"{i:05d}", clips[i % 4].path, 6, 10.0, 64, 48) for i in range(5000)]
    run = lay_out(tmp_path / "run", many)
    skipped = [Skipped(f"bad{i}.mp4", "unreadable", "empty file") for i in range(400)]
    write_jsonl(run / "skipped.jsonl", skipped)
    path = write_report(Run(run), decoder)
    page = Page(path)
    assert path.stat().st_size < 600_000
    assert len(page.values("src")) == 4 * (12 + 8)
    assert "5,000 unlabelled videos" in page.text
    assert "bad49.mp4" in page.text
    assert "bad50.mp4" not in page.text
    assert "400 in all; the first 50" in page.text


def test_examples_do_not_depend_on_the_order_of_rows(tmp_path, clips, decoder):
    many = [Video(f"{i:05d}", clips[0].path, 6, 10.0, 64, 48) for i in range(40)]
    shown = []
    for name, videos in (("a", many), ("b", many[::-1])):
        run = tmp_path / name
        run.mkdir()
        write_jsonl(run / "manifest.jsonl", videos)
        matches = [Match(v.id, f"name {v.id}", 0.5, True) for v in videos]
        write_jsonl(run / "matches.jsonl", matches)
        text = write_report(Run(run), decoder).read_text(encoding="utf-8")
        shown.append(re.findall(r"<h4>name (\d+) ", text))
    assert len(shown[0]) == 12
    assert shown[0] == shown[1]


def test_changes_count_what_they_mended():
    rows = [
        {"video": str(i), "label": answer, "frozen": top("running"), "adapted": top("walking")}
        for i, answer in enumerate(["running", "walking", "walking", "singing", None])
    ]
    assert findings.pairs(rows) == [
        {"frozen": "running", "adapted": "walking", "n": 5, "mended": 2, "broken": 1}
    ]
    assert findings.pairs([{**rows[0], "adapted": top("running")}]) == []


def test_shown_changes_cover_many_pairs():
    common = [(f"c{i}", "running", "walking") for i in range(20)]
    rare = [("r0", "singing", "walking"), ("r1", "walking", "singing")]
    rows = [{"video": v, "frozen": top(a), "adapted": top(b)} for v, a, b in common + rare]
    shown = [row["video"] for row in findings.changed(rows, 0)]
    assert len(shown) == 8
    assert shown[0].startswith("c")
    assert {"r0", "r1"} <= set(shown[:3])


def test_confusion_counts_and_shortens():
    rows = [{"label": "a", "adapted": top("a")}, {"label": "a", "adapted": top("b")}]
    rows += [{"label": "b", "adapted": top("z")}]
    found = findings.confusion(rows, "adapted")
    assert found is not None
    assert found.columns == ["a", "b", "(another name)"]
    assert found.table.tolist() == [[1, 1, 0], [0, 0, 1]]

    many = [{"label": f"{i:03d}", "adapted": top(f"{i:03d}")} for i in range(60)]
    found = findings.confusion([*many, many[59]], "adapted")
    assert found is not None
    assert (len(found.labels), found.n_labels, found.labels[-1]) == (40, 60, "059")
    assert np.trace(found.table) == 41


def test_labels_are_sorted_by_change():
    frozen = record("frozen", 40.0, per_class={"a": [5, 9], "b": [1, 9], "c": [3, 9]})
    adapted = record("adapted", 41.0, per_class={"a": [5, 9], "b": [4, 9], "c": [1, 9]})
    rows = findings.by_label([frozen, adapted])["rows"]
    assert [(row["label"], row["change"]) for row in rows] == [("b", 3), ("c", -2), ("a", 0)]


def test_thin_keeps_the_mean():
    xs, ys = figures.thin(list(range(1200)), [float(i % 7) for i in range(1200)])
    assert len(xs) == len(ys) == figures.MAX_POINTS
    assert np.mean(ys) == pytest.approx(np.mean([i % 7 for i in range(1200)]))
    assert xs[0] == pytest.approx(1.5)


def test_figures_take_their_colours_from_the_page():
    svg = figures.histogram([0.1, 0.2, 0.3], x="cosine", threshold=0.15)
    assert "var(--frozen)" in svg
    assert "var(--adapted)" in svg
    assert not [colour for colour in figures.COLOURS.values() if colour in svg]
    assert figures.histogram([3, 3, 3], x="texts").count("var(--adapted)") >= 1


def test_jpeg_fits_its_box():
    import base64
    import io

    from PIL import Image

    for shape in ((480, 640, 3), (640, 120, 3), (20, 2000, 3), (1, 1, 3)):
        uri = jpeg(np.zeros(shape, np.uint8), 100)
        image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        assert image.format == "JPEG"
        assert image.width <= 200
        assert image.height <= 100


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_the_screen(tmp_path, clips, decoder, width):
    run = lay_out(tmp_path / "run", clips, ["an action with quite a long name " * 2, *NAMES])
    label(run, clips, record("adapted", 44.0, **gain(2.0, -3.0, 7.0)))
    inner = escape(write_report(Run(run), decoder).read_text(encoding="utf-8"))
    outer = tmp_path / "outer.html"
    # A window may refuse to be as narrow as a phone; a frame does not.
    script = """const frame = document.querySelector("iframe");
    frame.onload = () => document.title = frame.contentDocument.documentElement.scrollWidth;"""
    frame = f'<iframe width="{width}" height="900" style="border: 0" srcdoc="{inner}"></iframe>'
    outer.write_text(f"<!doctype html><title></title>{frame}<script>{script}</script>", "utf-8")
    found = re.search(r"<title>(\d+)</title>", dump_dom(outer))
    assert found is not None
    assert 0.9 * width < int(found[1]) <= width


def dump_dom(page: Path) -> str:
    """A page as chromium leaves it after its scripts ran."""
    with tempfile.TemporaryDirectory() as profile:
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update"]
        command += ["--disable-sync", f"--user-data-dir={profile}", "--window-size=1400,900"]
        command += ["--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=True)
    return done.stdout
