"""Settings: the paper's defaults, recipes, overrides, and what is said about mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from maxi.config import Config, Stage
from maxi.errors import MaxiError
from maxi.settings import dump_config, full_key, load_config, parse_config


def test_defaults_are_the_papers_recipe() -> None:
    config = Config()
    assert config.backbone == "clip:openai/clip-vit-base-patch16"
    assert config.match.keep == 0.9
    assert config.expand.n_phrases == 5
    assert config.caption.n_frames == 8
    train = config.train
    assert (train.sigma, train.n_bag, train.n_frames, train.batch_size) == (0.02, 16, 16, 256)
    assert (train.lr, train.epochs, train.alpha) == (5e-6, 10, 0.8)
    assert config.eval.prompt == "a photo of {}."


def test_every_field_is_described() -> None:
    for stage in [Config, *(type(v) for v in vars(Config()).values() if isinstance(v, Stage))]:
        for name, field in stage.model_fields.items():
            assert field.description or isinstance(field.default, Stage), name


def test_later_settings_win(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("lr: 1e-5\ntrain: {epochs: 3}\nbackbone: objects\n")
    config = load_config(tmp_path / "c.yaml", ["lr=2e-5", "train.n_frames=4"])
    assert (config.train.lr, config.train.epochs, config.train.n_frames) == (2e-5, 3, 4)
    assert config.train.trainable == "head"  # from the recipe of `objects`
    assert load_config(backbone="objects").train.sigma == 0.1


def test_a_dump_reads_back(tmp_path: Path) -> None:
    config = load_config(None, ["keep=0.5"], backbone="objects")
    (tmp_path / "c.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("empty_prompt=a video of: {name}", "a video of: {name}"),
        ("eval.prompt={}", "{}"),
        ("eval.prompt=[{}]", "[{}]"),
        ("eval.prompt='a video: {}'", "a video: {}"),
        ("captioner=off", "off"),
        ("betas=[0.9, 0.999]", (0.9, 0.999)),
        ("templates=['a {}', 'the {}']", ("a {}", "the {}")),
        ("templates=null", None),
    ],
)
def test_what_yaml_would_take_for_something_else_stays_text(
    override: str, expected: object
) -> None:
    stage, _, name = full_key(override.partition("=")[0]).partition(".")
    assert getattr(getattr(load_config(None, [override]), stage), name) == expected


@pytest.mark.parametrize(
    "saved", ["{}", "[]", '{"backbone": 3}', '{"backbone": "../recipes/objects"}']
)
def test_the_recipe_of_a_saved_model_is_found_by_name_only(saved: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "maxi.json").write_text(saved)
    assert load_config(backbone=str(tmp_path)).train == Config().train
    (tmp_path / "model" / "maxi.json").write_text('{"backbone": "objects"}')
    assert load_config(backbone=str(tmp_path)).train == load_config(backbone="objects").train


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lrr=1", "unknown setting 'lrr'; did you mean 'lr'"),
        ("n_frames=3", "several stages; write match.n_frames or"),
        ("lr", "key=value"),
        ("lr=fast", "train.lr"),
        ("train.n_frames=0", "train.n_frames"),
        ("warmup_epochs=10", "warmup_epochs and epochs conflict"),
        ("min_lr=1", "min_lr and lr conflict"),
        ("train.prompt=x", "prompt must contain {name}"),
        ("eval.prompt=x", "prompt must contain {}"),
        ("crop_scales=[]", "train.crop_scales: "),
        ("crop_scales=[1.0, 1.2]", "train.crop_scales.1: Input should be less than or equal to 1"),
        ("crop_scales=[0]", "train.crop_scales.0: "),
        ("crop_scales=[-0.5]", "train.crop_scales.0: "),
        ("crop_scales=[.nan]", "train.crop_scales.0: "),
        ("betas=[0.9, 1]", "train.betas.1: "),
        ("betas=[-0.1, 0.9]", "train.betas.0: "),
        ("sigma=1e-300", "train.sigma: "),
        ("tau=1e-300", "match.tau: "),
        ("templates=[]", "match.templates: "),
        ("prices=[-1, 1]", "chat.prices.0: "),
        ("epochs=1000000000000", "train.epochs: "),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(MaxiError) as error:
        load_config(None, [override])
    assert message in str(error.value)


def test_the_recipe_of_the_released_code_does_what_it_says() -> None:
    config = load_config(Path("k400_vitb16_released"))
    train, paper = config.train, load_config(Path("k400_vitb16"))
    assert (train.objective, train.contrast) == ("mil_nce_outside", 16)
    assert (train.warmup_epochs, train.cosine_from) == (5, "start")
    assert train.learn_sigma
    assert train.refill
    assert train.freeze_tokens
    assert config.bag.caption_parts == "verbs"
    assert config.normalisation == "imagenet"
    assert train.prompt.startswith("a photo of a {name}.")
    assert train.empty_prompt.startswith("a photo of a {name}.")
    assert config.eval.prompt == "a photo of a {}."
    captioned = Config(caption=paper.caption)
    assert paper == captioned, "all but the captioner is the default"


def number_fields() -> list[tuple[str, object]]:
    """The full names of all settings that are numbers, and their defaults."""
    stages = {n: v for n, v in vars(Config()).items() if isinstance(v, Stage)}
    defaults = {f"{n}.{k}": v for n, stage in stages.items() for k, v in vars(stage).items()}
    return [
        (name, value)
        for name, value in {**vars(Config()), **defaults}.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "-1", "-0.001", "[]", "'x'"])
def test_no_number_is_negative_or_not_finite(value: str) -> None:
    for name, _ in number_fields():
        with pytest.raises(MaxiError, match=f"setting {name}"):
            load_config(None, [f"{name}={value}"])


def test_a_count_that_takes_memory_for_each_has_a_limit() -> None:
    """Frames, views, epochs, processes and the like; other counts are cut to what there is."""
    cut = {"match.top_k", "eval.sample", "train.temporal_blocks", "train.keep_last"}
    cut |= {"seed", "chat.retries", "chat.parallel"}
    for name, default in number_fields():
        if isinstance(default, int) and name not in cut:
            with pytest.raises(MaxiError, match=f"setting {name}: "):
                load_config(None, [f"{name}={10**12}"])


# Each line stands for the one before twice, so that the last one stands for 2 to the power of 40 values.
DOUBLED = "a0: &a0 {x: 1}\n" + "\n".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 41)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [x]\nb: [*a, *a]", "settings refer to no others"),
        ("a: &a {x: 1}\nb: {<<: *a}", "settings refer to no others"),
        (DOUBLED, "settings refer to no others"),
        ("[" * 100_000, "recursion"),
        ("lr: " + "9" * 5000, "not valid YAML"),
        ("lr: 2024-13-45", "not valid YAML"),
        ("lr: !!timestamp x", "not valid YAML"),
        ("lr: 1" + ":59" * 300 + ".5", "not valid YAML"),
        ("# " + "x" * 300_000, "more than"),
        ("lr: \0", "not valid YAML"),
    ],
)
def test_yaml_that_is_no_settings_is_one_sentence(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(MaxiError, match=reason):
        load_config(path)


def test_a_value_that_yaml_cannot_read_is_taken_as_text() -> None:
    with pytest.raises(MaxiError, match=r"setting train.lr"):
        load_config(None, ["lr=2024-13-45"])


def test_wrong_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    with pytest.raises(MaxiError, match="cannot be read"):
        load_config(path)
    path.write_text("a: [")
    with pytest.raises(MaxiError, match="not valid YAML"):
        load_config(path)
    path.write_text("- a")
    with pytest.raises(MaxiError, match="must be a mapping"):
        load_config(path)
    path.write_text("on: 1")
    with pytest.raises(MaxiError, match="unknown setting 'True'"):
        load_config(path)
    path.write_text("3: {on: 1}")
    with pytest.raises(MaxiError, match="unknown stage '3'"):
        load_config(path)
    path.write_text("trian: {lr: 1}")
    with pytest.raises(MaxiError, match="unknown stage 'trian'"):
        load_config(path)
    with pytest.raises(MaxiError, match="setting train"):
        parse_config({"train": 3})
