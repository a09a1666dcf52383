"""Training learns, ensembles, resumes to the same weights, and stops on nonsense."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from maxi.config import TrainConfig
from maxi.errors import MaxiError
from maxi.features.embedding import to_pixels
from maxi.method.objectives import OBJECTIVES
from maxi.models.video_clip import VideoCLIP, load_model
from maxi.progress import Progress, Shown, bar, silent
from maxi.records import Bag, BagText
from maxi.training.batches import Batches
from maxi.training.checkpoints import interpolate
from maxi.training.gradients import Contrast, Share
from maxi.training.loop import Training
from maxi.training.schedule import Course, Step, learning_rate

BAGS = [
    Bag(
        f"v{i}",
        ("playing guitar", "riding horse")[i % 2],
        tuple(BagText(f"text {i} {j}", "hand") for j in range(3)),
    )
    for i in range(8)
]
CONFIG = TrainConfig(batch_size=4, epochs=4, n_bag=2, n_frames=2, lr=1e-3, min_lr=1e-4, sigma=0.1)


def train(
    model: VideoCLIP,
    bags: Sequence[Bag],
    batches: Batches,
    config: TrainConfig,
    *,
    folder: Path,
    names: Sequence[str] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    course = Course(bags, config, names=names)
    return Training(model, course, batches, folder=folder).run(progress)


def clips(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
    for step in steps:
        frames = []
        for bag in step.bags:
            number = int(bag.video[1:])
            rng = torch.Generator().manual_seed(number)
            grey = torch.randint(100, (2, 3, 32, 32), generator=rng) + 150 * (number % 2)
            frames.append(grey.to(torch.uint8))
        yield step, torch.stack(frames)


def counting() -> tuple[Callable[[Iterable[Step]], Iterator[tuple[Step, Tensor]]], list[int]]:
    """`clips`, and the numbers of the steps that it was asked for."""
    seen: list[int] = []

    def counted(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        for item in clips(steps):
            seen.append(item[0].number)
            yield item

    return counted, seen


@pytest.fixture
def model(tiny_clip: Path) -> VideoCLIP:
    return load_model(f"clip:{tiny_clip}", sigma=CONFIG.sigma)


def weights(model: VideoCLIP) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_loss_falls_and_every_step_is_logged(model: VideoCLIP, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 10})
    done = train(model, BAGS, clips, config, folder=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == list(range(20))
    assert done["steps"] == 20
    assert sum(r["loss"] for r in rows[-2:]) < 0.3 * sum(r["loss"] for r in rows[:2])


def test_the_bar_shows_the_figures_of_the_steps(
    model: VideoCLIP, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = train(model, BAGS, clips, CONFIG, folder=tmp_path, progress=bar)
    shown = capsys.readouterr().err
    assert "train: 100%" in shown
    assert "8/8 [" in shown
    assert f"loss {done['last_loss']:.3f} lr 1" in shown
    assert "clips/s data wait" in shown


def test_it_ends_early_and_goes_on_from_there(model: VideoCLIP, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"checkpoint_seconds": 0.0})
    training = Training(copy.deepcopy(model), Course(BAGS, config), clips, folder=tmp_path)
    training.run(max_steps=3)
    counted, seen = counting()
    train(copy.deepcopy(model), BAGS, counted, config, folder=tmp_path)
    assert [row["step"] for row in training.log] == [0, 1, 2]
    assert seen == [3, 4, 5, 6, 7]


def test_a_text_that_weighs_next_to_nothing_is_as_if_left_out(
    tiny_clip: Path, tmp_path: Path
) -> None:
    def first_loss(name: str, *more: BagText) -> float:
        model = load_model(f"clip:{tiny_clip}", sigma=CONFIG.sigma)
        bags = [Bag(b.video, b.name, (*b.texts[:2], *more)) for b in BAGS]
        config = CONFIG.model_copy(update={"epochs": 1, "n_bag": 3})
        return float(train(model, bags, clips, config, folder=tmp_path / name)["first_loss"])

    noise = "an umbrella"
    without = first_loss("without")
    assert first_loss("light", BagText(noise, "hand", 1e-9)) == pytest.approx(without, abs=1e-5)
    assert first_loss("heavy", BagText(noise, "hand", 100.0)) != pytest.approx(without, abs=1e-3)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains(name: str, model: VideoCLIP, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"objective": name, "epochs": 10})
    done = train(model, BAGS, clips, config, folder=tmp_path)
    assert done["last_loss"] < done["first_loss"]


def test_out_of_memory_lowers_the_graphs_and_goes_on(
    tiny_clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every encoding of more than two videos is refused, as a GPU would; the weights are those of small graphs."""

    def trained(name: str, micro: int) -> tuple[dict[str, Tensor], float]:
        model = load_model(f"clip:{tiny_clip}", sigma=CONFIG.sigma)
        config = CONFIG.model_copy(update={"micro_batch": micro, "epochs": 1})
        done = train(model, BAGS, clips, config, folder=tmp_path / name)
        return weights(model), float(done["last_loss"])

    small, loss = trained("small", 1)
    encode = VideoCLIP.encode_video

    def limited(self: VideoCLIP, frames: Tensor, kept: None) -> Tensor:
        if len(frames) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, frames)

    monkeypatch.setattr(VideoCLIP, "encode_video", limited)
    found, same = trained("large", 4)
    assert same == loss
    assert all(torch.equal(found[name], tensor) for name, tensor in small.items())
    told = [r.getMessage() for r in caplog.records]
    assert told == [f"out of memory: going on with graphs of {n} videos" for n in (2, 1)]


def test_classes_without_a_video_count_in_cross_entropy(tiny_clip: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"objective": "cross_entropy", "epochs": 1})
    names = sorted({bag.name for bag in BAGS})
    losses = []
    for more in ([], ["dancing", "swimming"]):
        model = load_model(f"clip:{tiny_clip}", sigma=CONFIG.sigma)
        folder = tmp_path / str(len(more))
        done = train(model, BAGS, clips, config, folder=folder, names=[*names, *more])
        losses.append(done["first_loss"])
    assert losses[1] > losses[0]


def test_a_label_that_is_no_class_is_told(model: VideoCLIP, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"objective": "cross_entropy"})
    with pytest.raises(MaxiError, match="'playing guitar', which is none of the 1 classes"):
        train(model, BAGS, clips, config, folder=tmp_path, names=["riding horse"])


def test_groups_and_both_directions_reach_the_loss(tiny_clip: Path, tmp_path: Path) -> None:
    def first_loss(**changes: object) -> float:
        model = load_model(f"clip:{tiny_clip}", sigma=CONFIG.sigma)
        config = CONFIG.model_copy(update={"epochs": 1, **changes})
        folder = tmp_path / str(sorted(changes))
        return float(train(model, BAGS, clips, config, folder=folder)["first_loss"])

    assert first_loss(contrast=2) < first_loss() != first_loss(text_to_video=True)


def test_the_released_cosine_drops_after_the_warm_up() -> None:
    config = TrainConfig(warmup_epochs=5, cosine_from="start")
    rates = [learning_rate(step, 100, 50, config) for step in range(100)]
    assert rates[49] == pytest.approx(5e-6)
    assert rates[50] == pytest.approx(2.525e-6)
    assert rates[60] == pytest.approx(1.76e-6, rel=1e-2)


@pytest.mark.parametrize("trainable", ["all", "head", "visual", "text"])
def test_only_the_chosen_part_changes(trainable: str, model: VideoCLIP, tmp_path: Path) -> None:
    before = weights(model)
    config = CONFIG.model_copy(update={"trainable": trainable, "epochs": 1})
    inputs: Callable[[Iterable[Step]], Iterator[tuple[Step, Tensor]]] = clips
    if trainable == "head":

        def inputs(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
            for step, frames in clips(steps):
                with torch.no_grad():
                    pixels = to_pixels(model, frames)  # (B, 2, C, S, S)
                    features = model.backbone.image_trunk(pixels.flatten(0, 1))
                    yield step, features.unflatten(0, (-1, 2))

    train(model, BAGS, inputs, config, folder=tmp_path)
    changed = {n for n, t in weights(model).items() if not torch.equal(t, before[n])}
    chosen = set(model.freeze(trainable))
    assert changed
    assert changed <= chosen


def test_alpha_mixes_with_the_original(model: VideoCLIP, tmp_path: Path) -> None:
    original = weights(model)
    results = {}
    for alpha in (0.0, 0.5, 1.0):
        copied = copy.deepcopy(model)
        train(
            copied,
            BAGS,
            clips,
            CONFIG.model_copy(update={"alpha": alpha}),
            folder=tmp_path / str(alpha),
        )
        results[alpha] = weights(copied)
    name = "backbone.model.visual_projection.weight"
    assert torch.equal(results[0.0][name], original[name])
    assert not torch.equal(results[1.0][name], original[name])
    assert torch.allclose(results[0.5][name], (original[name] + results[1.0][name]) / 2, atol=1e-7)


@pytest.mark.parametrize(
    "update",
    [
        {},
        {"average": "ema"},
        {"average": "swa", "patch_dropout": 0.5},
        {"holdout": 0.25, "result": "best", "batch_size": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "stop_after",
    [pytest.param(1, marks=pytest.mark.slow), 4, pytest.param(7, marks=pytest.mark.slow)],
)
def test_a_resumed_run_ends_with_the_same_weights(
    stop_after: int, update: dict[str, object], model: VideoCLIP, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"checkpoint_seconds": 0.0, **update})
    whole = copy.deepcopy(model)
    train(whole, BAGS, clips, config, folder=tmp_path / "whole")

    def broken(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        for item in clips(steps):
            if item[0].number == stop_after:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        train(copy.deepcopy(model), BAGS, broken, config, folder=tmp_path / "broken")
    counted, seen = counting()
    resumed = copy.deepcopy(model)
    train(resumed, BAGS, counted, config, folder=tmp_path / "broken")
    assert seen[0] == stop_after
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name
    losses = [
        [
            json.loads(line)["loss"]
            for line in (tmp_path / run / "train.jsonl").read_text().splitlines()
        ]
        for run in ("whole", "broken")
    ]
    assert losses[0] == losses[1]


def test_the_log_lies_in_the_checkpoint(model: VideoCLIP, tmp_path: Path) -> None:
    """A kill right after the last checkpoint, before train.jsonl, leaves nothing undone."""
    done = train(copy.deepcopy(model), BAGS, clips, CONFIG, folder=tmp_path)
    written = (tmp_path / "train.jsonl").read_bytes()
    (tmp_path / "train.jsonl").unlink()
    assert train(copy.deepcopy(model), BAGS, clips, CONFIG, folder=tmp_path) == done
    assert (tmp_path / "train.jsonl").read_bytes() == written


def test_how_often_to_save_is_no_reason_to_start_anew(model: VideoCLIP, tmp_path: Path) -> None:
    train(copy.deepcopy(model), BAGS, clips, CONFIG, folder=tmp_path)

    def none(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        assert not list(steps)
        yield from ()

    other = CONFIG.model_copy(update={"checkpoint_seconds": 1.0, "micro_batch": 1})
    other = other.model_copy(update={"recompute": True, "keep_last": 1})
    train(copy.deepcopy(model), BAGS, none, other, folder=tmp_path)


def test_only_a_micro_batch_is_normalised_at_a_time(
    model: VideoCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, torch.dtype]] = []
    encode = VideoCLIP.encode_video

    def counted(self: VideoCLIP, frames: Tensor, kept: None) -> Tensor:
        seen.append((len(frames), frames.dtype))
        return encode(self, frames)

    monkeypatch.setattr(VideoCLIP, "encode_video", counted)
    config = CONFIG.model_copy(update={"micro_batch": 2, "epochs": 1})
    train(model, BAGS, clips, config, folder=tmp_path)
    assert set(seen) == {(2, torch.float32)}


def test_other_bags_or_settings_start_anew(model: VideoCLIP, tmp_path: Path) -> None:
    train(copy.deepcopy(model), BAGS, clips, CONFIG, folder=tmp_path)
    counted, seen = counting()
    train(
        copy.deepcopy(model), BAGS, counted, CONFIG.model_copy(update={"lr": 2e-3}), folder=tmp_path
    )
    train(copy.deepcopy(model), BAGS[:-1], counted, CONFIG, folder=tmp_path)
    assert seen == [*range(8), *range(8)]


def test_a_loss_that_is_not_finite_stops_with_the_videos(model: VideoCLIP, tmp_path: Path) -> None:
    with torch.no_grad():
        model.backbone.model.visual_projection.weight.fill_(float("nan"))  # type: ignore[attr-defined]
    with pytest.raises(MaxiError, match=r"step 0: the loss is not finite \(videos v\d.*; lower"):
        train(model, BAGS, clips, CONFIG, folder=tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 1e30},
        {"lr": 1e30, "precision": "bfloat16"},
        {"lr": 1e30, "trainable": "text", "average": "ema"},
        {"lr": 1e30, "batch_size": 4, "holdout": 0.25},
        {"lr": 1e12},  # finite weights, which no number can be computed with
        {"weight_decay": 1e30},
    ],
    ids=str,
)
def test_weights_that_left_all_bounds_in_the_only_step_are_refused(
    changes: dict[str, Any], model: VideoCLIP, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"batch_size": 8, "epochs": 1, **changes})
    fault = (
        r"^(step 0|the held-out videos): .* not finite.*; lower `train.lr` or raise `train.sigma`"
    )
    with pytest.raises(MaxiError, match=fault) as error:
        train(model, BAGS, clips, config, folder=tmp_path)
    assert ("train.precision" in str(error.value)) == (config.precision == "bfloat16")
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not (tmp_path / "train.jsonl").exists()


@pytest.mark.parametrize("broken", ["weight", "gradient"])
def test_the_last_checkpoint_before_a_step_that_broke_remains(
    broken: str, model: VideoCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient whose square is infinite moves no weight, and AdamW would never move it again."""
    take_step, n_steps = torch.optim.AdamW.step, itertools.count()

    def breaking(self: torch.optim.AdamW) -> None:
        last, number = self.param_groups[0]["params"][-1], next(n_steps)
        if number == 2 and broken == "gradient":
            last.grad.fill_(1e30)
        take_step(self)
        if number == 2 and broken == "weight":
            last.data.view(-1)[0] = math.inf

    monkeypatch.setattr(torch.optim.AdamW, "step", breaking)
    config = CONFIG.model_copy(update={"checkpoint_seconds": 0.0})
    with pytest.raises(MaxiError, match=r"^step 2: the weights or their gradients are not finite"):
        train(model, BAGS, clips, config, folder=tmp_path)
    states = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert states == ["step-00000001", "step-00000002"]
    assert len(rows) == 2
    for path in (tmp_path / "checkpoints").rglob("weights.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(path).values())


def test_a_video_alone_in_its_batch_is_refused(model: VideoCLIP, tmp_path: Path) -> None:
    def losing(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        for step, frames in clips(steps):
            n = 1 if step.number == 1 else len(step.bags)
            yield replace(step, bags=step.bags[:n]), frames[:n]

    with pytest.raises(MaxiError, match=r"^step 1: video v\d alone is left of its batch"):
        train(model, BAGS, losing, CONFIG, folder=tmp_path)
    classes = CONFIG.model_copy(update={"objective": "cross_entropy"})
    train(model, BAGS, losing, classes, folder=tmp_path)


def test_validation_drops_no_patch(model: VideoCLIP, tmp_path: Path) -> None:
    def validation(**changes: Any) -> float:
        config = CONFIG.model_copy(update={"holdout": 0.5, "lr": 1e-30, "min_lr": 0.0, **changes})
        folder = tmp_path / str(sorted(changes))
        training = Training(copy.deepcopy(model), Course(BAGS, config), clips, folder=folder)
        training.run()
        return float(training.log[-1]["validation"])

    assert validation(patch_dropout=0.75) == validation()


def test_the_token_embedding_can_be_left_as_it_is(model: VideoCLIP, tmp_path: Path) -> None:
    before = weights(model)
    config = CONFIG.model_copy(update={"freeze_tokens": True, "learn_sigma": True})
    done = train(model, BAGS, clips, config, folder=tmp_path)
    same = [n for n, tensor in weights(model).items() if torch.equal(tensor, before[n])]
    embedding = "backbone.model.text_model.embeddings.token_embedding.weight"
    assert embedding in same
    n_all = sum(p.numel() for p in model.parameters())
    assert done["trained_parameters"] == n_all - before[embedding].numel()


def test_too_few_videos_and_unknown_objective(model: VideoCLIP, tmp_path: Path) -> None:
    with pytest.raises(MaxiError, match="at least two"):
        train(model, BAGS[:1], clips, CONFIG, folder=tmp_path)
    with pytest.raises(MaxiError, match="unknown objective 'mil_nec'; did you mean mil_nce"):
        train(
            model, BAGS, clips, CONFIG.model_copy(update={"objective": "mil_nec"}), folder=tmp_path
        )


def test_bags_that_no_course_can_be_made_of_are_told(model: VideoCLIP, tmp_path: Path) -> None:
    with pytest.raises(MaxiError, match="video v3 has more than one bag"):
        train(model, [*BAGS, BAGS[3]], clips, CONFIG, folder=tmp_path)
    curriculum = CONFIG.model_copy(update={"curriculum": 0.5})
    with pytest.raises(MaxiError, match="give their `scores`"):
        train(model, BAGS, clips, curriculum, folder=tmp_path)


def test_bags_of_one_name_have_no_contrast_and_say_so(
    model: VideoCLIP, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bags = [b for b in BAGS if b.name == "riding horse"]
    done = train(model, bags, clips, CONFIG, folder=tmp_path)
    assert done["last_loss"] == 0
    assert "match one name, 'riding horse': there is nothing to contrast" in caplog.text


def test_a_trained_temperature_is_saved_with_the_model(tiny_clip: Path, tmp_path: Path) -> None:
    model = load_model(f"clip:{tiny_clip}", sigma=0.1)
    config = CONFIG.model_copy(update={"learn_sigma": True, "lr": 0.1})
    train(model, BAGS, clips, config, folder=tmp_path)
    sigma = 1 / model.logit_scale.exp().item()
    assert abs(sigma - 0.1) > 0.001
    model.save(tmp_path / "model")
    for spec in (f"clip:{tmp_path}/model", str(tmp_path / "model"), str(tmp_path)):
        again = load_model(spec)
        assert again.logit_scale.item() == pytest.approx(model.logit_scale.item(), abs=1e-6)
        assert again.backbone.fingerprint() == model.backbone.fingerprint()
    assert load_model(str(tmp_path), sigma=0.5).logit_scale.exp().item() == pytest.approx(2)


def test_the_learning_rate_is_a_cosine_that_warm_up_only_delays() -> None:
    config = TrainConfig(lr=1.0, min_lr=0.01, warmup_epochs=2)
    rates = [learning_rate(s, 100, 20, config) for s in range(101)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[19] == rates[20] == 1.0  # no drop where the warm-up ends
    assert rates[100] == pytest.approx(0.01)
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_interpolation_returns_its_ends_exactly() -> None:
    old, new = (
        {"w": torch.rand(3) / 3, "n": torch.tensor(1)},
        {"w": torch.rand(3) / 7, "n": torch.tensor(2)},
    )
    assert torch.equal(interpolate(old, new, 0.0)["w"], old["w"])
    assert torch.equal(interpolate(old, new, 1.0)["w"], new["w"])
    assert torch.allclose(interpolate(old, new, 0.8)["w"], 0.2 * old["w"] + 0.8 * new["w"])
    with pytest.raises(MaxiError, match="differ in 1 tensors, first 'x'"):
        interpolate(old, {**new, "x": new["w"]}, 0.5)
    with pytest.raises(MaxiError, match="shapes"):
        interpolate(old, {**new, "w": torch.rand(4)}, 0.5)


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_averages_are_those_of_the_weights_along_the_way(
    average: str, model: VideoCLIP, tmp_path: Path
) -> None:
    update = {"average": average, "ema_decay": 0.8, "alpha": 1.0, "checkpoint_seconds": 0}
    config = CONFIG.model_copy(update=update)
    name = "backbone.model.visual_projection.weight"
    seen = [weights(model)[name]]

    class Watched(Shown):
        def show(self, row: Mapping[str, Any]) -> None:
            seen.append(weights(model)[name])

    def progress(items: Iterable[Any], total: int, label: str) -> Watched:
        return Watched(items)

    done = train(model, BAGS, clips, config, folder=tmp_path, progress=progress)
    if average == "ema":
        expected = seen[0]
        for after in seen[1:]:
            expected = 0.8 * expected + 0.2 * after
    else:  # four epochs of two steps: the ends of the last two
        expected = (seen[6] + seen[8]) / 2
    torch.testing.assert_close(weights(model)[name], expected)
    assert done["finetuned"] == "step-00000008/average.safetensors"
    saved = load_file(tmp_path / "checkpoints" / done["finetuned"])
    assert torch.equal(saved[name], weights(model)[name])


def test_held_out_videos_choose_the_best_weights_and_are_not_trained_on(
    model: VideoCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = {"holdout": 0.25, "epochs": 6, "alpha": 1.0, "batch_size": 3}
    config = CONFIG.model_copy(update=update)
    met: set[str] = set()
    validated: list[str] = []

    def watched(steps: Iterable[Step]) -> Iterator[tuple[Step, Tensor]]:
        for step, frames in clips(steps):
            if step.epoch >= 0:
                met.update(bag.video for bag in step.bags)
            else:
                validated.extend(bag.video for bag in step.bags)
            yield step, frames

    # Which weights are the best must not hang on rounding: the loss that is measured is replaced.
    measure = Contrast.value
    losses = itertools.cycle([6.0, 4.0, 1.0, 3.0, 2.0, 5.0])

    def measured(self: Contrast, share: Share, micro: int) -> float:
        assert math.isfinite(measure(self, share, micro))
        return next(losses)

    monkeypatch.setattr(Contrast, "value", measured)
    last = copy.deepcopy(model)
    train(last, BAGS, watched, config, folder=tmp_path / "last")
    assert len(met) == 6
    assert set(validated) == {bag.video for bag in BAGS} - met
    rows = [
        json.loads(line) for line in (tmp_path / "last" / "train.jsonl").read_text().splitlines()
    ]
    scores = [row["validation"] for row in rows if "validation" in row]
    assert scores == [6, 4, 1, 3, 2, 5]
    chosen = config.model_copy(update={"result": "best"})
    done = train(model, BAGS, watched, chosen, folder=tmp_path / "best")
    (state,) = (tmp_path / "best" / "checkpoints").glob("best-*")
    assert done["finetuned"] == f"{state.name}/weights.safetensors"
    best = json.loads((state / "state.json").read_text())
    assert best["validation"] == 1
    assert state.name == f"best-{best['step'] + 1:08d}" == "best-00000006"
    assert not torch.equal(
        weights(model)["backbone.model.visual_projection.weight"],
        weights(last)["backbone.model.visual_projection.weight"],
    )
    with pytest.raises(MaxiError, match="leaves 8 to train on and 0"):
        train(model, BAGS, clips, CONFIG.model_copy(update={"holdout": 0.01}), folder=tmp_path)


def test_the_last_checkpoints_are_kept_and_a_damaged_one_is_passed_over(
    model: VideoCLIP, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"checkpoint_seconds": 0, "keep_last": 3})
    undisturbed = copy.deepcopy(model)
    train(undisturbed, BAGS, clips, config, folder=tmp_path)
    states = sorted((tmp_path / "checkpoints").glob("step-*"))
    assert [s.name for s in states] == [f"step-{n:08d}" for n in (6, 7, 8)]
    for state in states[1:]:
        file = state / "weights.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
    counted, seen = counting()
    resumed = copy.deepcopy(model)
    train(resumed, BAGS, counted, config, folder=tmp_path)
    assert seen == [6, 7]
    assert all(torch.equal(weights(undisturbed)[n], t) for n, t in weights(resumed).items())


@pytest.mark.parametrize("damage", ["", "[]", "{", '"x"', "no step", "no log"])
def test_a_state_that_does_not_say_what_it_is_is_passed_over(
    damage: str, model: VideoCLIP, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"checkpoint_seconds": 0})
    train(copy.deepcopy(model), BAGS, clips, config, folder=tmp_path)
    path = tmp_path / "checkpoints" / "step-00000008" / "state.json"
    info = json.loads(path.read_text())
    missing = damage.removeprefix("no ")
    path.write_text(
        json.dumps({k: v for k, v in info.items() if k != missing}) if missing in info else damage
    )
    counted, seen = counting()
    train(copy.deepcopy(model), BAGS, counted, config, folder=tmp_path)
    assert seen == [7]
    # Another training's checkpoints do not outlive its own, however far it had come.
    other = config.model_copy(update={"keep_last": 1, "epochs": 2})
    train(model, BAGS, clips, other, folder=tmp_path)
    assert [s.name for s in (tmp_path / "checkpoints").glob("step-*")] == ["step-00000004"]
