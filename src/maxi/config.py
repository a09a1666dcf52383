"""Every setting of a run: one small model per stage, with the paper's recipe as defaults; `settings` reads them."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit, urlunsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_serializer,
    field_validator,
    model_validator,
)

# No video or machine has use for more, and memory would end first.
MANY_FRAMES, MANY = 4096, 2**20
Decay = Annotated[float, Field(ge=0, lt=1)]
Price = Annotated[float, Field(ge=0)]
NameTexts = Literal["prompt", "templates", "phrases"]
NAME_TEXTS: tuple[NameTexts, ...] = get_args(NameTexts)


class Stage(BaseModel):
    """Frozen settings that refuse unknown keys, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def decisive(self) -> dict[str, Any]:
        """Return the settings on which the output of the stage depends."""
        return self.model_dump(mode="json")


class IndexConfig(Stage):
    """Index: find the videos and decode each once."""

    max_skipped: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Stop when more than this share of the files, and more than 5, is unreadable.",
    )
    segment: float = Field(
        0.0,
        ge=0,
        description="Cut the unlabelled videos into windows of about so many seconds; 0: none is cut.",
    )


class MatchConfig(Stage):
    """Match: find the nearest name of each video (Eq. 1)."""

    n_frames: int = Field(
        16, ge=1, le=MANY_FRAMES, description="Frames per video, at the centres of equal segments."
    )
    keep: float = Field(
        0.9,
        gt=0,
        le=1,
        description="p: share of the most confident matches that is kept (section 3.2).",
    )
    supervised: bool = Field(
        False,
        description="Take the videos' own labels for matches; for few-shot and supervised training alone.",
    )
    file: str | None = Field(
        None,
        description="List of matches that were made elsewhere, `path id` a line, ids being places in the list of names "
        "from 0; only its videos are matched, and all of them are kept.",
    )
    shots: int | None = Field(
        None,
        ge=1,
        description="K: with `supervised`, the videos of each name that are kept, drawn by the seed.",
    )
    per_name: bool = Field(
        False,
        description="Keep the share p of the videos of each name, in place of the share p of all videos.",
    )
    top_k: int = Field(
        1,
        ge=1,
        description="Number of names that a video is matched to; above 1 (soft matching) the next names weigh less.",
    )
    tau: float = Field(
        0.02,
        ge=1e-6,
        description="For soft matching: a name whose cosine is d below the best has the weight exp(-d / tau). Shares "
        "of names take the same softness.",
    )
    confidence: Literal["cosine", "margin"] = Field(
        "cosine",
        description="What the score of a match is, of which `keep` keeps the highest: the cosine, or the `margin` by "
        "which it is above that of the next name.",
    )
    shares: str = Field(
        "unknown",
        description="How common the names are: `unknown`, `even`, a file with a name, a tab and its share a line, "
        "or `estimated` from what the videos look like; matches come to them.",
    )
    rounds: int = Field(
        1,
        ge=1,
        le=3,
        description="From the second round on, the model of the round before matches the videos anew; training always "
        "starts from the frozen one.",
    )
    templates: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Prompts averaged per name, `{}` for the name; unset: the 28 Kinetics templates (appendix B).",
    )

    @model_validator(mode="after")
    def _shots_need_labels(self) -> MatchConfig:
        if self.shots and not self.supervised:
            raise ValueError("shots and supervised conflict: shots are drawn from labelled videos")
        if self.file and self.supervised:
            raise ValueError("file and supervised conflict: matches come from one of them")
        for name in ("shares", "rounds"):
            if getattr(self, name) not in ("unknown", 1) and (self.file or self.supervised):
                given = "file" if self.file else "supervised"
                raise ValueError(f"{given} and {name} conflict: nothing is matched by the model")
        return self


class ExpandConfig(Stage):
    """Expand: find phrases for each name."""

    expander: str = Field(
        "shipped+wordnet",
        description="Sources of phrases, asked in order until a name has `n_phrases`.",
    )
    n_phrases: int = Field(5, ge=0, le=1000, description="Phrases per name (appendix B).")


class CaptionConfig(Stage):
    """Expand: caption frames of each video."""

    captioner: str = Field(
        "retrieval", description="Source of captions; `none` leaves captions out."
    )
    n_frames: int = Field(
        8,
        ge=1,
        le=MANY_FRAMES,
        description="Uniform frames that are captioned per video (appendix B).",
    )


class BagConfig(Stage):
    """Bag: choose what goes into the text bag of a video (section 3.2)."""

    phrases: bool = Field(
        True, description="Put the phrases of the match, and their verbs, in the bag."
    )
    captions: bool = Field(True, description="Put verbs and phrases of the captions in the bag.")
    caption_parts: Literal["verbs", "verbs+phrases", "nouns"] = Field(
        "verbs+phrases",
        description="Parts of captions that enter the bag (`verbs`: as in Figure 6; `nouns`: as in Table 6).",
    )
    as_given: bool = Field(
        False,
        description="Take phrases and captions as they are, such as lists of verbs that were made elsewhere, and add "
        "no verbs of theirs.",
    )
    weights: str | None = Field(
        None,
        description="File of texts, one a line: with a tab and a number it has that weight, else it is dropped.",
    )
    agree: str | None = Field(
        None,
        description="A second model: a text stays in a bag only where both models find it near the video.",
    )
    far: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="With `agree`: a text counts as near a video when it is less near to this share of all videos.",
    )


class CacheConfig(Stage):
    """Cache: decode the frames once, for training."""

    format: Literal["none", "raw", "jpeg"] = Field(
        "none", description="How frames are kept; `none`: training decodes the video files."
    )
    n_frames: int = Field(
        32,
        ge=1,
        le=MANY_FRAMES,
        description="Frames kept per video, at the centres of equal segments; a clip's are drawn among them.",
    )
    short_side: int = Field(
        256,
        ge=1,
        le=MANY,
        description="Short side of the frames in pixels; smaller videos are not enlarged.",
    )
    quality: int = Field(90, ge=1, le=100, description="Quality of `jpeg`, 1 to 100.")

    def decisive(self) -> dict[str, Any]:
        """Return the settings on which the stored frames depend."""
        return self.model_dump(mode="json", exclude=None if self.format == "jpeg" else {"quality"})


class TrainConfig(Stage):
    """Improve: fine-tune the model on the bags (sections 3.3 and 4.2)."""

    objective: str = Field(
        "mil_nce",
        description="`mil_nce` is Eq. 2; docs/why/method.md lists those of Table 7 and of the released code.",
    )
    contrast: int | None = Field(
        None,
        ge=2,
        description="Number of videos contrasted with each other; unset: the whole batch (the released code: 16).",
    )
    text_to_video: bool = Field(
        False,
        description="Average the loss with that of the other direction, of every text against all videos.",
    )
    trainable: Literal["all", "head", "visual", "text"] = Field(
        "all", description="What is trained; `head` trains on cached features of augmented views."
    )
    freeze_tokens: bool = Field(
        False,
        description="Leave the token embedding of the text encoder as it is, as the released code does.",
    )
    sigma: float = Field(0.02, ge=1e-4, le=100, description="Temperature of Eq. 2 (section 4.2).")
    learn_sigma: bool = Field(
        False, description="Train the temperature, as the released code does."
    )
    n_bag: int = Field(
        16,
        ge=1,
        le=MANY,
        description="N_bag: texts drawn from a bag in each epoch, by their weight.",
    )
    refill: bool = Field(
        False,
        description="Repeat the texts of a bag of fewer than `n_bag`, as the released code does.",
    )
    n_frames: int = Field(
        16,
        ge=1,
        le=MANY_FRAMES,
        description="Frames per clip, one random frame in each of as many segments.",
    )
    crop_scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0, 0.875, 0.75, 0.66),
        min_length=1,
        max_length=100,
        description="Sides of the training crop as shares of the short side; height and width are drawn for each clip.",
    )
    n_views: int = Field(
        4,
        ge=1,
        le=MANY_FRAMES,
        description="Augmented views cached per video where `trainable` is `head`.",
    )
    prompt: str = Field("a photo of {name}. {text}.", description="Training prompt (appendix B).")
    empty_prompt: str = Field(
        "a photo of {name}.", description="Prompt of a video whose bag is empty."
    )
    batch_size: int = Field(
        256,
        ge=2,
        le=MANY,
        description="Most videos in a step, which are contrasted with each other; an epoch's steps are nearly equal.",
    )
    micro_batch: int = Field(
        8,
        ge=1,
        le=MANY,
        description="Videos in one graph; fewer take less memory, loss and gradient stay those of the batch.",
    )
    epochs: int = Field(10, ge=1, le=MANY, description="Passes over the kept videos.")
    lr: float = Field(5e-6, gt=0, description="Initial learning rate of AdamW.")
    min_lr: float = Field(5e-8, ge=0, description="Learning rate at the end of the cosine.")
    warmup_epochs: float = Field(
        0.0, ge=0, description="Epochs of linear warm-up before the cosine."
    )
    cosine_from: Literal["warmup", "start"] = Field(
        "warmup",
        description="Where the cosine begins: after the `warmup`, or at the `start` of training (the released code).",
    )
    betas: tuple[Decay, Decay] = Field((0.9, 0.98), description="AdamW's moment decay rates.")
    eps: float = Field(1e-8, gt=0, description="AdamW's denominator term.")
    weight_decay: float = Field(
        1e-3, ge=0, description="AdamW's decay, on every trained parameter."
    )
    alpha: float = Field(
        0.8,
        ge=0,
        le=1,
        description="Share of the fine-tuned weights in the result; the rest is the frozen model's (section 4.2).",
    )
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="Number format of both encoders in training; `auto`: bfloat16 where the processor has it.",
    )
    temporal_blocks: int = Field(
        0,
        ge=0,
        description="Last blocks of the image tower that attend to neighbouring frames (appendix C.4); "
        "0: as in the model that training starts from.",
    )
    patch_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of each clip's patches that is left out in training; faster, but gives another result.",
    )
    recompute: bool = Field(
        False,
        description="Gradient checkpointing: each block is computed once more on the way back, to take less memory.",
    )
    compile: bool = Field(
        False, description="Compile the image encoder with `torch.compile`; needs a C++ compiler."
    )
    average: Literal["none", "ema", "swa"] = Field(
        "none",
        description="Average the weights of training: exponentially (`ema`), or over the ends of the second half's "
        "epochs (`swa`).",
    )
    ema_decay: float = Field(0.99, gt=0, lt=1, description="Decay of `average=ema` in each step.")
    distill: float = Field(
        0.0,
        ge=0,
        description="Weight of a second loss: one minus the cosine between embeddings and those of the frozen model.",
    )
    graded_positives: bool = Field(
        False,
        description="With soft matching: the bags of a video's next names are positives too, by their weight.",
    )
    curriculum: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the videos, those matched most confidently, that the first epoch trains on; it grows "
        "to all at half of the epochs.",
    )
    holdout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the kept videos that is not trained on; their loss is logged after every epoch.",
    )
    result: Literal["last", "best"] = Field(
        "last",
        description="Weights that are ensembled with the frozen ones: the last, or the best of the validation loss.",
    )
    checkpoint_seconds: float = Field(
        50.0,
        ge=0,
        description="A checkpoint follows the first step that ends this many seconds after the one before.",
    )
    keep_last: int = Field(2, ge=1, description="Checkpoints kept, from which a run resumes.")
    wandb: str | None = Field(
        None, description="Project at Weights & Biases that gets the figures of every step."
    )

    def decisive(self) -> dict[str, Any]:
        """Return the settings on which the trained weights depend."""
        return self.model_dump(mode="json", exclude={"checkpoint_seconds", "keep_last", "wandb"})

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                "warmup_epochs and epochs conflict: warm-up must end before training does"
            )
        if self.min_lr > self.lr:
            raise ValueError("min_lr and lr conflict: min_lr must not be above lr")
        if self.objective == "cross_entropy" and (self.contrast or self.text_to_video):
            raise ValueError(
                "objective cross_entropy contrasts no videos; leave out contrast and text_to_video"
            )
        if self.result == "best" and not self.holdout:
            raise ValueError("result best and holdout 0 conflict: the best needs held-out videos")
        if self.graded_positives and self.objective != "mil_nce":
            raise ValueError(
                f"graded_positives and objective {self.objective} conflict: only mil_nce has grades"
            )
        if self.trainable == "head":
            for name in ("temporal_blocks", "patch_dropout", "recompute", "compile"):
                if getattr(self, name):
                    raise ValueError(
                        f"trainable head and {name} conflict: the head trains on cached features"
                    )
        for placeholder in ("{name}", "{text}"):
            if placeholder not in self.prompt:
                raise ValueError(f"prompt must contain {placeholder}")
        if "{name}" not in self.empty_prompt:
            raise ValueError("empty_prompt must contain {name}")
        return self


class EvalConfig(Stage):
    """Evaluate: zero-shot recognition, by default with one view and one prompt (section 4.2)."""

    n_frames: int = Field(
        16,
        ge=1,
        le=MANY_FRAMES,
        description="Frames per clip, at the centres of equal segments.",
    )
    n_clips: int = Field(
        1, ge=1, le=64, description="Clips per video, each with other frames of the same segments."
    )
    n_crops: Literal[1, 3] = Field(
        1, description="Crops per clip: the centre, or three along the longer side."
    )
    prompt: str = Field("a photo of {}.", description="Test prompt; `{}` is the action name.")
    name_texts: NameTexts = Field(
        "prompt",
        description="What stands for a name: the `prompt`, its mean over `match.templates`, or it and `phrases`.",
    )
    sample: int = Field(
        2000,
        ge=1,
        description="Unlabelled videos on which the frozen and the adapted model are compared.",
    )

    @property
    def views(self) -> tuple[int, int]:
        """The number of clips, and of crops of each."""
        return self.n_clips, self.n_crops

    def tell_views(self) -> str:
        """Return the views in words, as they stand in the conditions of a figure."""
        crops = "1 centre crop" if self.n_crops == 1 else f"{self.n_crops} crops"
        return f"{self.n_clips} clip{'s' * (self.n_clips > 1)} x {crops}"

    @model_validator(mode="after")
    def _prompt_has_a_name(self) -> EvalConfig:
        if "{}" not in self.prompt:
            raise ValueError("prompt must contain {}")
        return self


def without_secrets(url: str) -> str:
    """Return an address without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


class ChatConfig(Stage):
    """Chat: call models behind the OpenAI protocol, `openai:MODEL` as expander or captioner."""

    base_url: str | None = Field(
        None, description="Address of the server, such as that of vLLM or Ollama; unset: OpenAI's."
    )
    temperature: float = Field(
        0.4, ge=0, description="Sampling temperature of the replies (appendix B)."
    )
    timeout: float = Field(
        60.0,
        gt=0,
        le=86400,
        description="Seconds without a whole reply after which a call is tried again.",
    )
    retries: int = Field(
        6,
        ge=0,
        description="How often a call is tried again, after 408, 409, 429, 5xx and no reply; each wait is longer.",
    )
    parallel: int = Field(4, ge=1, description="Number of calls at the same time.")
    prices: tuple[Price, Price] | None = Field(
        None, description="Dollars per million tokens, sent and received."
    )
    max_cost: float | None = Field(
        None,
        ge=0,
        description="Stop before a call could pass this number of dollars; needs `prices`.",
    )
    max_calls: int | None = Field(None, ge=0, description="Stop after this number of calls.")

    @property
    def server(self) -> str | None:
        """The address that is asked: `base_url`, else that of the environment; None for OpenAI's."""
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or None

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        if url is not None and not re.match(r"https?://[^/\s]", url):
            raise ValueError("must be an address such as http://localhost:8000/v1")
        return url

    @field_serializer("base_url")
    def _without_secrets(self, url: str | None) -> str | None:
        """Leave out of an address, wherever it is written, what may be a password."""
        return url and without_secrets(url)

    def decisive(self) -> dict[str, Any]:
        """Return the settings on which replies depend."""
        return {
            "base_url": self.server and without_secrets(self.server),
            "temperature": self.temperature,
        }

    @model_validator(mode="after")
    def _cost_needs_prices(self) -> ChatConfig:
        if self.max_cost is not None and self.prices is None:
            raise ValueError("max_cost needs prices: dollars per million tokens, sent and received")
        return self


class Config(Stage):
    """All settings of a run."""

    backbone: str = Field("clip:openai/clip-vit-base-patch16", description="Model to start from.")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:1`, `mps`.")
    keep_camel_case: bool = Field(
        False,
        description="Keep names in CamelCase, as UCF101 writes them, in prompts and bags; else they become words.",
    )
    normalisation: Literal["model", "imagenet"] = Field(
        "model",
        description="Pixel mean and std: the model's own, or ImageNet's as in the released code.",
    )
    resize_to: int | None = Field(
        None,
        ge=1,
        le=MANY_FRAMES,
        description="Short side to which frames are resized before the centre is cut out; unset: the model's own. The "
        "released code: 256, for crops of 224.",
    )
    seed: int = Field(
        0, ge=0, description="All random draws follow from it, the epoch and the video's id."
    )
    workers: int = Field(
        0,
        ge=0,
        le=1024,
        description="Processes that decode, and threads that read the cache; 0: one per core, at most 8.",
    )
    deadline: float = Field(
        60.0,
        gt=0,
        le=86400,
        description="Seconds after which decoding a video is given up, at the second try; one more for a MiB on disk.",
    )
    index: IndexConfig = IndexConfig()
    match: MatchConfig = MatchConfig()
    expand: ExpandConfig = ExpandConfig()
    caption: CaptionConfig = CaptionConfig()
    chat: ChatConfig = ChatConfig()
    bag: BagConfig = BagConfig()
    cache: CacheConfig = CacheConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @model_validator(mode="after")
    def _head_keeps_features(self) -> Config:
        if self.cache.format != "none" and self.train.trainable == "head":
            raise ValueError(
                f"cache.format {self.cache.format} and train.trainable head conflict: the head trains on stored "
                "features; leave out cache.format"
            )
        return self
