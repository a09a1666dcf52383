"""The documents of a run that are no tables of `records`: what is relied on in each, and checked when it is read.

Any of them may have been edited by hand. A document may hold more than what is declared here.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from maxi.errors import MaxiError
from maxi.files import read_json, read_json_lines


class Document(BaseModel):
    """A document, or a part of one; texts are not taken for numbers, and numbers are finite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


Interval = Annotated[tuple[float, float], Strict(False)]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Record(Document):
    """`NAME.meta.json`: the inputs that a file was made from, and the digest of its content."""

    inputs: dict[str, str]
    output: str


class Trained(Document):
    """`training.json`: the figures of a training, the file of its fine-tuned weights, and the model's digest."""

    steps: Count
    data_share: float
    finetuned: Annotated[str, Field(pattern=r"^(step|best)-\d+/(weights|average)\.safetensors$")]
    weights: str


class Gain(Document):
    """A difference to the frozen model in points, with its 95 % interval."""

    gain: float
    interval: Interval


class Gains(Document):
    """The gains in both measures."""

    top1: Gain
    top5: Gain


class Measured(Document):
    """A record of `results.json`: how well one model recognises the videos of one split."""

    model: str
    split: str
    n: Annotated[Count, Field(gt=0)]
    n_names: Count
    top1: Percent
    top1_interval: Interval
    top5: Percent
    top5_interval: Interval
    mean_per_class: Percent
    majority: Percent
    per_class: dict[str, Annotated[tuple[Count, Count], Strict(False)]]
    gain: Gains | None = None
    conditions: dict[str, Any] = {}


Results = Annotated[list[Measured], Field(min_length=1)]
"""`results.json`."""


class DatasetRow(Document):
    """A row of a dataset's results: the figures of one model, of one split, under one naming, and their conditions."""

    dataset: str
    split: str
    names: str
    part: str
    texts: str = "prompt"
    model: str
    n: Annotated[Count, Field(gt=0)]
    missing: Count
    conditions: dict[str, Any]


Answers = list[Annotated[tuple[str, float], Strict(False)]]
"""The best names of a model for one video, with their cosines."""


class Predicted(Document):
    """A row of `predictions.jsonl`."""

    video: str
    path: str | None = None
    label: str | None = None
    frozen: Answers = []
    adapted: Answers = []
    shuffled: Answers = []


class Judgement(Document):
    """A row of `judgements.jsonl`: what was answered of one video, by whom and when.

    `answer` is the name for the kind `name`, which need not be one of the run's. `none` says that no listed action is
    shown, `unsure` that nobody can tell, and `undo` takes back what was answered before. `probability` is that with
    which the video was drawn at each draw, where it was drawn at random. `like` is the id of the video whose answer was
    given to this one too, because it looks alike.
    """

    video: str
    kind: Literal["name", "none", "unsure", "undo"]
    answer: Annotated[str, Field(max_length=1000)] = ""
    by: str = "person"
    at: str = ""
    like: str = ""
    probability: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Judgement:
        if self.kind == "name" and not self.answer.strip():
            raise ValueError("the answer is empty")
        return self


class Asked(Document):
    """A row of `asked.jsonl`: a draw of a video that a person is to be asked about, and its probability."""

    video: str
    probability: Annotated[float, Field(gt=0, le=1)]


Estimated = Annotated[tuple[float, float, float], Strict(False)]
"""A figure and its 95 % interval."""


class Estimate(Document):
    """How right both models are in the collection, in percent, from the `n` judged videos that were drawn."""

    n: Count
    frozen: Estimated
    adapted: Estimated
    difference: Estimated
    more: str


Reliability = list[Annotated[tuple[float, float, Count], Strict(False)]]
"""Confidence and accuracy in percent, and the number of videos, of each bin."""


class Refinement(Document):
    """What `refinement.safetensors` says of itself beside its tensors."""

    weights: str
    names: Annotated[list[str], Field(min_length=1)]
    prompt: str
    tau: Annotated[float, Field(gt=0)]
    parts: dict[str, Annotated[float, Field(ge=0, le=1)]]
    fits: dict[str, Percent]
    limit: float | None
    wrong: float
    shares: list[Estimated]
    n: Count
    before: Percent
    after: Percent
    gain: float
    interval: Interval
    calibration: Interval
    reliability: Annotated[tuple[Reliability, Reliability], Strict(False)]
    estimate: Estimate | None
    n_none: Count
    n_none_found: Count
    n_judged: Count
    judges: dict[str, float] = {}

    @model_validator(mode="after")
    def _has_all_shares(self) -> Refinement:
        if len(self.shares) != len(self.names):
            raise ValueError("there is not one share for each name")
        return self


class VerifiedClip(Document):
    """A clip of the file that the page `verify.html` offers for download."""

    video: str
    frozen: bool | None
    adapted: bool | None
    names: dict[str, str]


class Verified(Document):
    """The file that the page `verify.html` offers for download: the clips that were judged."""

    judgements: list[VerifiedClip]


class Choices(Document):
    """What was chosen in a part of an annotation of Label Studio; other parts have no choices."""

    choices: list[str] = []


class LabelledPart(Document):
    """A part of an annotation of Label Studio."""

    value: Choices


class Annotation(Document):
    """An annotation of a task of Label Studio."""

    result: list[LabelledPart]
    was_cancelled: bool = False


class TaskData(Document):
    """What a task of Label Studio is about; `id` is what `maxi export` wrote, and other tasks have none."""

    id: str = ""


class Task(Document):
    """A task in Label Studio's JSON export."""

    data: TaskData
    annotations: list[Annotation]


class Stepped(Document):
    """A row of `train.jsonl`."""

    step: Count
    epoch: Count
    loss: float
    lr: float
    clips: Count
    seconds: float
    data_seconds: float


class Saved(Document):
    """`state.json` of a checkpoint: the next step, the training that it is of, and the log so far."""

    step: Count
    key: str
    log: list[Stepped]


class Layout(Document):
    """`model/config.json` of a model in Hugging Face layout."""

    architectures: Annotated[list[str], Field(min_length=1)]


class Beside(Document):
    """`model/maxi.json`: the settings that the other files of a model do not hold."""

    temporal_blocks: Count = 0


def read_document(path: Path, kind: Any) -> Any:
    """Read one JSON document of this kind. Raises MaxiError when it is missing, malformed or of another kind."""
    return check_document(read_json(path), kind, str(path))


def read_rows(path: Path, kind: Any) -> list[dict[str, Any]]:
    """Read the rows of a table; [] when there is no file. Raises MaxiError that names a malformed line."""
    if not path.is_file():
        return []
    return [check_document(row, kind, where) for where, row in read_json_lines(path)]


def check_document(data: Any, kind: Any, where: str) -> Any:
    """Return a document as it is. Raises MaxiError when it is of another kind; `where` names it."""
    try:
        _adapter(kind).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = " ".join(str(part) for part in first["loc"])
        raise MaxiError(
            f"{where}: not as maxi writes it ({place}: {first['msg']}); mend it, "
            "or remove the file and run the command that writes it again"
        ) from error
    return data


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
