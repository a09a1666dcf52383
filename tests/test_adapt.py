"""The whole job on tiny videos and a tiny random CLIP: through the same code that serves 240,000 videos."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from maxi.config import Config
from maxi.errors import MaxiError
from maxi.models.text_embeddings import embed_names_with_phrases, embed_texts
from maxi.models.video_clip import load_model
from maxi.progress import Shown, silent
from maxi.records import Bag, Match, Video, read_jsonl, write_jsonl
from maxi.run import Run, is_current, meta_path, write_signed
from maxi.settings import load_config
from maxi.stages import evaluate
from maxi.stages.adapt import adapt
from maxi.stages.bag import bag_run
from maxi.stages.caption import caption_run
from maxi.stages.classify import classify_videos
from maxi.stages.embedding import embed, embed_by, members_of
from maxi.stages.evaluate import evaluate_run
from maxi.stages.expand import expand_run
from maxi.stages.index import index_run, read_videos, start_run
from maxi.stages.job import open_job
from maxi.stages.match import match_run
from maxi.stages.report import report_run, summary_of, verify_run
from maxi.stages.train import train_run

SETTINGS = [
    "match.n_frames=2",
    "caption.n_frames=2",
    "train.n_frames=2",
    "eval.n_frames=2",
    "n_bag=4",
    "batch_size=4",
    "epochs=2",
    "lr=1e-3",
    "workers=1",
]


def settings(clip: Path, *more: str) -> Config:
    return load_config(None, [*SETTINGS, *more], backbone=f"clip:{clip}")


def run_adapt(videos: Path | str, actions: Path, out: Path, config: Config, **options: Any) -> Run:
    return adapt(str(videos), actions, out, config, **{"progress": silent, **options})


@pytest.fixture(scope="module")
def finished(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A run with labelled videos and the shuffled control."""
    out = tmp_path_factory.mktemp("runs") / "mine"
    return run_adapt(videos, actions, out, settings(tiny_clip), labelled=str(videos), control=True)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.model / "model.safetensors")


def same_weights(a: Run, b: Run) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_every_stage_leaves_its_file(finished: Run) -> None:
    for path in (
        finished.config,
        finished.manifest,
        finished.skipped,
        finished.matches,
        finished.phrases,
        finished.captions,
        finished.bags,
        finished.training,
        finished.predictions,
        finished.results,
        finished.report,
        finished.folder / "train.jsonl",
        finished.control.model / "model.safetensors",
        finished.eval.predictions,
    ):
        assert path.is_file(), path
    assert len(read_jsonl(finished.manifest, Video)) == 8
    matches = read_jsonl(finished.matches, Match)
    assert len(matches) == 8
    assert sum(m.kept for m in matches) == 7  # round(0.9 * 8)
    assert {b.video for b in read_jsonl(finished.bags, Bag)} == {m.video for m in matches if m.kept}


def test_the_adapted_model_is_a_hugging_face_clip(finished: Run, tiny_clip: Path) -> None:
    from transformers import CLIPModel

    adapted = CLIPModel.from_pretrained(finished.model)
    frozen = CLIPModel.from_pretrained(tiny_clip)
    moved = [
        n
        for n, p in adapted.named_parameters()
        if not torch.equal(p, dict(frozen.named_parameters())[n])
    ]
    assert any("vision" in n for n in moved)
    assert any("text" in n for n in moved)


def test_the_model_has_a_card(finished: Run) -> None:
    text = (finished.model / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["library_name"] == "transformers"
    assert "8 videos without labels" in text
    for part in ("riding a horse", "`a photo of {}.`", "| adapted |", "alpha: 0.8", "torch "):
        assert part in text


def test_results_compare_models_under_the_same_conditions(finished: Run) -> None:
    records = json.loads(finished.results.read_text())
    assert [r["model"] for r in records if r["split"] == "all"] == ["frozen", "adapted", "shuffled"]
    assert len({json.dumps(r["conditions"], sort_keys=True) for r in records}) == 1
    for record in records:
        assert record["n"] == 8
        assert record["top1_interval"][0] <= record["top1"] <= record["top1_interval"][1]
        assert record["majority"] == 50
        assert ("gain" in record) == (record["model"] != "frozen")


@pytest.mark.slow
def test_one_seed_two_runs_same_weights(
    finished: Run, videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    again = run_adapt(videos, actions, tmp_path / "again", settings(tiny_clip, "workers=2"))
    assert same_weights(finished, again)
    other = run_adapt(videos, actions, tmp_path / "other", settings(tiny_clip, "seed=1"))
    assert not same_weights(finished, other)


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param("flat", marks=pytest.mark.slow),
        pytest.param("renamed", marks=pytest.mark.slow),
        "csv with shuffled labels",
    ],
)
def test_names_and_labels_reach_neither_bags_nor_batches(
    layout: str, finished: Run, videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    root = tmp_path / "v"
    root.mkdir()
    where = str(root)
    files = sorted(videos.rglob("*.mp4"))
    if layout == "flat":
        for i, path in enumerate(files):
            shutil.copy(path, root / f"{9 - i}.mp4")
    elif layout == "renamed":
        for path in files:
            folder = root / f"zz {path.parent.name[::-1]}"
            folder.mkdir(exist_ok=True)
            shutil.copy(path, folder / path.name)
    else:
        rows = [f'"{path}",label {i % 3}' for i, path in enumerate(files[::-1])]
        (root / "list.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
        where = str(root / "list.csv")
    other = run_adapt(where, actions, tmp_path / "run", settings(tiny_clip))
    for name in ("matches.jsonl", "phrases.jsonl", "captions.jsonl", "bags.jsonl"):
        assert (other.folder / name).read_bytes() == (finished.folder / name).read_bytes(), name
    assert same_weights(finished, other)


class Interrupt:
    """Progress that presses Ctrl-C after `n` items of one stage."""

    def __init__(self, stage: str, n: int) -> None:
        self.stage, self.n = stage, n

    def __call__(self, items: Iterable[Any], total: int, label: str) -> Shown:
        return Shown(self._pressed(items, label))

    def _pressed(self, items: Iterable[Any], label: str) -> Iterator[Any]:
        for i, item in enumerate(items):
            if label == self.stage and i == self.n:
                raise KeyboardInterrupt
            yield item


@pytest.mark.parametrize("trainable", ["all", pytest.param("head", marks=pytest.mark.slow)])
def test_an_interrupted_run_goes_on_to_the_same_weights(
    trainable: str, videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    config = settings(tiny_clip, f"trainable={trainable}", "n_views=2", "checkpoint_seconds=0")
    whole = run_adapt(videos, actions, tmp_path / "whole", config)
    out = tmp_path / "broken"
    stages = [
        "index",
        "embed",
        "caption",
        "bag",
        *(["augmented views"] if trainable == "head" else []),
        "train",
    ]
    for stage in stages:
        with pytest.raises(KeyboardInterrupt):
            run_adapt(videos, actions, out, config, progress=Interrupt(stage, 2), resume=True)
    resumed = run_adapt(videos, actions, out, config, resume=True)
    for name in ("matches.jsonl", "captions.jsonl", "bags.jsonl", "predictions.jsonl"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert same_weights(whole, resumed)
    assert not list(out.glob("*.journal"))


def test_a_finished_run_is_not_done_again(
    finished: Run, videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    with pytest.raises(MaxiError, match="already holds a run; add --resume"):
        run_adapt(videos, actions, folder, settings(tiny_clip))
    seen: list[tuple[str, int]] = []

    def watch(items: Iterable[Any], total: int, label: str) -> Shown:
        seen.append((label, total))
        return Shown(items)

    run_adapt(
        videos,
        actions,
        folder,
        settings(tiny_clip),
        resume=True,
        labelled=str(videos),
        control=True,
        progress=watch,
    )
    assert seen == []


def test_a_bag_file_edited_by_hand_is_trained_from(
    finished: Run, videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "copy")
    shutil.copytree(finished.folder, run.folder)
    bags = read_jsonl(run.bags, Bag)
    write_jsonl(run.bags, [Bag(bags[0].video, "high jump", bags[0].texts[:1]), *bags[1:]])
    again = run_adapt(videos, actions, run.folder, settings(tiny_clip), resume=True)
    assert read_jsonl(again.bags, Bag)[0].name == "high jump"
    assert not same_weights(finished, again)
    with pytest.raises(MaxiError, match=r"bags.jsonl was edited by hand, but settings changed"):
        run_adapt(
            videos, actions, run.folder, settings(tiny_clip, "caption_parts=verbs"), resume=True
        )
    write_jsonl(run.bags, [Bag("nobody", "high jump"), *bags])
    with pytest.raises(MaxiError, match=r"bags.jsonl:1: video 'nobody' is not in manifest"):
        run_adapt(videos, actions, run.folder, settings(tiny_clip), resume=True)


def test_a_captioner_that_says_little_is_told_of(
    finished: Run, tiny_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path / "copy")
    shutil.copytree(finished.folder, run.folder)
    (tmp_path / "captions.jsonl").write_text("")
    config = settings(tiny_clip, f"captioner=file:{tmp_path / 'captions.jsonl'}")
    with open_job(run.folder, config, silent) as job:
        caption_run(job)
    assert "said nothing of 8 of 8 videos" in caplog.text


@pytest.mark.parametrize("names", ["prompt", "templates", "phrases"])
def test_what_stands_for_a_name_at_test(
    names: str, finished: Run, tiny_clip: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "copy")
    shutil.copytree(finished.folder, run.folder)
    before = run.eval.predictions.read_text()
    with open_job(run.folder, settings(tiny_clip, f"eval.name_texts={names}"), silent) as job:
        records = evaluate.evaluate_run(job)
    assert {r["conditions"]["name_texts"] for r in records} == {names}
    assert (run.eval.predictions.read_text() == before) == (names == "prompt")


def test_figures_of_an_earlier_training_are_not_reported(
    finished: Run, tiny_clip: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "copy")
    shutil.copytree(finished.folder, run.folder)
    with open_job(run.folder, settings(tiny_clip, "lr=1e-4"), silent) as job:
        train_run(job)
        for stale in (report_run, lambda job: verify_run(job, 10)):
            with pytest.raises(MaxiError, match=r"before training.json changed; rerun `maxi eval`"):
                stale(job)
        evaluate_run(job)
        report_run(job)


def test_phrases_are_half_of_a_name(tiny_clip: Path) -> None:
    model = load_model(f"clip:{tiny_clip}")
    names, phrases = ["horse", "guitar"], {"horse": ["riding", "person"]}
    found = embed_names_with_phrases(model, names, phrases, "a {}")
    z = embed_texts(model, ["a horse", "a guitar", "a riding", "a person"])
    horse = z[0] + (z[2] + z[3]) / 2
    torch.testing.assert_close(torch.from_numpy(found), torch.stack([horse / horse.norm(), z[1]]))


def test_few_shots_of_labelled_videos(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    config = load_config(
        Path("few_shot"),
        [*SETTINGS, "shots=2", "warmup_epochs=0"],
        backbone=f"clip:{tiny_clip}",
    )
    run = run_adapt(videos, actions, tmp_path / "run", config, labelled=str(videos))
    matches = read_jsonl(run.matches, Match)
    labels = {v.id: v.label for v in read_jsonl(run.manifest, Video)}
    assert all(m.name == labels[m.video] for m in matches)
    kept = [m.name for m in matches if m.kept]
    assert sorted(kept) == sorted([*set(labels.values())] * 2)
    assert {b.video for b in read_jsonl(run.bags, Bag)} == {m.video for m in matches if m.kept}
    assert len((run.folder / "train.jsonl").read_text().splitlines()) == 2
    with pytest.raises(MaxiError, match="has 4 videos, fewer than 5 shots"):
        run_adapt(
            videos,
            actions,
            tmp_path / "more",
            load_config(
                None, [*SETTINGS, "supervised=true", "shots=5"], backbone=f"clip:{tiny_clip}"
            ),
        )


def test_texts_stay_where_a_second_model_agrees(
    finished: Run, tiny_clip: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "copy")
    shutil.copytree(finished.folder, run.folder)

    def bags(*more: str) -> list[Bag]:
        with open_job(run.folder, settings(tiny_clip, *more), silent) as job:
            return bag_run(job)

    whole = bags()
    agreed = bags(f"bag.agree={finished.model}")
    assert [b.video for b in agreed] == [b.video for b in whole]
    sizes = [sum(len(b.texts) for b in found) for found in (agreed, whole)]
    assert 0 < sizes[0] < sizes[1]
    assert bags() == whole
    with pytest.raises(MaxiError, match="no such folder"):
        bags("bag.agree=no/such")


def test_without_labels_no_gain_is_claimed(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    run = run_adapt(videos, actions, tmp_path / "run", settings(tiny_clip, "epochs=1"))
    assert not run.results.exists()
    lines = list(summary_of(run))
    assert "no gain is claimed" in lines[0]
    assert "maxi open" in lines[1]


def test_a_video_that_vanishes_midway_costs_only_itself(
    videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    root = tmp_path / "v"
    shutil.copytree(videos, root)
    config = settings(tiny_clip, "epochs=1", "keep=1.0")
    with open_job(tmp_path / "run", config, silent) as job:
        start_run(job, ["playing guitar", "riding a horse", "high jump"])
        index_run(job, str(root))
        (root / "playing guitar" / "clip 0.mp4").unlink()
        expand_run(job)
        assert len(match_run(job)) == 7
        caption_run(job)
        bag_run(job)
        train_run(job)
        evaluate_run(job)
    assert job.run.model.is_dir()


def test_models_are_compared_on_the_videos_that_both_could_read(
    videos: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    shutil.copytree(videos, tmp_path / "videos")
    found = read_videos(tmp_path / "videos")
    with open_job(tmp_path / "run", settings(tiny_clip), silent) as job:
        embed(job, job.model(), found, 2)  # of the first model all are stored
        Path(found[0].path).unlink()
        members = members_of(job, {"frozen": "", "other": f"clip:{tiny_clip}"})
        with torch.no_grad():
            for name in members["other"].model.backbone.visual_parameters():
                members["other"].model.backbone.get_parameter(name).mul_(1.5)
        kept, z_v = embed_by(job, members, found, 2, views=(1, 1), label="")
    assert kept == found[1:]
    assert [len(rows) for rows in z_v.values()] == [7, 7]
    assert not np.allclose(z_v["frozen"], z_v["other"])


def test_a_run_is_held_by_one_process_at_a_time(finished: Run, tiny_clip: Path) -> None:
    def open_again() -> None:
        with open_job(finished.folder, settings(tiny_clip), silent):
            pass

    first = open_job(finished.folder, settings(tiny_clip), silent)
    with first, pytest.raises(MaxiError, match="in use by another maxi"):
        open_again()
    open_again()


def test_a_file_of_the_users_is_neither_moved_nor_overwritten(
    finished: Run, videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "copy")
    shutil.copytree(finished.folder, run.folder)
    meta_path(run.bags).unlink()
    run.bags.write_text('{"video": "x", "name": "y"}\n')
    before = {path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()}
    with pytest.raises(MaxiError, match=r"bags.jsonl was not made by this run"):
        run_adapt(videos, actions, run.folder, settings(tiny_clip), resume=True)
    assert before == {p.name: p.read_bytes() for p in run.folder.iterdir() if p.is_file()}


@pytest.mark.parametrize("in_place", [False, True])
def test_a_kill_between_a_file_and_its_record_leaves_no_file_without_one(
    in_place: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "bags.jsonl"
    write_signed(table, [Bag("a", "old")], {"settings": "old"})
    replace, n_left = Path.replace, 1 + in_place

    def dies(self: Path, target: Path) -> Path:
        nonlocal n_left
        n_left -= self.suffix == ".new"
        if not n_left:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        write_signed(table, [Bag("a", "new")], {"settings": "new"})
    monkeypatch.undo()
    name = "new" if in_place else "old"
    assert read_jsonl(table, Bag) == [Bag("a", name)]
    assert is_current(table, {"settings": name})
    assert not is_current(table, {"settings": "other"})


def test_another_model_in_its_place_is_noticed(
    finished: Run, videos: Path, actions: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "copy")
    shutil.copytree(finished.folder, run.folder)
    shutil.copy(tiny_clip / "model.safetensors", run.model / "model.safetensors")
    run_adapt(videos, actions, run.folder, settings(tiny_clip), resume=True)
    assert same_weights(finished, run)


def test_classify(finished: Run, videos: Path, tiny_clip: Path) -> None:
    one = next(videos.rglob("*.mp4"))
    rows = list(classify_videos(str(one), str(finished.folder), progress=silent))
    assert len(rows) == 1
    assert not isinstance(rows[0], MaxiError)
    assert sorted(rows[0].names) == ["high jump", "playing guitar", "riding a horse"]
    assert sum(rows[0].scores) == pytest.approx(1, abs=1e-3)
    many = list(
        classify_videos(str(videos), str(finished.model), actions=finished.actions, progress=silent)
    )
    assert len(many) == 8
    windows = list(classify_videos(str(one), str(finished.folder), window=0.3, progress=silent))
    assert len(windows) > 1
    assert all(not isinstance(w, MaxiError) for w in windows)
    with pytest.raises(MaxiError, match="pass --actions"):
        list(classify_videos(str(one), f"clip:{tiny_clip}", progress=silent))
