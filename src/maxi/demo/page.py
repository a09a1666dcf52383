"""The page of `maxi demo`: whether the method helped on actions it never saw, and whether that test was fair."""

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
    "centred": Model("frozen", "nothing; the mean of the unlabelled videos is taken off features"),
    "averaged_phrases": Model(
        "frozen",
        "nothing; class texts are means of a name and its phrases, which it has for unseen ones too",
    ),
    "adapted": Model("adapted", "full bags: phrases of the match, captions of the frames"),
    "adapted_instance": Model("adapted", f"full bags{OWN}"),
    "names_only": Model("adapted", "the matched name alone"),
    "names_only_instance": Model("adapted", f"the matched name alone{OWN}"),
    "names_phrases": Model("adapted", "bags of phrases, no captions"),
    "names_phrases_instance": Model("adapted", f"bags of phrases, no captions{OWN}"),
    "names_captions": Model("adapted", "bags of captions, no phrases"),
    "names_captions_instance": Model("adapted", f"bags of captions, no phrases{OWN}"),
    "shuffled": Model("control", "full bags, dealt to other videos"),
    "permuted": Model("control", "names alone, each replaced by another one throughout"),
    "true_labels": Model("ink", "full bags of the true action in place of the match"),
}
"""In the order of the page. What has the colour `frozen` is not trained, `ink` is told the labels."""

COLOURS = {
    "frozen": "grey is not trained",
    "adapted": "green is trained without labels",
    "control": "orange is a control that should gain nothing on unseen actions",
    "ink": "black or white is told the true labels",
}


def write_showcase(
    folder: Path, records: Rows, facts: Rows, summary: Rows, pairs: Rows, config: Config
) -> Path:
    """Write `folder/report.html` from a demonstration's records, facts of its seeds, summary, and compared pairs.

    Examples and links come from `folder/seed-K` and are left out where it is not there.
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
    """Top-1 of every model on the unseen actions, as inline SVG in the page's colours."""
    rows = _of_split(summary, _split(summary))
    bars = {
        _title(model): figures.Bar(row["top1"], row["interval"], _model(model).colour)
        for model, row in rows.items()
    }
    chance = 100 / _n_names(records, _split(summary))
    return figures.intervals(bars, x="top-1 % on unseen actions", chance=chance)


def _split(summary: Rows) -> str:
    """`unseen`, or `validation` of a demonstration on the actions on which settings are chosen."""
    return "unseen" if any(row["split"] == "unseen" for row in summary) else "validation"


def _of_split(summary: Rows, split: str) -> dict[str, dict[str, Any]]:
    """The rows of a split by model, in the order of `MODELS`; models that it lacks come last."""
    rows = {row["model"]: row for row in summary if row["split"] == split}
    return {model: rows[model] for model in dict.fromkeys([*MODELS, *rows]) if model in rows}


def _model(name: str) -> Model:
    return MODELS.get(name, Model("adapted", ""))


def _title(model: str) -> str:
    return model.replace("_", " ")


def _n_names(records: Rows, split: str) -> int:
    return int(next(r["conditions"]["names"] for r in records if r["split"] == split))


def _outcome(records: Rows, summary: Rows) -> list[str]:
    split = _split(summary)
    rows, names = _of_split(summary, split), _n_names(records, split)
    row, frozen = rows["adapted"], rows["frozen"]
    where, over = f"On {names} actions that no video, name, phrase or bag showed", "videos"
    if (trials := row["seeds"]) > 1:
        where = f"In {trials} trials, on {names} actions each that no video, name, phrase or bag of the trial showed"
        over = f"{trials} trials"
    said = [
        f"{where}, the adapted model is right on {row['top1']:.1f} % of {row['n']:,} videos, the one it started "
        f"from on {frozen['top1']:.1f} %: {_gain(row)}. {_verdict(row, over)}."
    ]
    if control := rows.get("shuffled"):
        beware = control["gain_interval"][0] > 0
        said.append(
            "The shuffled control, trained on the same bags dealt to other videos, changes by "
            f"{_gain(control)}. {_verdict(control, over)}"
            f"{', so that much of a gain is not owed to the matches' if beware else ''}."
        )
    else:
        said.append(
            "No control with shuffled matches was trained here; “maxi demo --full” trains one."
        )
    return said


def _gain(row: Mapping[str, Any]) -> str:
    low, high = row["gain_interval"]
    return f"{signed(row['gain'])} points [{signed(low)}, {signed(high)}]"


def _verdict(row: Mapping[str, Any], over: str) -> str:
    low, high = row["gain_interval"]
    interval = f"The 95 % interval over the {over}"
    if low > 0:
        return f"{interval} excludes 0"
    if high < 0:
        return f"{interval} lies below 0: this model is worse than the one it started from"
    return f"{interval} includes 0: no gain can be told"


def _key(summary: Rows) -> str:
    """What the colours of the models in the figure mean."""
    used = {_model(model).colour for model in _of_split(summary, _split(summary))}
    return ", ".join(text for colour, text in COLOURS.items() if colour in used)


def _table(summary: Rows) -> Rows:
    """Per model what it was trained on, its summary on unseen actions, and its top-1 elsewhere."""
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
    """Each action's accuracy before and after in one seed, from the largest gain to the largest loss."""
    tables = {
        record["model"]: record["per_class"]
        for record in records
        if record["split"] == split and record["seed"] == seed
    }
    rows = {
        name: (_percent(*tables["frozen"][name]), _percent(*right))
        for name, right in tables["adapted"].items()
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
    """Some videos of the pool with their match and bag, half of them matched wrongly if there are so many."""
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
    """The first examples in this order of which half are wrong, and more of the others where one kind runs out."""
    missed = [id for id in order if id in wrong]
    rest = [id for id in order if id not in wrong]
    n_missed = min(len(missed), max(N_EXAMPLES // 2, N_EXAMPLES - len(rest)))
    chosen = {*missed[:n_missed], *rest[: N_EXAMPLES - n_missed]}
    return [id for id in order if id in chosen]


def _some(texts: Sequence[BagText]) -> list[BagText]:
    """Texts from the whole length of a bag, so that every source has its turn."""
    step = max(1.0, len(texts) / N_TEXTS)
    return [texts[int(k * step)] for k in range(min(len(texts), N_TEXTS))]


def _facts(facts: Rows) -> list[tuple[str, str, str]]:
    """Value, name and meaning of what is known of matches, captions and bags; of several seeds mean and range."""
    leaked, texts = (
        sum(row[key] for row in facts) for key in ("unseen_names_in_bags", "texts_in_bags")
    )
    names, things = f"{100 / N_KNOWN:.1f} %", f"{100 / len(OBJECTS):.1f} %"
    shares = {
        "matching_accuracy": (
            "of the matches are right",
            f"The match is all that names a video's action in training, and it is a guess; chance is {names}.",
        ),
        "kept_accuracy": (
            "of the kept matches are right",
            "Only kept matches are trained on; the bags of wrong ones hold phrases of another action.",
        ),
        "caption_accuracy": (
            "of the videos can be told by their captions",
            "The captioner says how a body is held and never what the action is called; this is how often its "
            f"captions fit the true action best. Chance is {names}.",
        ),
        "object_accuracy": (
            "of videos without the shift have their object named by the frozen model",
            "It tells whether the model can see at all before it is adapted; in videos the object says nothing "
            f"about the action. Chance is {things}.",
        ),
    }
    return [
        # What the proof alone measures is not known of one trial.
        *((_mean(facts, key), *text) for key, text in shares.items() if key in facts[0]),
        (
            f"{leaked:,}",
            f"of {texts:,} texts in bags hold an unseen name",
            "It must be 0: with its name in a bag, an action is unseen no more.",
        ),
    ]


def _mean(facts: Rows, key: str) -> str:
    values = [row[key] for row in facts]
    mean = f"{np.mean(values):.1f} %"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f}–{max(values):.1f})"


def _settings(config: Config) -> list[tuple[str, Any, Any]]:
    """Key, default and value of every setting that is not the default."""
    default, here = (_flat(c.model_dump(mode="json")) for c in (Config(), config))
    return [(key, default[key], value) for key, value in here.items() if value != default[key]]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of settings that are at most two deep."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= (
            {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
        )
    return flat


def _links(seeds: Sequence[int]) -> list[str]:
    files = [
        f"seed-{seed}/run/{name}" for seed in seeds for name in ("report.html", "results.json")
    ]
    return ["results.json", *files]
