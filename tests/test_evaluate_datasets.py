"""Evaluation on datasets: every split and naming from one decoding, and the figures of an independent script."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from maxi.cli import main
from maxi.datasets.files import ListFolder
from maxi.datasets.lists import read_items
from maxi.datasets.preset import Preset, Split
from maxi.datasets.presets import PRESETS
from maxi.datasets.published import PUBLISHED
from maxi.errors import MaxiError
from maxi.features.embedding import prepare
from maxi.features.store import FeatureStore
from maxi.method.evaluation import evaluate_several
from maxi.method.metrics import answers, average_precision, mean_average_precision
from maxi.models.video_clip import load_model
from maxi.progress import silent
from maxi.records import Video, read_jsonl
from maxi.reports.datasets import dataset_tables
from maxi.stages.adapt import adapt
from maxi.video.decode import centre_indices, clip_indices, decode_frames, probe
from maxi.video.transforms import eval_transform
from maxi.video.workers import Answer, Decoder, Request
from media import write_video
from test_adapt import settings

NAMES = ["RunFast", "jumping", "SitDown"]
OWN_SPLITS = [(0, "train"), (1, "train"), (2, "train"), (3, "a"), (4, "a"), (5, "b")]


def read(lists: ListFolder) -> list[Split]:
    splits = []
    for k in ("1", "2"):
        path = lists.require(f"list of split {k}", f"tiny{k}.txt")
        splits.append(Split(k, NAMES, read_items(path, 3), (path,)))
    return splits


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Six videos in two splits that share two of them."""
    counts = {"1": 4, "2": 4}
    monkeypatch.setitem(PRESETS, "tiny", Preset("tiny", "Tiny", 3, counts, "tiny1.txt", read))
    for split, members in (("1", (0, 1, 2, 3)), ("2", (2, 3, 4, 5))):
        rows = "".join(f"v{k}.avi {k % 3}\n" for k in members)
        (tmp_path / f"tiny{split}.txt").write_text(rows)
    for k in range(6):
        folder = tmp_path / "videos" / NAMES[k % 3]
        folder.mkdir(parents=True, exist_ok=True)
        write_video(folder / f"v{k}.mp4", 8 + k, seed=k)
    return tmp_path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    seen: list[Request] = []
    answers_of = Decoder.map

    def noted(
        decoder: Decoder, requests: Iterable[Request]
    ) -> Iterator[tuple[Request, Answer | MaxiError]]:
        for request, answer in answers_of(decoder, requests):
            seen.append(request)
            yield request, answer

    monkeypatch.setattr(Decoder, "map", noted)
    return seen


def line(tiny: Path, tiny_clip: Path, out: str = "out", *more: str) -> list[str]:
    words = ["-q", "eval", f"clip:{tiny_clip}", "--on", f"tiny:{tiny / 'videos'}"]
    words += ["--lists", str(tiny), "-o", str(tiny / out), "-s", "eval.n_frames=4"]
    return [*words, *more]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return rows


def test_every_split_and_naming_from_one_decoding(
    tiny: Path, tiny_clip: Path, decoded: list[Request]
) -> None:
    done = CliRunner().invoke(main, line(tiny, tiny_clip))
    assert done.exit_code == 0, done.stderr
    assert sum(request.wanted == "probe" for request in decoded) == 6
    assert sum(isinstance(request.wanted, tuple) for request in decoded) == 6
    rows = rows_of(tiny / "out")
    assert [(r["split"], r["names"]) for r in rows] == [
        *(("1", "as listed"), ("1", "in words"), ("2", "as listed"), ("2", "in words")),
        *(("mean of 2", "as listed"), ("mean of 2", "in words")),
    ]
    assert [r["n"] for r in rows] == [4, 4, 4, 4, 8, 8]
    first, mean = rows[0], rows[4]
    values = [r["top1"] for r in rows[:4] if r["names"] == "as listed"]
    assert mean["top1"] == pytest.approx(np.mean(values), abs=0.01)
    assert mean["top1_std"] == pytest.approx(np.std(values, ddof=1), abs=0.01)
    assert {
        "weights",
        "videos",
        "names",
        "prompt",
        "n_frames",
        "versions",
        "device",
        "date",
    } <= set(first["conditions"])
    # Once more: nothing is decoded, and no row is added; under other conditions, rows are.
    decoded.clear()
    assert CliRunner().invoke(main, line(tiny, tiny_clip)).exit_code == 0
    assert rows_of(tiny / "out") == rows
    other = line(tiny, tiny_clip, "out", "-s", "eval.prompt=a video of {}")
    assert CliRunner().invoke(main, other).exit_code == 0
    assert decoded == []
    assert len(rows_of(tiny / "out")) == 12
    assert rows_of(tiny / "out")[:6] == rows


def test_both_models_of_a_run_side_by_side(
    tiny: Path, tiny_clip: Path, decoded: list[Request]
) -> None:
    (tiny / "actions.txt").write_text("jump\nwaving\nclapping\n")
    config = settings(tiny_clip, "epochs=1", "eval.n_frames=4")
    run = adapt(str(tiny / "videos"), tiny / "actions.txt", tiny / "run", config, progress=silent)
    before = {
        path.relative_to(run.folder): path.read_bytes()
        for path in run.folder.rglob("*")
        if path.is_file() and path.suffix not in (".f32", ".ids")
    }
    words = ["-q", "eval", str(run.folder), "--on", f"tiny:{tiny / 'videos'}", "--lists", str(tiny)]
    decoded.clear()
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.stderr
    assert all((run.folder / path).read_bytes() == content for path, content in before.items())
    # What the run has embedded already is not decoded again.
    assert not any(isinstance(request.wanted, tuple) for request in decoded)
    rows = rows_of(run.folder / "datasets")
    of_split = [(r["part"], r["model"], r["n"]) for r in rows if r["split"] == "1"]
    # "jump" and "jumping" are one name; of the four videos one shows it.
    assert of_split[:6] == [
        *(("all", "frozen", 4), ("all", "adapted", 4)),
        *(("seen", "frozen", 1), ("seen", "adapted", 1)),
        *(("unseen", "frozen", 3), ("unseen", "adapted", 3)),
    ]
    for row in rows:
        is_split = not row["split"].startswith("mean")
        assert ("gain" in row) == (row["model"] == "adapted" and is_split)
    weights = {r["conditions"]["weights"] for r in rows}
    assert len(weights) == 2
    (tiny / "videos" / "SitDown" / "v2.mp4").unlink()
    assert CliRunner().invoke(main, [*words, "-o", str(tiny / "part")]).exit_code == 0
    missing = {r["part"]: r["missing"] for r in rows_of(tiny / "part") if r["split"] == "1"}
    assert missing == {"all": 1, "seen": 0, "unseen": 1}
    # The report shows the means over splits, apart from what the paper publishes.
    assert CliRunner().invoke(main, ["-q", "report", str(run.folder)]).exit_code == 0
    page = run.report.read_text(encoding="utf-8")
    assert "Names that are taken for others" in page
    assert '<h2 id="datasets">Datasets</h2>' in page
    assert "mean of 2" in page
    assert "6 distinct videos" in done.stdout


def test_texts_for_names_and_mixtures_of_weights_in_one_call(
    tiny: Path, tiny_clip: Path, decoded: list[Request]
) -> None:
    (tiny / "actions.txt").write_text("jump\nwaving\nclapping\n")
    config = settings(tiny_clip, "epochs=1", "eval.n_frames=4", "lr=1e-3")
    run = adapt(str(tiny / "videos"), tiny / "actions.txt", tiny / "run", config, progress=silent)
    words = ["-q", "eval", str(run.folder), "--on", f"tiny:{tiny / 'videos'}", "--lists", str(tiny)]
    decoded.clear()
    more = ["--texts", "prompt,templates,phrases", "--alphas", "0,0.5,1"]
    done = CliRunner().invoke(main, [*words, *more])
    assert done.exit_code == 0, done.stderr
    assert sum(isinstance(request.wanted, tuple) for request in decoded) == 6
    rows = rows_of(run.folder / "datasets")
    of_split = [r for r in rows if (r["split"], r["names"], r["part"]) == ("1", "as listed", "all")]
    models = ["frozen", "adapted", "alpha 0.0", "alpha 0.5", "alpha 1.0"]
    assert [(r["texts"], r["model"]) for r in of_split] == [
        (texts, model) for texts in ("prompt", "templates", "phrases") for model in models
    ]
    weights = {r["model"]: r["conditions"]["weights"] for r in of_split}
    assert weights["alpha 0.0"] == weights["frozen"]
    assert len(set(weights.values())) == 4
    assert of_split[3]["conditions"]["alpha"] == 0.5
    for wrong in (["--texts", "prompts"], ["--alphas", "2"]):
        assert CliRunner().invoke(main, [*words, *wrong]).exit_code == 2
    none = CliRunner().invoke(main, ["-q", "eval", str(run.folder), "--alphas", "0.5"])
    assert none.exit_code == 2


def test_what_is_taken_for_what(tiny: Path, tiny_clip: Path) -> None:
    assert CliRunner().invoke(main, line(tiny, tiny_clip)).exit_code == 0
    first = rows_of(tiny / "out")[0]
    lines = list(csv.DictReader((tiny / "out" / first["confusion"]).open()))
    assert sum(int(row["videos"]) for row in lines) == first["n"]
    right = sum(int(row["videos"]) for row in lines if row["label"] == row["answer"])
    assert 100 * right / first["n"] == first["top1"]
    wrong = [
        [r["label"], r["answer"], int(r["videos"])] for r in lines if r["label"] != r["answer"]
    ]
    assert first["confused"] == wrong


def test_answers_are_those_that_top_1_counts() -> None:
    scores = np.array([[0.5, 0.5, 0.1], [0.1, 0.2, 0.9], [0.3, 0.2, 0.1]], np.float32)
    assert answers(scores, np.array([0, 1, 0])).tolist() == [1, 2, 0]  # a tie is no right answer


def test_frames_are_resized_as_the_released_code_does(tiny: Path, tiny_clip: Path) -> None:
    done = CliRunner().invoke(main, line(tiny, tiny_clip, "out", "-s", "resize_to=40"))
    assert done.exit_code == 0, done.stderr
    row = rows_of(tiny / "out")[0]
    assert row["conditions"]["preprocessing"]["resize_to"] == 40
    small = CliRunner().invoke(main, line(tiny, tiny_clip, "small", "-s", "resize_to=8"))
    assert small.exit_code == 1
    assert "`resize_to` must not be below that" in small.stderr


def test_the_figures_of_an_independent_script(tiny: Path, tiny_clip: Path) -> None:
    assert CliRunner().invoke(main, line(tiny, tiny_clip)).exit_code == 0
    from PIL import Image
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    clip = CLIPModel.from_pretrained(tiny_clip).eval()
    processor = CLIPImageProcessor.from_pretrained(tiny_clip)
    tokenizer = AutoTokenizer.from_pretrained(tiny_clip)

    def features(output: Any) -> torch.Tensor:
        tensor: torch.Tensor = getattr(output, "pooler_output", output)
        return tensor

    with torch.no_grad():
        texts = [f"a photo of {name}." for name in NAMES]
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        z_l = torch.nn.functional.normalize(features(clip.get_text_features(**tokens)), dim=-1)
        right = []
        for k in (0, 1, 2, 3):
            path = tiny / "videos" / NAMES[k % 3] / f"v{k}.mp4"
            frames = decode_frames(path, centre_indices(probe(path).n_frames, 4))
            images = processor([Image.fromarray(f) for f in frames], return_tensors="pt")
            z_f = features(clip.get_image_features(**images))
            z_v = torch.nn.functional.normalize(z_f.mean(0), dim=-1)
            right.append(int((z_l @ z_v).argmax()) == k % 3)
    first = next(r for r in rows_of(tiny / "out") if (r["split"], r["names"]) == ("1", "as listed"))
    assert first["top1"] == 100 * sum(right) / 4


def test_several_views_count_by_their_mean(tiny: Path, tiny_clip: Path) -> None:
    more = ("-s", "eval.n_clips=2", "-s", "eval.n_crops=3")
    assert CliRunner().invoke(main, line(tiny, tiny_clip, "out", *more)).exit_code == 0
    assert rows_of(tiny / "out")[0]["conditions"]["views"] == "2 clips x 3 crops"
    model = load_model(f"clip:{tiny_clip}")
    path = tiny / "videos" / NAMES[0] / "v0.mp4"
    n_frames = probe(path).n_frames
    with torch.no_grad():
        z_v = torch.stack(
            [
                model.encode_video(prepare(model, decode_frames(path, clip), place)[None])[0]
                for clip in clip_indices(n_frames, 4, 2)
                for place in (0.0, 0.5, 1.0)
            ]
        )
    (manifest,) = (tiny / "out").glob("tiny-*/manifest.jsonl")
    (video,) = [v for v in read_jsonl(manifest, Video) if v.path == str(path)]
    (stored,) = (tiny / "out" / "features").glob("*.f32")
    store = FeatureStore(stored.parent, stored.stem)
    np.testing.assert_allclose(store.gather([video.id])[0], z_v.mean(0), atol=1e-5)
    store.close()
    # Under one view these are other features, and rows of their own.
    assert CliRunner().invoke(main, line(tiny, tiny_clip)).exit_code == 0
    assert len(list((tiny / "out" / "features").glob("*.f32"))) == 2
    assert len(rows_of(tiny / "out")) == 12


def test_clips_share_the_segments_and_not_the_frames() -> None:
    assert clip_indices(100, 4, 1) == [centre_indices(100, 4)]
    assert clip_indices(100, 2, 3) == [[8, 58], [25, 75], [41, 91]]


def test_crops_lie_along_the_longer_side() -> None:
    wide = torch.arange(40, dtype=torch.uint8).expand(1, 3, 20, 40)
    lefts = [int(eval_transform(wide, 20, place=p)[0, 0, 0, 0]) for p in (0.0, 0.5, 1.0)]
    assert lefts == [0, 10, 20]
    high = wide.transpose(-1, -2)
    assert [int(eval_transform(high, 20, place=p)[0, 0, 0, 0]) for p in (0.0, 1.0)] == [0, 20]


def test_what_is_missing_is_counted_in_the_row_and_told(tiny: Path, tiny_clip: Path) -> None:
    (tiny / "videos" / "SitDown" / "v2.mp4").unlink()
    (tiny / "videos" / "jumping" / "v4.mp4").write_text("broken")
    done = CliRunner().invoke(main, line(tiny, tiny_clip))
    assert done.exit_code == 0, done.stderr
    counts = {r["split"]: (r["n"], r["missing"]) for r in rows_of(tiny / "out")}
    assert counts == {"1": (3, 1), "2": (2, 2), "mean of 2": (5, 3)}
    assert "1 of 4 videos missing" in done.stdout
    assert "2 of 4 videos missing" in done.stdout


def test_several_labels_have_a_mean_average_precision(
    tiny: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = Preset("tiny", "Tiny", 3, {"1": 4, "2": 4}, "", read, several_labels=True)
    monkeypatch.setitem(PRESETS, "tiny", preset)
    (tiny / "tiny1.txt").write_text("v0.avi 0 1\nv1.avi 1 0 1\nv2.avi 2\nv3.avi 0\n")
    done = CliRunner().invoke(main, line(tiny, tiny_clip))
    assert done.exit_code == 0, done.stderr
    first = rows_of(tiny / "out")[0]
    assert 0 < first["map_cosine"] <= 100
    assert {"map_softmax", "softmax_scale", "names_that_occur"} <= set(first)
    assert "mAP" in done.stdout


def test_average_precision_by_hand() -> None:
    truth = np.array([True, False, True, False])
    assert average_precision(np.array([0.9, 0.8, 0.7, 0.1]), truth) == pytest.approx(
        (1 + 2 / 3) / 2
    )
    assert average_precision(np.array([0.9, 0.9, 0.1, 0.1]), truth) == pytest.approx(0.5)
    assert average_precision(np.zeros(4), truth) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="needs a right video"):
        average_precision(np.zeros(2), np.zeros(2, bool))
    table = np.stack([truth, np.zeros(4, bool)], 1)
    assert mean_average_precision(np.zeros((4, 2)), table) == (50.0, 1)  # an absent name counts not
    with pytest.raises(MaxiError, match="not finite"):
        mean_average_precision(np.full((4, 2), np.nan), table)


def test_average_precision_is_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for n in (2, 3, 10, 200):
        for digits in (1, 3):  # the first gives many ties
            scores, truth = rng.random(n).round(digits), rng.random(n) < 0.4
            truth[rng.integers(n)] = True
            expected = sklearn.average_precision_score(truth, scores)
            assert average_precision(scores, truth) == pytest.approx(expected)


def test_published_figures_stand_beside_ones_own() -> None:
    row = {
        "dataset": "hmdb51",
        "split": "1",
        "names": "as listed",
        "part": "all",
        "model": "frozen",
    }
    row |= {"n": 9, "missing": 1, "top1": 40.0, "top5": 60.0, "conditions": {"n_frames": 16}}
    (table,) = dataset_tables([row])
    assert table["rows"][0]["first"] == "40.0"
    assert ("CLIP", "38.0 ± 1.7") in table["published"]
    assert set(PUBLISHED) <= set(PRESETS)


def test_softmax_ranks_by_the_scale() -> None:
    cosines = np.array([[0.9, 0.8], [0.5, 0.1]], np.float32)
    found = evaluate_several(cosines, [(1,), (0,)], ["a", "b"], 50.0)
    # By the cosine the first video is nearer to "a"; by its share of both names the second is.
    assert (found["map_cosine"], found["map_softmax"]) == (75.0, 100.0)


def test_a_model_needs_a_place_and_another_folder_is_kept(tiny: Path, tiny_clip: Path) -> None:
    done = CliRunner().invoke(main, ["eval", f"clip:{tiny_clip}", "--on", "tiny:x"])
    assert done.exit_code == 2
    assert "is no run; to measure a model, give --on and -o" in done.stderr
    (tiny / "mine").mkdir()
    (tiny / "mine" / "thesis.txt").write_text("x")
    done = CliRunner().invoke(main, line(tiny, tiny_clip, "mine"))
    assert done.exit_code == 1
    assert "is not empty" in done.stderr


def test_results_that_cannot_be_added_to_are_told_before_the_work(
    tiny: Path, tiny_clip: Path, decoded: list[Request]
) -> None:
    (tiny / "out").mkdir()
    (tiny / "out" / "results.json").write_text('[{"dataset": 3}]')
    done = CliRunner().invoke(main, line(tiny, tiny_clip))
    assert done.exit_code == 1
    assert "results.json: not as maxi writes it" in done.stderr
    assert decoded == []


def test_labelled_videos_of_ones_own(tiny: Path, tiny_clip: Path) -> None:
    words = ["-q", "eval", f"clip:{tiny_clip}", "--on", str(tiny / "videos")]
    done = CliRunner().invoke(main, [*words, "-o", str(tiny / "own"), "-s", "eval.n_frames=4"])
    assert done.exit_code == 0, done.stderr
    assert {(r["dataset"], r["split"], r["n"]) for r in rows_of(tiny / "own")} == {
        ("videos", "all", 6)
    }


def test_splits_of_a_table_of_ones_own(tiny: Path, tiny_clip: Path) -> None:
    rows = [f"videos/{NAMES[k % 3]}/v{k}.mp4,{NAMES[k % 3]},{split}" for k, split in OWN_SPLITS]
    (tiny / "own.csv").write_text("\n".join(["path,label,split", *rows]))
    words = ["-q", "eval", f"clip:{tiny_clip}", "--on", str(tiny / "own.csv")]
    done = CliRunner().invoke(main, [*words, "-o", str(tiny / "own"), "-s", "eval.n_frames=4"])
    assert done.exit_code == 0, done.stderr
    rows_of_splits = [r for r in rows_of(tiny / "own") if r["names"] == "as listed"]
    assert [(r["split"], r["n"], r["n_names"]) for r in rows_of_splits[:2]] == [
        ("a", 2, 3),
        ("b", 1, 3),
    ]
    assert rows_of_splits[2]["split"] == "mean of 2"  # training videos are not measured
