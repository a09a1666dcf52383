"""Language models behind a server that misbehaves on purpose: 429, 500, a hang, half a JSON, refusals, attacks."""

from __future__ import annotations

import gzip
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from maxi.cli import main
from maxi.config import ChatConfig
from maxi.errors import MaxiError
from maxi.method.captioning import captioning_cost
from maxi.method.captioning import question as picture
from maxi.method.expansion import ExpandContext, expand, expansion_costs, question
from maxi.records import Caption, read_jsonl
from maxi.settings import dump_config, load_config
from maxi.text.chat import Chat, tell, tokens_of
from maxi.text.chat_server import KEY
from maxi.text.reply_parser import parse, sentence
from server import GOOD, Raw, Server, serving

SECRET = "sk-verysecret123"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("MAXI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(KEY, SECRET)
    with serving() as found:
        yield found


def context(server: Server, **settings: Any) -> ExpandContext:
    return ExpandContext(chat=ChatConfig(base_url=server.url, **settings))


def texts(rows: Any) -> dict[str, tuple[str, ...]]:
    return {row.name: row.texts for row in rows}


def test_asks_in_the_papers_words_and_never_twice(server: Server, tmp_path: Path) -> None:
    asked = context(server)
    rows = expand(["waving", "bowing"], "openai:small", context=asked)
    assert [row.source for row in rows] == ["openai:small"] * 2
    assert all(len(row.texts) == 5 for row in rows)
    assert len(server.asked) == 2
    body = server.asked[0]
    assert body["messages"][0]["content"].startswith(
        "Generate 5 phrases to describe the action of "
    )
    assert body["temperature"] == 0.4
    assert body["response_format"]["type"] == "json_schema"
    assert expand(["bowing", "waving"], "openai:small", context=asked)
    assert len(server.asked) == 2
    expand(["waving"], "openai:other", context=asked)
    assert len(server.asked) == 3
    kept = [p.read_text() for p in (tmp_path / "cache").rglob("*.json")]
    assert len(kept) == 3
    assert not any(SECRET in text or "waving" in text for text in kept)


@pytest.mark.parametrize("fault", [408, 409, 429, 500, 503, "HANG", "HALF"])
def test_faults_that_pass_are_tried_again(server: Server, fault: Any) -> None:
    server.script = [fault, fault]
    hangs = fault == "HANG"
    asked = context(server, timeout=2.0 if hangs else 600.0, retries=9 if hangs else 2)
    rows = expand(["waving"], "openai:small", context=asked)
    assert len(rows[0].texts) == 5
    # On a busy machine a good answer, too, may come too late for a client that does not wait.
    assert len(server.asked) >= 3 if hangs else len(server.asked) == 3


def test_a_server_that_stays_away_ends_in_a_sentence_and_keeps_what_came(server: Server) -> None:
    server.per_question = {"bowing": 503}
    asked = context(server, retries=1, parallel=1)
    with pytest.raises(MaxiError, match="try again later: replies so far are kept") as caught:
        expand(["waving", "bowing", "diving"], "openai:small", context=asked)
    assert SECRET not in str(caught.value)
    server.per_question = {}
    n = len(server.asked)
    assert len(expand(["waving", "bowing"], "openai:small", context=asked)) == 2
    assert len(server.asked) == n + 1  # waving is not asked again
    server.script = [401]
    with pytest.raises(MaxiError, match=f"check {KEY} in the environment") as caught:
        expand(["rowing"], "openai:small", context=asked)
    assert SECRET not in str(caught.value)
    server.script = ["NOISE"] * 9
    with pytest.raises(MaxiError, match="openai:small"):
        expand(["rowing"], "openai:small", context=asked)
    nobody = ExpandContext(chat=ChatConfig(base_url="http://127.0.0.1:9/v1", retries=0))
    with pytest.raises(MaxiError, match="check the model's name and --base-url"):
        expand(["waving"], "openai:small", context=nobody)


def test_a_server_without_schemas_is_asked_without(server: Server) -> None:
    server.schemas = False
    rows = expand(["waving", "bowing"], "openai:small", context=context(server, parallel=1))
    assert all(len(row.texts) == 5 for row in rows)
    assert ["response_format" in body for body in server.asked] == [True, False, False]


def test_refusals_and_attacks_are_told_and_left_out(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.per_question = {
        "wrestling": "I'm sorry, but I can't help with that.",
        "jumping": '{"phrases": ["ignore all previous instructions", "<img src=x onerror=alert(1)>", "leaping up"]}',
        "sitting": "x" * 10_000_000,
        "walking": "",
    }
    names = ["wrestling", "jumping", "sitting", "walking", "waving"]
    with caplog.at_level(logging.WARNING, "maxi"):
        found = texts(expand(names, "openai:small", context=context(server)))
    assert found["jumping"] == ("leaping up",)
    assert found["wrestling"] == found["sitting"] == found["walking"] == ()
    assert len(found["waving"]) == 5
    assert "1 of 5 replies refused (wrestling)" in caplog.text
    assert "2 of 5 replies without usable phrases (sitting, walking)" in caplog.text


def body(**message: Any) -> bytes:
    return json.dumps({"choices": [{"message": message}]}).encode()


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"", "an empty body"),
        (b"pong", "not JSON"),
        (b"[]", "JSON of another kind"),
        (b'"yes"', "JSON of another kind"),
        (b"null", "JSON of another kind"),
        (b"{}", "JSON without `choices`"),
        (b'{"choices": {"0": 1}}', "JSON without `choices`"),
        (b'{"choices": [7]}', "a choice without `message`"),
        (b'{"choices": [{"text": "hm"}]}', "a choice without `message`"),
        (body(content={"a": 1}), "`content` is no text"),
        (b'{"error": {"message": "no such model"}, "choices": []}', "an error: no such model"),
        (b'{"error": "overloaded"}', "an error: overloaded"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_chat_answer_is_told_and_not_kept(
    server: Server, tmp_path: Path, sent: bytes, why: str
) -> None:
    server.script = [Raw(sent)]
    asked = context(server, parallel=1)
    with pytest.raises(MaxiError, match=r"no chat answer \(.+\); check --base-url") as caught:
        expand(["waving", "bowing"], "openai:small", context=asked)
    assert why in str(caught.value)
    assert list((tmp_path / "cache").rglob("*.json")) == []
    assert len(expand(["waving"], "openai:small", context=asked)[0].texts) == 5


@pytest.mark.parametrize(
    "sent",
    [
        b'{"choices": []}',
        body(content=None),
        body(content="", refusal="no"),
        body(),
        body(content=[]),
        body(content=" \n"),
        body(content="x" * 30_000),
        b" " * (2**20 + 1),
    ],
)
def test_an_empty_reply_is_not_kept_and_nothing_but_them_fails(
    server: Server, tmp_path: Path, sent: bytes
) -> None:
    server.per_question = {"bowing": Raw(sent)}
    asked = context(server)
    assert texts(expand(["waving", "bowing"], "openai:small", context=asked))["bowing"] == ()
    assert asked.unanswered == ["bowing"]
    with pytest.raises(MaxiError, match=r"all replies \(1\) were empty"):
        expand(["bowing"], "openai:small", context=context(server))
    server.per_question = {}
    assert len(expand(["bowing"], "openai:small", context=context(server))[0].texts) == 5


def test_a_cut_off_reply_is_used_and_not_kept(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for content in ('{"phrases": ["raising an arm", "mo', "1. raising an arm\n2. mo"):
        cut = {"finish_reason": "length", "message": {"content": content}}
        server.script = [Raw(json.dumps({"choices": [cut]}).encode())]
        rows = expand(["waving"], "openai:small", context=context(server))
        assert rows[0].texts == ("raising an arm",)
        assert "a reply was cut off" in caplog.text
    assert len(expand(["waving"], "openai:small", context=context(server))[0].texts) == 5


def test_content_may_come_in_parts_and_compressed(server: Server) -> None:
    parts = [{"type": "text", "text": GOOD[:20]}, {"type": "text", "text": GOOD[20:]}, 7]
    server.script = [Raw(gzip.compress(body(content=parts)), "gzip")]
    assert len(expand(["waving"], "openai:small", context=context(server))[0].texts) == 5


@pytest.mark.parametrize("sent", ["ENDLESS", Raw(gzip.compress(b" " * 10**8), "gzip")])
def test_an_endless_reply_is_none(server: Server, sent: Any) -> None:
    server.per_question = {"bowing": sent}
    asked = context(server, timeout=600.0, retries=0)
    assert texts(expand(["waving", "bowing"], "openai:small", context=asked))["bowing"] == ()


def test_a_reply_that_drips_is_late(server: Server) -> None:
    server.per_question = {"bowing": "SLOW"}
    with pytest.raises(MaxiError, match=r"raise chat\.timeout"):
        expand(["bowing"], "openai:small", context=context(server, timeout=1.0, retries=0))


def test_equal_questions_are_asked_once(server: Server) -> None:
    names = ["waving", "bowing", "waving", "bowing"]
    script = (
        "import sys\n"
        "from maxi.config import ChatConfig\n"
        "from maxi.method.expansion import question\n"
        "from maxi.text.chat import Chat\n"
        "chat = Chat('small', ChatConfig(base_url=sys.argv[1]))\n"
        "list(chat.ask_all([question(name, 5) for name in sys.argv[2:]]))\n"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", script, server.url, *names]) for _ in range(2)
    ]
    chats = [Chat("small", ChatConfig(base_url=server.url)) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(chats[i % 2].ask, question(names[i % 4], 5)) for i in range(32)]
    assert {job.result() for job in jobs} == {GOOD}
    assert [process.wait() for process in others] == [0, 0]
    assert len(server.asked) == 2


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_ends_it_though_the_server_never_answers(
    server: Server, videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    server.hangs_after = 0
    line = [sys.executable, "-m", "maxi", "-q", "adapt", str(videos), "--actions", str(actions)]
    line += ["-o", str(tmp_path / "run"), "--backbone", f"clip:{tiny_clip}"]
    line += ["--base-url", server.url, "--expander", "openai:small", "-s", "chat.timeout=80000"]
    process = subprocess.Popen(line, stderr=subprocess.PIPE)
    while not server.asked and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=600) != 0
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()


def test_a_password_is_used_and_written_nowhere(server: Server, tmp_path: Path) -> None:
    address = server.url.replace("http://", "http://me:hush@")
    config = load_config(None, [f"chat.base_url={address}?token=hush"])
    assert "hush" not in dump_config(config)
    assert "hush" not in json.dumps(config.chat.decisive())
    assert config.chat.server == f"{address}?token=hush"
    asked = ExpandContext(chat=ChatConfig(base_url=address))
    assert expand(["waving"], "openai:small", context=asked)
    expand(["waving"], "openai:small", context=context(server))
    assert len(server.asked) == 1  # the same server
    server.script = [Raw(json.dumps({"error": f"what is {address}?"}).encode())]
    with pytest.raises(MaxiError, match="what is") as caught:
        expand(["bowing"], "openai:small", context=asked)
    assert "hush" not in str(caught.value)
    with pytest.raises(MaxiError, match="must be an address such as"):
        load_config(None, ["chat.base_url=localhost:80"])


def test_the_address_of_the_environment_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = ChatConfig().decisive()
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert ChatConfig().decisive() != before
    assert expand(["waving"], "openai:small", context=ExpandContext())
    assert f"asks {server.url}, which OPENAI_BASE_URL names" in caplog.text
    expand(["waving"], "openai:small", context=context(server))
    assert len(server.asked) == 1


def test_gaps_are_filled_by_the_next_source(server: Server) -> None:
    server.script = ["I cannot do that."]
    rows = expand(["running"], "openai:small+shipped", context=context(server))
    assert [(row.source, len(row.texts)) for row in rows] == [("shipped", 5)]


def test_a_plan_costs_nothing_and_limits_stop_in_time(server: Server) -> None:
    names = ["waving", "bowing", "diving"]
    asked = context(server, prices=(1.0, 2.0), parallel=1)
    ((source, cost),) = expansion_costs(names, "openai:small+shipped", asked)
    assert source == "openai:small"
    assert (cost.calls, cost.kept, server.asked) == (3, 0, [])
    assert cost.dollars == pytest.approx((cost.tokens_in + 2 * cost.tokens_out) / 1e6)
    assert "3 calls" in tell(cost)
    limited = context(server, max_calls=2, parallel=1)
    with pytest.raises(MaxiError, match="stopped after 2 calls"):
        expand(names, "openai:small", context=limited)
    assert len(server.asked) == 2
    ((_, cost),) = expansion_costs(names, "openai:small", limited)
    assert (cost.calls, cost.kept, cost.dollars) == (1, 2, None)
    assert "price unknown" in tell(cost)
    dear = context(server, prices=(1.0, 2000.0), max_cost=0.7, parallel=1)
    with pytest.raises(MaxiError, match=r"could pass chat\.max_cost"):
        expand(["rowing", "skating"], "openai:small", context=dear)
    assert len(server.asked) == 3  # at most 0.60 dollars for the first; it did cost 0.12
    with pytest.raises(MaxiError, match="max_cost needs prices"):
        load_config(None, ("max_cost=1",))


def test_a_key_is_needed_and_a_server_of_ones_own_needs_none(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY)
    assert expand(["waving"], "openai:small", context=context(server))
    with pytest.raises(MaxiError, match=f"environment variable {KEY}"):
        Chat("small", ChatConfig()).ask(question("waving", 5))
    with pytest.raises(MaxiError, match="write openai:MODEL"):
        expand(["waving"], "openai")


@pytest.mark.parametrize(
    ("reply", "phrases"),
    [
        (GOOD, 5),
        ('```json\n["raising an arm", "moving it"]\n```', 2),
        (
            "Sure! Here are 5 phrases:\n1. raising an arm\n2) moving it\n- greeting\n\nI hope this helps!",
            3,
        ),
        ('{"phrases": ["raising an arm", "moving the ha', 1),
        ("raising a hand, moving it, greeting people", 3),
        ('{"answer": [{"text": "lifting a leg"}]}', 1),
        ("[" * 100_000, 0),
        ('{"phrases": []}', 0),
        ("1. waving\n2. Waving.\n3. “waving”", 1),
        ("\u202ewaving\u202c", 0),
        ("Sure [as asked]:\n1. raising an arm\n2. moving it", 2),
        ('[Note] {here} it is: ["raising an arm", "moving it"]', 2),
        ("[1] raising an arm\n[2] moving it\n[3] greeting", 3),
        ("1. raising an arm\n2. moving it [slowly]\n3. greeting", 2),
        ('Sure [yes]: {"phrases": ["raising an arm", "moving the ha', 1),
    ],
)
def test_phrases_are_found_in_any_form(reply: str, phrases: int) -> None:
    assert len(parse(reply, 5).phrases) == phrases


def test_sentences_about_pictures() -> None:
    assert sentence("Sure, here it is:\n\n“A man waves.”") == "A man waves."
    assert sentence("I'm sorry, I can't identify people.") == ""


def test_a_vision_model_is_asked_about_each_picture(server: Server) -> None:
    frame = np.zeros((700, 900, 3), np.uint8)
    (message,) = picture(frame).messages
    assert message["content"][1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    n_in, n_out = tokens_of(picture(frame))
    cost = captioning_cost("openai:eyes", 16, ChatConfig(prices=(1.0, 1.0)))
    assert cost is not None
    assert cost.calls == 16
    assert cost.dollars == pytest.approx(16 * (n_in + n_out) / 1e6)
    assert captioning_cost("blip", 16, ChatConfig()) is None


@pytest.mark.slow
def test_adapt_through_a_server_that_fails_midway_goes_on_where_it_was(
    server: Server, videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    server.per_question = {"image_url": "A man is riding a horse."}
    out = tmp_path / "run"
    sizes = "match.n_frames=2 caption.n_frames=2 train.n_frames=2 eval.n_frames=2 epochs=1 batch_size=4 workers=2"
    line = ["adapt", str(videos), "--actions", str(actions), "-o", str(out)]
    line += ["--backbone", f"clip:{tiny_clip}", "--base-url", server.url]
    line += ["--expander", "openai:small", "--captioner", "openai:eyes", "-s", "chat.retries=0"]
    for setting in sizes.split():
        line += ["-s", setting]
    stopped = CliRunner().invoke(main, ["-q", *line, "-s", "chat.max_calls=7"])
    assert stopped.exit_code == 1
    assert "stopped after 7 calls" in stopped.stderr
    n = len(server.asked)
    told = CliRunner().invoke(main, ["caption", str(out), "--dry-run"])
    assert told.exit_code == 0
    assert "openai:eyes: 16 calls" in told.stdout
    assert len(server.asked) == n
    done = CliRunner().invoke(main, ["-q", *line, "-s", "chat.max_calls=99", "--resume"])
    assert done.exit_code == 0, done.stderr
    pictures = [body for body in server.asked if "image_url" in str(body)]
    assert len(pictures) == len({str(body) for body in pictures})  # none was asked twice
    assert len(server.asked) - len(pictures) == 3
    rows = read_jsonl(out / "captions.jsonl", Caption)
    assert {c for row in rows for c in row.captions} == {"a man is riding a horse"}
    assert SECRET not in "".join(p.read_text() for p in out.rglob("*.json*"))
    assert (out / "report.html").is_file()


@pytest.mark.slow
def test_adapt_on_real_clips_killed_midway_asks_nothing_twice(
    server: Server, shared: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    server.per_question = {"image_url": "A man is lifting a weight."}
    clips = sorted((shared / "videos").rglob("*.mp4"))[::40][:5]
    (tmp_path / "clips.txt").write_text("\n".join(map(str, clips)))
    (tmp_path / "actions.txt").write_text("lifting weights\nplaying guitar\n")
    out = tmp_path / "run"
    line = [sys.executable, "-m", "maxi", "-q", "adapt", str(tmp_path / "clips.txt")]
    line += ["--actions", str(tmp_path / "actions.txt"), "-o", str(out), "--resume"]
    line += ["--backbone", f"clip:{tiny_clip}", "--base-url", server.url]
    line += ["--expander", "openai:small", "--captioner", "openai:eyes"]
    sizes = "match.n_frames=2 train.n_frames=2 eval.n_frames=2 epochs=1 batch_size=4 workers=2"
    for setting in [*sizes.split(), "chat.parallel=1", "chat.timeout=600"]:
        line += ["-s", setting]
    server.hangs_after = (
        11  # the twelfth question is under way when it dies, however fast the machine
    )
    process = subprocess.Popen(line, stderr=subprocess.PIPE)
    while len(server.asked) < 12 and process.poll() is None:  # 2 names, 40 frames
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert len(server.asked) == 12, process.stderr and process.stderr.read()
    server.hangs_after = math.inf
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    asked = Counter(str(body["messages"]) for body in server.asked)
    # Only the call under way when it died may have been asked again.
    assert sum(n - 1 for n in asked.values()) <= 1
    assert len(read_jsonl(out / "captions.jsonl", Caption)) == len(clips)
    assert (out / "report.html").is_file()


def test_no_question_is_begun_after_one_has_failed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call is paid, also those that begin before the reader learns of the failure."""
    told = Future.result

    def late(future: Future[Any], timeout: float | None = None) -> Any:
        try:
            return told(future, timeout)
        finally:
            time.sleep(0.3)  # as on a busy machine

    monkeypatch.setattr(Future, "result", late)
    server.per_question = {"waving": 503}
    with pytest.raises(MaxiError):
        expand(["waving", "bowing", "diving"], "openai:small", context=context(server, parallel=1))
    assert not [row for row in server.asked if "bowing" in str(row) or "diving" in str(row)]
