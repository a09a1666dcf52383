"""The rendered world: a pure function of seed, split and index; unseen actions are new combinations of seen states."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from maxi.demo.trial import names_action
from maxi.method.expansion import expand
from maxi.miniature import captions
from maxi.miniature.actions import ACTIONS, BY_NAME, VALIDATION, Pose, partition
from maxi.miniature.regimes import REGIMES
from maxi.miniature.scenes import Scene, draw_scene, draw_still, frames
from maxi.miniature.tokens import word_tokenizer
from maxi.miniature.videos import SIZES, Order, draw_clip, pictures, render, write_clip
from maxi.progress import silent
from maxi.randomness import generator
from maxi.video.decode import probe


@pytest.fixture(scope="module")
def stills() -> list[tuple[Scene, Pose]]:
    return [draw_still("test", 0, index) for index in range(2000)]


def test_48_actions_that_their_poses_tell_apart() -> None:
    assert len({action.name for action in ACTIONS}) == 48
    assert len({frozenset(action.poses) for action in ACTIONS}) == 48


@pytest.mark.parametrize("seed", range(20))
def test_states_of_unseen_actions_are_each_in_two_known_ones(seed: int) -> None:
    known, unseen = partition(seed)
    assert (len(known), len(unseen)) == (24, 16)
    assert not set(known) & set(unseen)
    assert not {action.name for action in VALIDATION} & {*known, *unseen}
    for name in [*unseen, *(action.name for action in VALIDATION)]:
        for state in BY_NAME[name].states():
            assert sum(state in BY_NAME[k].states() for k in known) >= 2
    assert partition(seed) == (known, unseen)


def test_partitions_rotate() -> None:
    assert len({tuple(partition(seed)[1]) for seed in range(5)}) == 5


def test_object_and_place_do_not_depend_on_the_action() -> None:
    one, two = (draw_scene(generator("test", 0), name) for name in ("kicking", "praying"))
    assert one._replace(action="") == two._replace(action="")


def test_a_clip_is_a_function_of_its_arguments(tmp_path: Path) -> None:
    clip = draw_clip(3, "pool", 7, "kicking")
    assert clip == draw_clip(3, "pool", 7, "kicking")
    assert clip != draw_clip(3, "pool", 8, "kicking")
    assert clip != draw_clip(4, "pool", 7, "kicking")
    for name in ("one.mp4", "two.mp4"):
        write_clip(tmp_path / name, clip)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_without_the_shift_the_same_person_does_the_same() -> None:
    one = draw_clip(0, "unseen", 1, "rowing")
    two = draw_clip(0, "unseen", 1, "rowing", style="plain")
    assert one.scene._replace(shift=two.scene.shift) == two.scene
    assert (one.size, one.fps, one.n_frames) == (two.size, two.fps, two.n_frames)


@pytest.mark.parametrize("action", [action.name for action in ACTIONS])
def test_every_action_draws(action: str) -> None:
    scene = draw_scene(generator("test", 1, 0, action), action)
    first, second = frames(scene, SIZES[0], np.array([0.0, 0.7]))
    assert first.shape == (120, 160, 3)
    assert first.dtype == np.uint8
    assert (first != second).any()


def test_rendered_videos_are_real_and_go_on_after_a_break(tmp_path: Path) -> None:
    orders = [Order("pool", ["rowing", "digging"], 5), Order("pool.plain", ["rowing"], 1, "plain")]
    render(tmp_path, 0, orders, progress=silent)
    files = sorted((tmp_path / "pool").iterdir())
    assert [file.name for file in files] == [f"000{k}.mp4" for k in range(5)]
    assert (tmp_path / "pool.csv").read_text().splitlines()[:3] == [
        "path,label",
        "pool/0000.mp4,rowing",
        "pool/0001.mp4,digging",
    ]
    clip = draw_clip(0, "pool", 2, "rowing")
    found = probe(files[2])
    assert (found.width, found.height, found.n_frames) == (*clip.size, clip.n_frames)
    before = [file.read_bytes() for file in files]
    files[1].unlink()
    render(tmp_path, 0, orders, progress=silent)
    assert [file.read_bytes() for file in files] == before


def test_the_captioner_never_reads_the_name_of_an_action(stills: list[tuple[Scene, Pose]]) -> None:
    names = [action.name for action in ACTIONS]
    for index, (scene, pose) in enumerate(stills[:480]):
        text = captions.blip_caption(scene, pose, generator("test", 0, 0, str(index)))
        assert not any(name in text for name in names)


def test_captions_name_the_action_about_one_time_in_ten(stills: list[tuple[Scene, Pose]]) -> None:
    told = []
    for index, (scene, pose) in enumerate(stills):
        rng = generator("test", 0, 0, str(index))
        told.append(scene.action in captions.clip_caption(scene, pose, rng, verb_rate=0.1))
    assert np.mean(told) == pytest.approx(0.1, abs=0.02)


def test_phrases_are_in_words_of_the_captions_and_hold_no_name() -> None:
    names = [action.name for action in ACTIONS]
    rows = expand(names, "miniature")
    assert [(row.name, len(row.texts)) for row in rows] == [(name, 5) for name in names]
    words = [word for row in rows for text in row.texts for word in text.split()]
    assert np.mean([word in captions.words() for word in words]) >= 0.95
    assert not any(names_action(text, names) for row in rows for text in row.texts)


def test_a_name_or_its_verb_is_noticed_in_a_bag() -> None:
    assert names_action("boxing with a bag", ["boxing"])
    assert names_action("box high", ["boxing"])
    assert not names_action("hold the head", ["heading"])


def test_words_are_one_token_each_and_others_are_readable() -> None:
    tokenizer = word_tokenizer(captions.words())
    for word in captions.words():
        assert len(tokenizer.tokenize(word)) == 1
    ids = tokenizer("xyz")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "xyz"


def test_captions_fit_the_context(stills: list[tuple[Scene, Pose]]) -> None:
    texts = []
    for index, (scene, pose) in enumerate(stills):
        rng = generator("test", 0, 0, str(index))
        texts.append(captions.clip_caption(scene, pose, rng, verb_rate=0.1))
        texts.append(captions.blip_caption(scene, pose, rng))
    ids = word_tokenizer(captions.words())(texts)["input_ids"]
    assert max(map(len, ids)) <= captions.CONTEXT


@pytest.mark.parametrize("name", REGIMES)
def test_regimes_have_their_shares(name: str) -> None:
    listed = [action.name for action in ACTIONS[8:32]]
    others = [action.name for action in VALIDATION]
    shown = REGIMES[name].drawn(listed, 200, others, 3)
    assert shown == REGIMES[name].drawn(list(reversed(listed)), 200, others, 3)
    assert len(shown) == 200
    counts = Counter(shown)
    off_list = sum(counts[other] for other in others)
    occurring = sorted((counts[one] for one in listed if counts[one]), reverse=True)
    expected = {"a third occurs": 8, "a sixth occurs": 4}.get(name, 24)
    assert len(occurring) == expected
    assert off_list == (67 if name == "off-list" else 0)
    if name == "long tail":
        assert occurring[:2] == [53, 26]  # 1 / rank of 200
    else:
        assert occurring[0] - occurring[-1] <= (5 if name == "look-alikes" else 1)


def test_cuts_of_a_recording_look_alike() -> None:
    clips = [draw_clip(0, "pool", index, "rowing", cuts=5) for index in range(6)]
    same = [clip.scene._replace(phase=0.0) for clip in clips]
    assert len({scene.seed for scene in same[:5]}) == 1
    assert same[0] == same[4] != same[5]
    assert len({clip.scene.phase for clip in clips}) == 6


def test_styles_change_what_is_seen(tmp_path: Path) -> None:
    usual = draw_clip(0, "unseen", 1, "rowing")
    far = draw_clip(0, "unseen", 1, "rowing", style="far")
    assert far.scene == usual.scene._replace(scale=far.scene.scale)
    assert far.scene.scale < usual.scene.scale
    drawn = next(pictures(draw_clip(0, "unseen", 1, "rowing", style="drawing"), (64, 48)))
    assert (drawn[..., 0] == drawn[..., 1]).all()
    order = Order("unseen", ["rowing", "digging", "diving"], 6, "two actions")
    shown = [order.shown(index) for index in range(6)]
    assert shown[:3] == ["rowing + digging", "digging + diving", "diving + rowing"]
    assert shown[3] == "rowing + diving"
    render(tmp_path, 0, [order._replace(n=1)], progress=silent)
    clip = draw_clip(0, "unseen", 0, shown[0], style="two actions")
    assert probe(tmp_path / "unseen" / "0000.mp4").n_frames == clip.n_frames
    one, two = (clip._replace(scene=clip.scene._replace(action=a)) for a in ("rowing", "digging"))
    frames_of = [list(pictures(c, (64, 48))) for c in (clip, one, two)]
    half = len(frames_of[0]) // 3
    assert (frames_of[0][half] == frames_of[1][half]).all()
    assert not (frames_of[0][-1] == frames_of[1][-1]).all()
