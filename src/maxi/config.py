"""Every setting of a run: one small model per stage, with the paper's recipe as defaults; `settings` reads them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Stage(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class IndexConfig(Stage):
    """Finding and probing the videos."""

    max_skipped: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Stop when more than this share (and more than 5) is unreadable.",
    )


class MatchConfig(Stage):
    """Match: each video to its nearest name (Eq. 1)."""

    n_frames: int = Field(
        16, ge=1, description="Frames per video, at segment centres (section 4.2)."
    )
    keep: float = Field(
        0.9, gt=0, le=1, description="p: share of the most confident matches kept (section 3.2)."
    )
    supervised: bool = Field(
        False,
        description="Take the videos' own labels for matches: for few-shot and supervised training alone.",
    )
    shots: int | None = Field(
        None,
        ge=1,
        description="K: with `supervised`, videos of each name that are kept, drawn by the seed.",
    )
    per_name: bool = Field(
        False, description="Keep the share p of each name's videos instead of p of all."
    )
    top_k: int = Field(
        1,
        ge=1,
        description="Names a video is matched to; above 1: soft matching, next names weigh less.",
    )
    tau: float = Field(
        0.02, gt=0, description="Of soft matching: a name d below the best weighs exp(-d / tau)."
    )
    templates: tuple[str, ...] | None = Field(
        None,
        description="Prompts averaged per name; unset: the 28 Kinetics templates (appendix B).",
    )

    @model_validator(mode="after")
    def _shots_need_labels(self) -> MatchConfig:
        if self.shots and not self.supervised:
            raise ValueError("shots and supervised conflict: shots are drawn from labelled videos")
        return self


class ExpandConfig(Stage):
    """Expand: phrases for each name."""

    expander: str = Field(
        "shipped+wordnet", description="Phrase sources, asked in order until there are `n_phrases`."
    )
    n_phrases: int = Field(5, ge=0, description="Phrases per name (appendix B).")


class CaptionConfig(Stage):
    """Expand: captions of each video's frames."""

    captioner: str = Field(
        "retrieval", description="Where captions come from; `none` leaves them out."
    )
    n_frames: int = Field(8, ge=1, description="Uniform frames captioned per video (appendix B).")


class BagConfig(Stage):
    """What goes into a text bag (section 3.2)."""

    phrases: bool = Field(
        True, description="Put the phrases of the match, and their verbs, in the bag."
    )
    captions: bool = Field(True, description="Put what the captions say in the bag.")
    caption_parts: Literal["verbs", "verbs+phrases", "nouns"] = Field(
        "verbs+phrases",
        description="Parts of captions that enter the bag (Figure 6 shows `verbs`; `nouns`: Table 6).",
    )
    weights: str | None = Field(
        None,
        description="File of texts, one a line, with a tab and a weight; without a weight the text is dropped.",
    )
    agree: str | None = Field(
        None,
        description="A second model: a text stays in a bag where it and the backbone both find it near the video.",
    )
    far: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="With `agree`: a text is near when the same text is less near for this share of the videos.",
    )


class CacheConfig(Stage):
    """Frames decoded once, for training."""

    format: Literal["none", "raw", "jpeg"] = Field(
        "none", description="How they are kept; `none`: training decodes the files in every epoch."
    )
    n_frames: int = Field(
        32,
        ge=1,
        description="Frames per video, at segment centres, among which a clip's are drawn.",
    )
    short_side: int = Field(
        256, ge=1, description="Their short side in pixels; smaller videos are not enlarged."
    )
    quality: int = Field(90, ge=1, le=100, description="Of JPEG.")


class TrainConfig(Stage):
    """Improve: fine-tuning on bags (section 3.3, 4.2)."""

    objective: str = Field(
        "mil_nce",
        description="`mil_nce` is Eq. 2; others of Table 7 and the released code's forms: docs/why/method.md.",
    )
    contrast: int | None = Field(
        None,
        ge=2,
        description="Videos contrasted with each other; unset: the whole batch (the released code: 16).",
    )
    text_to_video: bool = Field(
        False, description="Average the loss with that of every text against all videos."
    )
    trainable: Literal["all", "head", "visual", "text"] = Field(
        "all", description="What is trained; `head` trains on cached features of augmented views."
    )
    sigma: float = Field(0.02, gt=0, description="Temperature of Eq. 2 (section 4.2).")
    learn_sigma: bool = Field(
        False, description="Train the temperature, as the released code does."
    )
    n_bag: int = Field(16, ge=1, description="N_bag: texts drawn from a bag in each step.")
    n_frames: int = Field(16, ge=1, description="Frames per video, one random frame per segment.")
    crop_scales: tuple[float, ...] = Field(
        (1.0, 0.875, 0.75, 0.66),
        min_length=1,
        description="Sides of the training crop as shares of the short side, one drawn for each clip.",
    )
    n_views: int = Field(
        4, ge=1, description="Augmented views cached per video for `trainable=head`."
    )
    prompt: str = Field("a photo of {name}. {text}.", description="Training prompt (appendix B).")
    empty_prompt: str = Field(
        "a photo of {name}.", description="Prompt of a video with an empty bag."
    )
    batch_size: int = Field(256, ge=2, description="Videos contrasted with each other in a step.")
    micro_batch: int = Field(
        8,
        ge=1,
        description="Videos in one graph: bounds memory; loss and gradient stay the batch's.",
    )
    epochs: int = Field(10, ge=1, description="Passes over the kept videos.")
    lr: float = Field(5e-6, gt=0, description="Initial learning rate of AdamW.")
    min_lr: float = Field(5e-8, ge=0, description="Learning rate at the end of the cosine.")
    warmup_epochs: float = Field(
        0.0, ge=0, description="Epochs of linear warm-up before the cosine."
    )
    cosine_from: Literal["warmup", "start"] = Field(
        "warmup",
        description="Where the cosine begins; from the `start` it drops after the warm-up, as in the released code.",
    )
    betas: tuple[float, float] = Field((0.9, 0.98), description="AdamW's moment decay rates.")
    eps: float = Field(1e-8, gt=0, description="AdamW's denominator term.")
    weight_decay: float = Field(
        1e-3, ge=0, description="AdamW's decay, on every trained parameter."
    )
    alpha: float = Field(
        0.8,
        ge=0,
        le=1,
        description="Share of the fine-tuned weights in the result (0.8: section 4.2).",
    )
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="Of both encoders in training (autocast); `auto`: bfloat16 where the processor has it.",
    )
    temporal_blocks: int = Field(
        0,
        ge=0,
        description="Last blocks of the image tower that attend to neighbouring frames (appendix C.4); 0: as before.",
    )
    patch_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of each clip's patches that is not read in training: faster, other numbers.",
    )
    recompute: bool = Field(
        False,
        description="Gradient checkpointing: less memory, the blocks computed once more on the way back.",
    )
    compile: bool = Field(
        False, description="Compile the image encoder with torch.compile; needs a C++ compiler."
    )
    average: Literal["none", "ema", "swa"] = Field(
        "none",
        description="The result is an average: exponential, or of the ends of the second half's epochs.",
    )
    ema_decay: float = Field(0.99, gt=0, lt=1, description="Of `average=ema`, for each step.")
    distill: float = Field(
        0.0,
        ge=0,
        description="Weight of a second loss: one minus the cosine to the frozen model's own embeddings.",
    )
    graded_positives: bool = Field(
        False,
        description="With soft matching: bags of a video's next names are positives too, by their weight.",
    )
    curriculum: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the videos, the most confident, in the first epoch; all from half of the epochs on.",
    )
    holdout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the kept videos that is not trained on: its loss is logged after every epoch.",
    )
    result: Literal["last", "best"] = Field(
        "last", description="Weights that are ensembled; `best` of the validation loss."
    )
    checkpoint_seconds: float = Field(50.0, ge=0, description="At most this much training is lost.")
    keep_last: int = Field(2, ge=1, description="Checkpoints kept for resuming.")
    wandb: str | None = Field(
        None, description="Project at Weights & Biases that gets the figures of every step."
    )

    def decisive(self) -> dict[str, Any]:
        """The settings on which the weights depend."""
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
                        f"trainable head and {name} conflict: it trains on cached features"
                    )
        for name in ("{name}", "{text}"):
            if name not in self.prompt:
                raise ValueError(f"prompt must contain {name}")
        if "{name}" not in self.empty_prompt:
            raise ValueError("empty_prompt must contain {name}")
        return self


class EvalConfig(Stage):
    """Zero-shot evaluation: one view, one prompt (section 4.2)."""

    n_frames: int = Field(16, ge=1, description="Frames per video, at segment centres.")
    prompt: str = Field("a photo of {}.", description="Test prompt; `{}` is the action name.")
    name_texts: Literal["prompt", "templates", "phrases"] = Field(
        "prompt",
        description="A name's embedding: of the prompt alone, averaged over `match.templates`, or with its phrases.",
    )
    sample: int = Field(
        2000, ge=1, description="Unlabelled videos on which frozen and adapted are compared."
    )

    @model_validator(mode="after")
    def _prompt_has_a_name(self) -> EvalConfig:
        if "{}" not in self.prompt:
            raise ValueError("prompt must contain {}")
        return self


class ChatConfig(Stage):
    """Models behind the OpenAI protocol, for `openai:MODEL` as expander and captioner."""

    base_url: str | None = Field(
        None, description="Address of the server, such as that of vLLM or Ollama; unset: OpenAI's."
    )
    temperature: float = Field(0.4, ge=0, description="Of the replies (appendix B).")
    timeout: float = Field(
        60.0, gt=0, description="Seconds without a reply before a call is tried again."
    )
    retries: int = Field(
        6,
        ge=0,
        description="Further tries, waiting longer each time, on 408, 409, 429, 5xx and no reply.",
    )
    parallel: int = Field(4, ge=1, description="Calls under way at a time.")
    prices: tuple[float, float] | None = Field(
        None, description="Dollars per million tokens, in and out."
    )
    max_cost: float | None = Field(
        None, ge=0, description="Stop before a call could pass so many dollars; needs `prices`."
    )
    max_calls: int | None = Field(None, ge=0, description="Stop after so many calls.")

    @model_validator(mode="after")
    def _cost_needs_prices(self) -> ChatConfig:
        if self.max_cost is not None and self.prices is None:
            raise ValueError("max_cost needs prices: dollars per million tokens, in and out")
        return self


class Config(Stage):
    """All settings of a run."""

    backbone: str = Field("clip:openai/clip-vit-base-patch16", description="Model to start from.")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:1`, `mps`.")
    normalisation: Literal["model", "imagenet"] = Field(
        "model",
        description="Pixel mean and std: the model's own, or ImageNet's as in the released code.",
    )
    seed: int = Field(
        0, ge=0, description="Everything random follows from it, the epoch and the video."
    )
    workers: int = Field(
        0,
        ge=0,
        description="Processes that decode, and threads that read the cache; 0: one per core, at most 8.",
    )
    deadline: float = Field(
        60.0, gt=0, description="Seconds after which decoding one video is given up."
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
                f"cache.format {self.cache.format} and train.trainable head conflict: the head trains on features "
                "that are kept already; leave out the cache of frames"
            )
        return self
