"""The local pages: who may ask, and that what is answered and edited goes into the run's files and nowhere else."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.records import Match, Video, read_jsonl
from maxi.run import Run
from maxi.settings import changed, load_config, load_run
from maxi.stages.adapt import adapt
from maxi.stages.job import open_job
from maxi.stages.judgements import judged
from maxi.video.decode import probe

pytest.importorskip("starlette")
pytest.importorskip("httpx")
from starlette.testclient import TestClient

from maxi.app import recognising, server
from maxi.app.desk import Desk

TOKEN, PORT = "a-token-that-nobody-knows", 8642
HOST = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def made(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run of the eight tiny videos."""
    out = tmp_path_factory.mktemp("app") / "run"
    settings = ("epochs=1", "train.batch_size=4", "train.micro_batch=4", "seed=0")
    config = load_config(None, settings, backbone=f"clip:{tiny_clip}")
    adapt(str(videos), actions, out, config)
    return out


@pytest.fixture
def desk(made: Path, tmp_path: Path) -> Iterator[Desk]:
    folder = Path(shutil.copytree(made, tmp_path / "run"))
    with open_job(folder, load_run(Run(folder).config)) as job:
        desk = Desk(job, 6)
        yield desk
        desk.uploads.close()


@pytest.fixture
def client(desk: Desk) -> TestClient:
    """A browser that has opened the address with the token."""
    client = TestClient(server.build(desk, TOKEN, PORT), base_url=HOST)
    assert client.get(f"/?token={TOKEN}").url.query == b""
    return client


def ask(client: TestClient, path: str, **data: Any) -> Any:
    response = client.post(path, json=data)
    assert response.status_code == 200, response.text
    return response.json()


def test_only_a_browser_with_the_token_is_answered(desk: Desk) -> None:
    nobody = TestClient(server.build(desk, TOKEN, PORT), base_url=HOST)
    for path in ("/", "/judge", "/report", "/style.css", "/static/common.js", "/preview/x.mp4"):
        assert nobody.get(path).status_code == 403
    assert nobody.post("/api/shown", json={}).status_code == 403
    assert nobody.get("/?token=another").status_code == 403
    assert nobody.get(f"/?token={TOKEN}").status_code == 200
    cookie = nobody.get(f"/?token={TOKEN}", follow_redirects=False).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_another_host_or_page_is_refused(client: TestClient) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/", headers={"Host": f"127.0.0.1:{PORT + 1}"}).status_code == 421
    for header in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/api/shown", json={}, headers=header).status_code == 403
    assert client.post("/api/shown", json={}, headers={"Origin": HOST}).status_code == 200


def test_pages_allow_no_script_of_their_own(client: TestClient) -> None:
    for path in ("/", "/judge", "/bags", "/search", "/classify"):
        response = client.get(path)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        inline = re.findall(r"<script(?![^>]*\bsrc=)([^>]*)>", response.text)
        assert all("application/json" in kind for kind in inline)
        assert not re.search(r"\son\w+=|\sstyle=|https?://", response.text)
        for link in re.findall(r'(?:src|href)="(/(?:static|style)[^"]*)"', response.text):
            assert client.get(link).status_code == 200
    report = client.get("/report")
    assert "script-src" not in report.headers["content-security-policy"]
    assert "sandbox" in report.headers["content-security-policy"]


def test_ids_are_no_paths(client: TestClient, desk: Desk) -> None:
    for name in ("../../config.yaml", "..%2f..%2fconfig.yaml", "%2e%2e/config.yaml", "x", "%00"):
        for path in (f"/preview/{name}.mp4", f"/pictures/{name}.jpg", f"/static/{name}"):
            assert client.get(path).status_code in (404, 405), path
    for path in ("/api/answer", "/api/moment", "/api/classify", "/api/correct"):
        data = {"video": "../config.yaml", "kind": "none", "text": "x", "name": "x"}
        response = client.post(path, json=data)
        assert response.status_code == 404, path
        assert "load the page again" in response.json()["error"]
    assert not desk.run.judgements.exists()


def test_answers_are_kept_and_can_be_taken_back(client: TestClient, desk: Desk) -> None:
    state = ask(client, "/api/shown")
    assert (state["n"], state["goal"], state["estimate"]) == (0, 6, None)
    first, second = state["clips"][:2]
    assert first["names"] == desk.names
    assert set(first) == {"video", "seconds", "names", "alike"}  # nothing of what a model said
    state = ask(client, "/api/answer", video=first["video"], kind="name", answer="high jump")
    assert judged(desk.run)[first["video"]]["answer"] == "high jump"
    assert state["told"]["answer"] == "high jump"
    assert {state["told"]["frozen"], state["told"]["adapted"]} <= set(desk.names)
    assert state["clips"][0]["video"] == second["video"]
    state = ask(client, "/api/undo")
    assert state["clips"][0]["video"] == first["video"]
    assert not judged(desk.run)
    passed = ask(client, "/api/shown", skip=[first["video"]])
    assert passed["clips"][0]["video"] == second["video"]


def test_all_videos_can_be_answered_and_then_there_is_no_more(
    client: TestClient, desk: Desk
) -> None:
    state = ask(client, "/api/shown", more=100)
    n = 0
    while state["clips"]:
        kind = ("name", "none", "unsure")[n % 3]
        answer = "riding a horse" if kind == "name" else ""
        video = state["clips"][0]["video"]
        state = ask(client, "/api/answer", video=video, kind=kind, answer=answer)
        n += 1
        assert n <= 8
    assert n == 8 == state["n"]
    assert {row["probability"] is not None for row in judged(desk.run).values()} == {True}


def test_a_group_is_answered_with_one_key(client: TestClient, desk: Desk) -> None:
    one, *others = list(desk.videos)[:4]
    state = ask(client, "/api/answer", video=one, kind="none", also=others)
    assert state["told"]["n_also"] == 3
    assert set(judged(desk.run)) == {one, *others}
    state = ask(client, "/api/undo")
    assert not judged(desk.run)
    assert state["clips"][0]["video"] == one


def test_what_cannot_be_shown_or_written_is_one_sentence(
    client: TestClient, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "weights.txt")

    monkeypatch.setattr("maxi.app.editing.write_text", full)
    response = client.post("/api/weigh", json={"text": "run", "weight": 0})
    assert response.status_code == 409
    assert response.json()["error"].startswith("weights.txt: No space left on device; make room")
    desk.run.matches.write_text("{\n")
    assert client.post("/api/rows", json={}).status_code == 409
    desk.run.predictions.write_text("no row\n")
    page = client.get("/")
    assert page.status_code == 409
    assert "This page cannot be shown" in page.text
    assert "predictions.jsonl" in page.text


def test_a_fault_of_our_own_is_not_called_the_users(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TestClient(
        server.build(desk, TOKEN, PORT), base_url=HOST, raise_server_exceptions=False
    )
    client.get(f"/?token={TOKEN}")
    monkeypatch.setattr("maxi.app.searching._embedded", lambda *_: 1 / 0)
    assert client.post("/api/search", json={"text": "x"}).status_code == 500


def test_an_answer_does_not_wait_for_a_model(client: TestClient, desk: Desk) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with desk.models:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        state = ask(client, "/api/answer", video=next(iter(desk.videos)), kind="none")
        assert "clips" in state
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    "data",
    [
        {"video": "x"},
        {"video": "x", "kind": "undo"},
        {"video": ["x"], "kind": "none"},
        {"video": "x", "kind": "name", "answer": "y" * 1001},
    ],
)
def test_other_requests_are_refused(client: TestClient, desk: Desk, data: dict[str, Any]) -> None:
    assert client.post("/api/answer", json=data).status_code == 400
    assert client.post("/api/answer", content=b"\xff{").status_code == 400
    assert client.post("/api/answer", content=b"[" * 100_000).status_code == 400
    assert client.post("/api/answer", content=b" " * (server.MOST_JSON + 1)).status_code == 413
    empty = {"video": next(iter(desk.videos)), "kind": "name", "answer": "  "}
    assert client.post("/api/answer", json=empty).status_code == 409
    assert not desk.run.judgements.exists()


def test_a_preview_plays_in_every_browser(client: TestClient, desk: Desk, tmp_path: Path) -> None:
    video = next(iter(desk.videos))
    response = client.get(f"/preview/{video}.mp4")
    assert response.headers["content-type"] == "video/mp4"
    file = tmp_path / "preview.mp4"
    file.write_bytes(response.content)
    found = probe(file)
    assert found.n_frames > 1
    assert (found.height % 2, found.width % 2) == (0, 0)
    assert client.get(f"/preview/{video}.mp4").content == response.content
    assert client.get(f"/preview/{video}.mp4?start=x").status_code == 400
    assert client.get(f"/preview/{video}.mp4?start=nan").status_code == 400
    assert client.get(f"/preview/{video}.mp4?start=1e7&end=2e7").status_code == 409
    for n in (1, 8):
        frames = client.get(f"/pictures/{video}.jpg?n={n}")
        assert frames.content.startswith(b"\xff\xd8")


def test_a_sentence_finds_videos_and_moments(client: TestClient, desk: Desk) -> None:
    answer = ask(client, "/api/search", text="a horse")
    assert {one["video"] for one in answer["found"]} == set(desk.videos)
    scores = [one["score"] for one in answer["found"]]
    assert scores == sorted(scores, reverse=True)
    video = desk.videos[answer["found"][0]["video"]]
    moment = ask(client, "/api/moment", text="a horse", video=video.id)
    assert moment["start"] <= moment["seconds"] <= moment["end"]
    assert moment["seconds"] <= video.n_frames / video.fps
    assert client.post("/api/search", json={"text": ""}).status_code == 400


def test_edits_go_into_the_files_of_the_run(client: TestClient, desk: Desk) -> None:
    listed = ask(client, "/api/rows", order="list")
    assert listed["n"] == 8
    row = next(row for row in listed["rows"] if row["texts"])
    edited = ask(client, "/api/correct", video=row["video"], name="high  jump", kept=False)
    assert edited["commands"][0] == f"maxi bag {desk.run.folder}"
    match = {m.video: m for m in read_jsonl(desk.run.matches, Match)}[row["video"]]
    assert (match.name, match.kept, match.source) == ("high jump", False, "hand")
    assert ask(client, "/api/rows", matches="hand")["n"] == 1
    text = row["texts"][0]["text"]
    ask(client, "/api/weigh", text=text, weight=0)
    config = load_run(desk.run.config)
    assert config.bag.weights
    assert Path(config.bag.weights).read_text() == f"{text}\t0\n"
    ask(client, "/api/weigh", text=text, weight=1)
    assert Path(config.bag.weights).read_text() == ""
    assert "is to be run again" in client.get("/bags").text


def test_a_file_elsewhere_is_not_written(client: TestClient, desk: Desk, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("leap\t2\n")
    desk.job.config = changed(desk.job.config, {"bag.weights": str(elsewhere)})
    ask(client, "/api/weigh", text="run", weight=3)
    assert elsewhere.read_text() == "leap\t2\n"
    assert (desk.run.folder / "weights.txt").read_text() == "leap\t2\nrun\t3\n"


def test_hostile_text_stays_text(client: TestClient, desk: Desk) -> None:
    evil = "</script><script>alert(1)</script>"
    desk.names = [evil, *desk.names]
    for page in ("/judge", "/bags", "/classify"):
        assert "<script>alert" not in client.get(page).text
    video = next(iter(desk.videos))
    ask(client, "/api/answer", video=video, kind="name", answer=evil)
    assert json.loads(desk.run.judgements.read_text())["answer"] == evil
    ask(client, "/api/correct", video=video, name=evil)
    assert ask(client, "/api/rows", matches="hand")["rows"][0]["name"] == evil


def test_videos_are_classified(
    client: TestClient, desk: Desk, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = max(desk.videos.values(), key=lambda v: v.n_frames)
    answer = ask(client, "/api/classify", video=video.id, window=0.3, names=["a", "b", "a"])
    assert len(answer["windows"]) > 1
    assert {name for one in answer["windows"] for name in one["names"]} == {"a", "b"}
    sent = client.post("/api/upload", content=Path(video.path).read_bytes()).json()
    again = ask(client, "/api/classify", upload=sent["upload"], window=0.3, names=["a", "b"])
    assert again == answer
    broken = client.post("/api/upload", content=b"no video").json()
    refused = client.post("/api/classify", json={"upload": broken["upload"]})
    assert refused.status_code == 409
    assert str(desk.run.folder) not in refused.json()["error"]
    assert (desk.run.previews / "upload").read_bytes() == b"no video"  # the one before is gone
    gone = client.post("/api/classify", json={"upload": sent["upload"]})
    assert gone.status_code == 404
    monkeypatch.setattr(server, "LARGEST", 5)
    assert client.post("/api/upload", content=b"too much").status_code == 413
    assert client.post("/api/upload", content=iter([b"too", b" much"])).status_code == 413
    assert client.post("/api/classify", json={}).status_code == 409
    assert recognising.Task().window == 10


def test_the_overview_says_what_to_do(client: TestClient, desk: Desk) -> None:
    assert "no clips are answered yet" in client.get("/").text.lower()
    with desk.run.actions.open("a") as file:
        file.write("dancing\n")
    page = client.get("/").text
    assert f"maxi match {desk.run.folder}" in page
    desk.run.training.write_text(desk.run.training.read_text() + " ")
    assert "was trained anew" in client.get("/").text


def test_another_command_may_work_while_the_page_is_open(client: TestClient, desk: Desk) -> None:
    with open_job(desk.run.folder, desk.job.config):
        video = next(iter(desk.videos))
        state = ask(client, "/api/answer", video=video, kind="none")  # none can be drawn
        assert "in use by another maxi" in state["problem"]
        edit = client.post("/api/correct", json={"video": video, "name": "x"})
        assert edit.status_code == 409
    assert set(judged(desk.run)) == {video}


def opened_at(run: Path) -> tuple[subprocess.Popen[str], str]:
    """Start `maxi open`, and return the process and its address with the token."""
    process = subprocess.Popen(
        [sys.executable, "-m", "maxi", "open", str(run), "--no-browser"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, process.stdout.readline().split()[1]


def opened(run: Path) -> tuple[subprocess.Popen[str], Any]:
    """Start `maxi open`, and return the process and a function that asks it."""
    process, address = opened_at(run)
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    browser.open(address).read()

    def ask(path: str, data: dict[str, Any]) -> Any:
        url = address.partition("?")[0].rstrip("/") + path
        return json.loads(browser.open(url, json.dumps(data).encode()).read())

    return process, ask


def test_a_killed_server_loses_no_answer(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "run"))
    process, ask = opened(folder)
    first = ask("/api/shown", {})["clips"][0]["video"]
    ask("/api/answer", {"video": first, "kind": "none"})
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert set(judged(Run(folder))) == {first}
    process, ask = opened(folder)
    try:
        state = ask("/api/shown", {})
        assert state["n"] == 1
        assert first not in {clip["video"] for clip in state["clips"]}
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_run_without_figures_says_what_to_run(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "run"))
    Run(folder).predictions.unlink()
    found = CliRunner().invoke(main, ["open", str(folder), "--no-browser"])
    assert found.exit_code == 1
    assert "run `maxi eval` first" in found.stderr
    assert len(read_jsonl(Run(folder).manifest, Video)) == 8


def test_missing_packages_are_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    found = CliRunner().invoke(main, ["open", str(made), "--no-browser"])
    assert found.exit_code == 1
    assert 'pip install "maxi[app]"' in found.stderr


def test_a_port_that_is_taken_is_told(made: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = CliRunner().invoke(main, ["open", str(made), "--no-browser", "--port", str(port)])
    assert found.exit_code == 1
    assert f"--port {port}: cannot be used" in found.stderr
