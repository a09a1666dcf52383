from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maxi
from maxi.errors import MaxiError
from maxi.records import Video, write_jsonl
from maxi.reports.verify import estimate, sample, stratify, write_verify
from maxi.run import Run
from maxi.video.workers import Decoder
from media import write_video

SCRIPT = Path(maxi.__file__).parent / "reports" / "templates" / "estimate.js"
CHROMIUM, NODE = shutil.which("chromium"), shutil.which("node")
EVIL = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def decoder():
    with Decoder(1) as decoder:
        yield decoder


def row(video: str, frozen: str, adapted: str) -> dict[str, Any]:
    return {
        "video": video,
        "path": f"{video}.mp4",
        "frozen": [[frozen, 0.3]],
        "adapted": [[adapted, 0.3]],
    }


def lay_out(run: Path, rows: list[dict[str, Any]], clip: Path | None = None) -> Path:
    run.mkdir(exist_ok=True)
    videos = [Video(r["video"], str(clip or r["path"]), 6, 10.0, 64, 48) for r in rows]
    write_jsonl(run / "manifest.jsonl", videos)
    text = "".join(json.dumps(r) + "\n" for r in rows)
    (run / "predictions.jsonl").write_text(text, encoding="utf-8")
    return run


def collection(n_agree: int, n_disagree: int) -> list[dict[str, Any]]:
    rows = [row(f"a{i:04d}", "running", "running") for i in range(n_agree)]
    return rows + [row(f"d{i:04d}", "running", "walking") for i in range(n_disagree)]


def kinds(chosen: list[str]) -> tuple[int, int]:
    return sum(v.startswith("a") for v in chosen), sum(v.startswith("d") for v in chosen)


def judge(stratum: str, frozen: bool | None, adapted: bool | None, n: int = 1) -> list[dict]:
    return [{"stratum": stratum, "frozen": frozen, "adapted": adapted}] * n


@pytest.mark.parametrize(
    ("n_agree", "n_disagree", "expected"),
    [(900, 100, (20, 20)), (900, 3, (37, 3)), (2, 500, (2, 38)), (0, 50, (0, 40)), (8, 9, (8, 9))],
)
def test_half_of_the_sample_are_disagreements(n_agree, n_disagree, expected):
    rows = {r["video"]: r for r in collection(n_agree, n_disagree)}
    chosen = sample(stratify(rows), 40, 0)
    assert kinds(chosen) == expected
    assert len(set(chosen)) == len(chosen)


def test_sample_depends_on_the_seed_alone():
    rows = {r["video"]: r for r in collection(60, 60)}
    backwards = dict(reversed(rows.items()))
    chosen = sample(stratify(rows), 40, 0)
    assert chosen == sample(stratify(backwards), 40, 0)
    assert chosen != sample(stratify(rows), 40, 1)
    # A larger sample keeps the clips of a smaller one, and so what was said about them.
    assert set(chosen) <= set(sample(stratify(rows), 60, 0))
    assert len({kinds(chosen[:10]), kinds(chosen[10:20]), kinds(chosen[20:30])}) > 1


def test_estimate_by_hand():
    said = judge("agree", True, True, 8) + judge("agree", False, False, 2)
    said += judge("disagree", True, False, 2) + judge("disagree", False, True, 6)
    said += judge("disagree", False, False, 2)
    found = estimate(said, {"agree": 700, "disagree": 300})
    assert found["ready"]
    assert found["frozen"]["value"] == pytest.approx(100 * (0.7 * 0.8 + 0.3 * 0.2))
    assert found["adapted"]["value"] == pytest.approx(100 * (0.7 * 0.8 + 0.3 * 0.6))
    assert found["difference"]["value"] == pytest.approx(12.0)
    # Bonett and Price: (7 - 3) / 12 -+ z sqrt((10 / 12 - (4 / 12)^2) / 12), times the share 0.3
    half = 1.959964 * ((10 / 12 - (4 / 12) ** 2) / 12) ** 0.5
    expected = [30 * (1 / 3 - half), 30 * (1 / 3 + half)]
    assert found["difference"]["interval"] == pytest.approx(expected, rel=1e-5)
    for model in ("frozen", "adapted"):
        low, high = found[model]["interval"]
        assert low < found[model]["value"] < high


def test_estimate_waits_for_five_of_each_kind():
    strata = {"agree": 50, "disagree": 50}
    said = judge("agree", True, True, 20) + judge("disagree", True, False, 4)
    assert not estimate(said, strata)["ready"]
    assert estimate(said + judge("disagree", False, True), strata)["ready"]
    assert not estimate([], strata)["ready"]
    # Where there are fewer, all of them are enough.
    assert estimate(said, {"agree": 50, "disagree": 4})["ready"]
    assert estimate(judge("agree", True, True, 5), {"agree": 50, "disagree": 0})["ready"]


def test_what_cannot_be_told_is_left_out():
    strata = {"agree": 50, "disagree": 50}
    said = judge("agree", True, True, 6) + judge("disagree", False, True, 6)
    unsure = judge("agree", None, None, 3) + judge("disagree", None, None, 2)
    assert estimate(said + unsure, strata)["frozen"] == estimate(said, strata)["frozen"]
    assert estimate(said + unsure, strata)["told"] == 12
    assert estimate(said + unsure, strata)["judged"] == 17
    assert not estimate(judge("agree", None, None, 9) + said[6:], strata)["ready"]


def test_no_disagreement_is_no_difference():
    found = estimate(judge("agree", True, True, 10), {"agree": 50, "disagree": 0})
    assert found["difference"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert found["frozen"]["value"] == 100
    low, high = found["frozen"]["interval"]
    assert 60 < low < 90
    assert high == 100


@pytest.mark.parametrize(
    ("agree", "both", "frozen", "adapted", "n"),
    [
        pytest.param(0.8, 0.1, 0.3, 0.4, 40, marks=pytest.mark.slow),
        pytest.param(0.97, 0.0, 0.1, 0.85, 40, marks=pytest.mark.slow),
        (0.5, 0.05, 0.3, 0.3, 10),
    ],
)
def test_estimate_is_unbiased_and_its_interval_covers(agree, both, frozen, adapted, n):
    """Repeated judgings of samples of one collection: 3,000 clips, models disagree on 900."""
    rng = np.random.default_rng(0)
    strata = {"agree": 2100, "disagree": 900}
    same = np.arange(2100) < round(agree * 2100)
    ends = np.round(np.cumsum([both, frozen, adapted]) * 900)
    place = np.arange(900)[:, None] < ends
    cells = np.where(place[:, 0], 3, np.where(place[:, 1], 2, np.where(place[:, 2], 1, 0)))
    right = {"frozen": same.sum() + (cells >= 2).sum()}
    right["adapted"] = same.sum() + np.isin(cells, (1, 3)).sum()
    truth = {model: 100 * count / 3000 for model, count in right.items()}
    truth["difference"] = truth["adapted"] - truth["frozen"]
    values: dict[str, list[float]] = {key: [] for key in truth}
    covered = dict.fromkeys(truth, 0)
    n_draws = 1500
    for _ in range(n_draws):
        said = []
        for hit in rng.choice(same, n // 2, replace=False).tolist():
            said += judge("agree", hit, hit)
        for cell in rng.choice(cells, n // 2, replace=False).tolist():
            said += judge("disagree", cell >= 2, cell in (1, 3))
        found = estimate(said, strata)
        for key, true in truth.items():
            low, high = found[key]["interval"]
            values[key].append(found[key]["value"])
            covered[key] += low <= true <= high
    for key, true in truth.items():
        error = np.std(values[key]) / n_draws**0.5
        assert abs(np.mean(values[key]) - true) < 4 * error, key
        assert covered[key] / n_draws >= 0.92, key


class Cards(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts = 0
        self.images: list[str] = []
        self.html = html
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")

    @property
    def data(self) -> Any:
        found = re.search(r'id="data">(.*?)</script>', self.html, re.DOTALL)
        assert found is not None
        return json.loads(found[1])

    @property
    def blind(self) -> str:
        """What the person sees: the page before the estimate."""
        return self.html[self.html.index("<article") : self.html.index('id="estimate"')]


def test_page_shows_clips_and_hides_models(tmp_path, decoder):
    clip = write_video(tmp_path / "clip.mp4", n_frames=6)
    run = lay_out(tmp_path / "run", collection(8, 30), clip)
    path = write_verify(Run(run), decoder, n=16, seed=3)
    assert path == run / "verify.html"
    page = Cards(path.read_text(encoding="utf-8"))
    assert len(page.images) == 16 * 8
    assert all(image.startswith("data:image/jpeg;base64,") for image in page.images)
    assert page.html.count("<article") == 16
    assert page.data["strata"] == {"agree": 8, "disagree": 30}
    for word in ("frozen", "adapted", ".mp4"):
        assert word not in re.sub(r'src="[^"]*"', "", page.blind)
    # Neither model's name comes first every time.
    first = {c["names"][0] == c["frozen"] for c in page.data["cards"] if len(c["names"]) == 2}
    assert first == {True, False}
    assert "http:" not in page.html
    assert "https:" not in page.html
    assert path.read_bytes() == write_verify(Run(run), decoder, n=16, seed=3).read_bytes()


def test_nothing_from_outside_becomes_markup(tmp_path, decoder):
    rows = [row(f"v{i}", EVIL, "walking & <b>running</b>") for i in range(12)]
    rows = [{**r, "path": EVIL} for r in rows]
    page = Cards(
        write_verify(Run(lay_out(tmp_path / "run", rows)), decoder, n=10).read_text("utf-8")
    )
    assert page.scripts == 2
    assert page.data["cards"][0]["path"] == EVIL
    assert page.html.count("no preview") == 10


def test_unusable_runs_are_refused(tmp_path, decoder):
    with pytest.raises(MaxiError, match="at least 10"):
        write_verify(Run(lay_out(tmp_path / "run", collection(20, 20))), decoder, n=9)
    with pytest.raises(MaxiError, match="run `maxi adapt` first"):
        write_verify(Run(tmp_path), decoder)
    only = [{"video": "a", "path": "a.mp4", "frozen": [["running", 0.3]]}]
    with pytest.raises(MaxiError, match="no predictions of both models"):
        write_verify(Run(lay_out(tmp_path / "one", only)), decoder)


CASES = [
    (judge("agree", True, True, 9) + judge("disagree", True, False, 7), (700, 300)),
    (judge("agree", True, True, 5) + judge("disagree", False, True, 5), (70, 3000)),
    (judge("agree", False, False, 30) + judge("disagree", True, True, 6), (11, 7)),
    (judge("agree", True, True, 5) + judge("disagree", None, None, 5), (50, 50)),
    (judge("agree", True, True, 5) + judge("disagree", True, False, 2), (50, 2)),
    (judge("agree", True, True, 12) + judge("agree", None, None, 2), (99, 0)),
    (judge("disagree", True, False, 4) + judge("disagree", False, True, 9), (0, 40)),
    ([], (10, 10)),
]


def same(found: Any, expected: Any) -> bool:
    """Equal but for the last digits."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == pytest.approx(expected, abs=1e-9))


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_page_computes_the_same_estimate():
    cases = [(said, dict(zip(("agree", "disagree"), n, strict=True))) for said, n in CASES]
    program = SCRIPT.read_text(encoding="utf-8") + (
        f"console.log(JSON.stringify({json.dumps(cases)}.map(([said, n]) => estimate(said, n))))"
    )
    done = subprocess.run(
        [str(NODE), "-"], input=program, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    expected = [estimate(*case) for case in cases]
    assert [r["ready"] for r in expected] == [True, True, True, False, True, True, True, False]
    assert same(found, expected)


CLICKS = """
const shown = (id) => !document.getElementById(id).hidden;
const log = { before: shown("result") };
document.querySelectorAll(".clip").forEach((clip, i) => {
  if (i === 15) clip.querySelector(".unsure").click();
  else clip.querySelectorAll("button[data-name]").forEach((button) => {
    if (button.dataset.right === String((i + Number(button.dataset.name)) % 2)) button.click();
  });
});
log.judgements = judgements();
log.after = shown("result");
log.text = ["frozen", "frozen-interval", "adapted", "difference", "difference-interval", "count"]
  .map((id) => document.getElementById(id).textContent);
log.stored = JSON.parse(localStorage.getItem(data.key));
const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
const names = (i) => data.cards[i].names.length;
go(0); press("x"); log.cleared = judgements().length;
for (let n = 0; n < names(0); n++) press("w");
log.retyped = judgements().length;
document.body.innerHTML = "<pre id=log></pre>";
document.getElementById("log").textContent = JSON.stringify(log);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_judging_in_a_browser(tmp_path, decoder):
    path = write_verify(Run(lay_out(tmp_path / "run", collection(40, 40))), decoder, n=16)
    html = path.read_text(encoding="utf-8")
    data = Cards(html).data
    path.write_text(f"{html}<script>{CLICKS}</script>", encoding="utf-8")
    with tempfile.TemporaryDirectory() as profile:
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update"]
        command += ["--disable-sync", f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=True)
    found = re.search(r'<pre id="log">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    log = json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))

    expected = []
    for i, card in enumerate(data["cards"]):
        right = {name: (i + k) % 2 == 1 for k, name in enumerate(card["names"])}
        say = [None if i == 15 else right[card[model]] for model in ("frozen", "adapted")]
        expected += judge(card["stratum"], *say)
    assert [{k: j[k] for k in expected[0]} for j in log["judgements"]] == expected
    assert (log["before"], log["after"]) == (False, True)
    result = estimate(expected, data["strata"])
    low, high = result["frozen"]["interval"]
    assert log["text"][0] == f"{result['frozen']['value']:.1f} %"
    assert log["text"][1] == f"{low:.1f} to {high:.1f} %"
    assert log["text"][3] == f"{result['difference']['value']:+.1f} points".replace("-", "−")
    assert log["text"][5] == "16 of 16 judged"
    assert len(log["stored"]) == 16
    assert (log["cleared"], log["retyped"]) == (15, 16)
