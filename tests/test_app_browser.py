"""The page of judging in a real browser, by keyboard alone: Playwright, with a Chromium of the system."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from maxi.run import Run
from maxi.settings import load_config
from maxi.stages.adapt import adapt
from maxi.stages.judgements import judged

pytest.importorskip("starlette")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def page() -> Any:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_context(viewport={"width": 390, "height": 844}).new_page()
        browser.close()


def test_clips_are_judged_by_keyboard_and_no_answer_is_lost(
    page: Any, videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    from test_app import opened_at

    out = tmp_path / "run"
    settings = ("epochs=1", "train.batch_size=4", "train.micro_batch=4")
    adapt(str(videos), actions, out, load_config(None, settings, backbone=f"clip:{tiny_clip}"))
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))

    def go_to_judge(address: str) -> None:
        page.goto(address)  # sets the cookie
        page.goto(address.partition("?")[0] + "judge")
        page.wait_for_selector("#names button")

    def press(*keys: str) -> None:
        before = page.inner_text("#count")
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_function(
            "b => document.querySelector('#count').textContent !== b", arg=before
        )

    process, address = opened_at(out)
    go_to_judge(address)
    press("1")
    press("0")
    press("u")
    assert sorted(row["kind"] for row in judged(Run(out)).values()) == ["name", "none", "unsure"]
    press("z")
    assert len(judged(Run(out))) == 2
    press("h", "i", "g", "Enter")  # the page finds the name
    assert "high jump" in {row["answer"] for row in judged(Run(out)).values()}
    assert re.search("The model before training says", page.inner_text("#told"))
    page.reload()
    page.wait_for_selector("#names button")
    assert page.inner_text("#count").startswith("3 of")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    page.keyboard.press("2")
    page.wait_for_selector("#problem:not(:empty)")
    assert "maxi open" in page.inner_text("#problem")
    process, address = opened_at(out)
    try:
        go_to_judge(address)
        assert page.inner_text("#count").startswith("3 of")
        for name in ("", "judge", "bags", "search", "classify"):
            page.goto(address.partition("?")[0] + name)
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    finally:
        process.terminate()
        process.wait(30)
    assert not problems
