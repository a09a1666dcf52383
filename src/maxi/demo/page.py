"""The page of `maxi demo`: whether the method helped on actions that it never saw, and whether that test is fair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maxi.config import Config
from maxi.files import write_text
from maxi.miniature.actions import ACTIONS, N_KNOWN
from maxi.miniature.scenery import OBJECTS
from maxi.randomness import shuffled
from maxi.records import Bag, BagText, Match, Video, read_jsonl
from maxi.reports import figures
from maxi.reports.html import previews, render_page
from maxi.reports.tables import Rows, signed, source_kind
from maxi.run import Run
from maxi.video.sources import list_videos
from maxi.video.workers import Decoder

N_EXAMPLES, N_TEXTS = 8, 12
N_FRAMES, HEIGHT = 4, 120


class Model(NamedTuple):
    """The colour of a model in figures, and what it was trained on."""

    colour: str
    trained_on: str


OWN = "; a video's own bag is its only positive"
MODELS = {
    "frozen": Model("frozen", "nothing: the tiny CLIP as it was pre-trained"),
    "centred": Model(
        "frozen", "nothing; the mean over the unlabelled videos is subtracted from all features"
    ),
    "averaged_phrases": Model(
        "frozen",
        "nothing; the text of a class is the mean of its name and its phrases, also for unseen names",
    ),
    "even_gaussian": Model(
        "frozen",
        "nothing; transductive: all videos are answered together, as if all names were equally common among them",
    ),
    "adapted": Model("adapted", "full bags: phrases of the match, captions of the frames"),
    "adapted_instance": Model("adapted", f"full bags{OWN}"),
    "names_only": Model("adapted", "the matched name alone"),
    "names_only_instance": Model("adapted", f"the matched name alone{OWN}"),
    "names_phrases": Model("adapted", "bags of phrases, no captions"),
    "names_phrases_instance": Model("adapted", f"bags of phrases, no captions{OWN}"),
    "names_captions": Model("adapted", "bags of captions, no phrases"),
    "names_captions_instance": Model("adapted", f"bags of captions, no phrases{OWN}"),
    "shuffled": Model("control", "full bags, dealt out to other videos"),
    "permuted": Model("control", "names alone, each replaced everywhere by the same wrong one"),
    "true_labels": Model("ink", "full bags of the true action in place of the match"),
}
"""In the order of the page."""

COLOURS = {
    "frozen": "grey is not trained",
    "adapted": "green is trained without labels",
    "control": "orange is a control that should gain nothing on unseen actions",
    "ink": "black or white is trained with the true labels",
}


def write_showcase(
    folder: Path, records: Rows, facts: Rows, summary: Rows, pairs: Rows, config: Config
) -> Path:
    """Write `folder/report.html`, and return its path.

    `records` are those of `results.json`; `facts` say how good matches, captions and bags are, a row for each seed;
    `summary` and `pairs` are what `proof.summarise` and `proof.compare` return. Examples and links come from
    `folder/seed-K`, and are left out where it does not exist.
    """
    split = _split(summary)
    first = min(record["seed"] for record in records)
    seeds = sorted({record["seed"] for record in records})
    page = render_page(
        "showcase.html.j2",
        sentences=_outcome(records, summary),
        split=split,
        n_actions=len(ACTIONS),
        seeds=seeds,
        leaked=sum(row["unseen_names_in_bags"] for row in facts),
        signed=signed,
        accuracy=accuracy_figure(records, summary),
        key=_key(summary),
        models=_table(summary),
        pairs=[{**row, **{k: _title(row[k]) for k in ("model", "other")}} for row in pairs],
        changes=_changes(records, split, first),
        examples=_examples(folder / f"seed-{first}", first, config),
        facts=_facts(facts),
        settings=_settings(config),
        links=[link for link in _links(seeds) if (folder / link).is_file()],
    )
    path = folder / "report.html"
    write_text(path, [page])
    return path


def accuracy_figure(records: Rows, summary: Rows) -> str:
    """Draw top-1 of every model on the unseen actions, as inline SVG in the page's colours."""
    rows = _of_split(summary, _split(summary))
    bars = {
        _title(model): figures.Bar(row["top1"], row["interval"], _model(model).colour)
        for model, row in rows.items()
    }
    chance = 100 / _n_names(records, _split(summary))
    return figures.intervals(bars, x="top-1 % on unseen actions", chance=chance)


def _split(summary: Rows) -> str:
    """Return `unseen`, or `validation` for a demonstration on the actions on which settings are chosen."""
    return "unseen" if any(row["split"] == "unseen" for row in summary) else "validation"


def _of_split(summary: Rows, split: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a split by model, in the order of `MODELS`; models that it does not list come last."""
    rows = {row["model"]: row for row in summary if row["split"] == split}
    return {model: rows[model] for model in dict.fromkeys([*MODELS, *rows]) if model in rows}


def _model(name: str) -> Model:
    """Return the colour and the training of a model; a model that `MODELS` does not list is green."""
    return MODELS.get(name, Model("adapted", ""))


def _title(model: str) -> str:
    """Return the name of a model for people to read."""
    return model.replace("_", " ")


def _n_names(records: Rows, split: str) -> int:
    """Return the number of names among which the videos of a split are recognised."""
    return int(next(r["conditions"]["names"] for r in records if r["split"] == split))


def _outcome(records: Rows, summary: Rows) -> list[str]:
    """Return the first sentences of the page: the gain of the adapted model, and that of the control."""
    split = _split(summary)
    rows, n_names = _of_split(summary, split), _n_names(records, split)
    adapted, frozen = rows["adapted"], rows["frozen"]
    where, over = f"On {n_names} actions that no video, name, phrase or bag showed", "videos"
    if (n_trials := adapted["seeds"]) > 1:
        where = (
            f"In {n_trials} trials, each on {n_names} actions that no video, name, phrase or bag of the trial "
            "showed"
        )
        over = f"{n_trials} trials"
    sentences = [
        f"{where}, the adapted model is right on {adapted['top1']:.1f} % of {adapted['n']:,} videos, the model that "
        f"it started from on {frozen['top1']:.1f} %: {_gain(adapted)}. {_verdict(adapted, over)}."
    ]
    if control := rows.get("shuffled"):
        gains = control["gain_interval"][0] > 0
        sentences.append(
            "The shuffled control, trained on the same bags dealt out to other videos, changes by "
            f"{_gain(control)}. {_verdict(control, over)}"
            f"{', so that much of a gain does not come from the matches' if gains else ''}."
        )
    else:
        sentences.append(
            "No control with shuffled matches was trained here; “maxi demo --full” trains one."
        )
    return sentences


def _gain(row: Mapping[str, Any]) -> str:
    """Return a gain with its interval."""
    low, high = row["gain_interval"]
    return f"{signed(row['gain'])} points [{signed(low)}, {signed(high)}]"


def _verdict(row: Mapping[str, Any], over: str) -> str:
    """Say what the interval of a gain means; `over` names what was sampled, videos or trials."""
    low, high = row["gain_interval"]
    interval = f"The 95 % interval over the {over}"
    if low > 0:
        return f"{interval} excludes 0"
    if high < 0:
        return f"{interval} lies below 0: this model is worse than the one it started from"
    return f"{interval} includes 0: no gain can be told"


def _key(summary: Rows) -> str:
    """Say what the colours of the models in the figure mean."""
    used = {_model(model).colour for model in _of_split(summary, _split(summary))}
    return ", ".join(text for colour, text in COLOURS.items() if colour in used)


def _table(summary: Rows) -> Rows:
    """Return for each model what it was trained on, its summary on unseen actions, and its top-1 on other splits."""
    split = _split(summary)
    known, plain = _of_split(summary, "known"), _of_split(summary, f"{split}.plain")
    return [
        {
            **row,
            **_model(model)._asdict(),
            "title": _title(model),
            "known": known[model]["top1"] if model in known else None,
            "plain": plain[model]["top1"] if model in plain else None,
        }
        for model, row in _of_split(summary, split).items()
    ]


def _changes(records: Rows, split: str, seed: int) -> dict[str, Any]:
    """Return each action's accuracy before and after in one seed, from the largest gain to the largest loss."""
    per_class = {
        record["model"]: record["per_class"]
        for record in records
        if record["split"] == split and record["seed"] == seed
    }
    rows = {
        name: (_percent(*per_class["frozen"][name]), _percent(*counts))
        for name, counts in per_class["adapted"].items()
    }
    order = sorted(rows, key=lambda name: (rows[name][0] - rows[name][1], name))
    return {
        "seed": seed,
        "figure": figures.changes({name: rows[name] for name in order}, x="% right"),
        "better": sum(after > before for before, after in rows.values()),
        "worse": sum(after < before for before, after in rows.values()),
        "same": sum(after == before for before, after in rows.values()),
    }


def _percent(right: int, n: int) -> float:
    return 100 * right / n


def _examples(trial: Path, seed: int, config: Config) -> Rows:
    """Return some unlabelled videos with their match and bag, half of them matched wrongly if there are enough."""
    run, table = Run(trial / "run"), trial / "videos" / "pool.csv"
    if not all(path.is_file() for path in (table, run.manifest, run.matches, run.bags)):
        return []
    truth = {s.path.resolve(): s.label for s in list_videos(table) if s.path.is_file()}
    videos = {v.id: v for v in read_jsonl(run.manifest, Video) if Path(v.path).resolve() in truth}
    action = {id: truth[Path(video.path).resolve()] for id, video in videos.items()}
    matches = {m.video: m for m in read_jsonl(run.matches, Match) if m.kept and m.video in videos}
    bags = {bag.video: bag.texts for bag in read_jsonl(run.bags, Bag)}
    wrong = {id for id, match in matches.items() if match.name != action[id]}
    chosen = _half_wrong(shuffled(list(matches), "showcase", seed), wrong)
    with Decoder(config.workers, config.deadline) as decoder:
        strips = previews(decoder, [videos[id] for id in chosen], N_FRAMES, height=HEIGHT)
    return [
        {
            "frames": strips[id],
            "action": action[id],
            "match": matches[id],
            "bag": [(t.text, t.source, source_kind(t.source)) for t in _some(bags.get(id, ()))],
            "more": max(0, len(bags.get(id, ())) - N_TEXTS),
        }
        for id in chosen
    ]


def _half_wrong(order: Sequence[str], wrong: set[str]) -> list[str]:
    """Return the first ids in this order, half of them wrong; where one kind runs out, there are more of the other."""
    wrong_ids = [id for id in order if id in wrong]
    right_ids = [id for id in order if id not in wrong]
    n_wrong = min(len(wrong_ids), max(N_EXAMPLES // 2, N_EXAMPLES - len(right_ids)))
    chosen = set(wrong_ids[:n_wrong]) | set(right_ids[: N_EXAMPLES - n_wrong])
    return [id for id in order if id in chosen]


def _some(texts: Sequence[BagText]) -> list[BagText]:
    """Return texts spread over the whole length of a bag, so that every source has its turn."""
    step = max(1.0, len(texts) / N_TEXTS)
    return [texts[int(k * step)] for k in range(min(len(texts), N_TEXTS))]


def _facts(facts: Rows) -> list[tuple[str, str, str]]:
    """Return value, name and meaning of each fact on matches, captions and bags; for several seeds mean and range."""
    n_leaked = sum(row["unseen_names_in_bags"] for row in facts)
    n_texts = sum(row["texts_in_bags"] for row in facts)
    chance_name, chance_object = f"{100 / N_KNOWN:.1f} %", f"{100 / len(OBJECTS):.1f} %"
    shares = {
        "matching_accuracy": (
            "of the matches are right",
            f"Only the match names a video's action in training, and it is a guess; chance is {chance_name}.",
        ),
        "kept_accuracy": (
            "of the kept matches are right",
            "Only kept matches are trained on; the bags of wrong ones hold phrases of another action.",
        ),
        "caption_accuracy": (
            "of the videos have captions that fit their true action best",
            "The captioner says how a body is held and never what the action is called. "
            f"Chance is {chance_name}.",
        ),
        "object_accuracy": (
            "of the videos without the shift have their object named by the frozen model",
            "It shows whether the model can see at all before it is adapted; in videos the object says nothing "
            f"about the action. Chance is {chance_object}.",
        ),
    }
    # One trial lacks what only the proof measures.
    measured = [
        (_mean(facts, key), name, meaning)
        for key, (name, meaning) in shares.items()
        if key in facts[0]
    ]
    leak = (
        f"{n_leaked:,}",
        f"of {n_texts:,} texts in bags hold an unseen name",
        "It must be 0: an action whose name is in a bag is not unseen.",
    )
    return [*measured, leak]


def _mean(facts: Rows, key: str) -> str:
    """Return the mean of a percentage over the seeds, and for several seeds its range."""
    values = [row[key] for row in facts]
    mean = f"{np.mean(values):.1f} %"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f}–{max(values):.1f})"


def _settings(config: Config) -> list[tuple[str, Any, Any]]:
    """Return key, default and value of every setting that is not the default."""
    default, current = (_flat(c.model_dump(mode="json")) for c in (Config(), config))
    return [(key, default[key], value) for key, value in current.items() if value != default[key]]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, which are at most two deep, by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[key] = value
    return flat


def _links(seeds: Sequence[int]) -> list[str]:
    """Return the files that the page links to, if they exist."""
    names = ("report.html", "results.json")
    return ["results.json", *(f"seed-{seed}/run/{name}" for seed in seeds for name in names)]
