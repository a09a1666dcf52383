"""Judge: a vision-language model answers for drawn videos, in place of a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from maxi.errors import MaxiError
from maxi.method.captioning import request
from maxi.method.judging import N_FRAMES, question, shortlist, verdict
from maxi.run import Run
from maxi.stages.asking import drawn
from maxi.stages.job import Job
from maxi.stages.judgements import UNSURE, add, error_rates
from maxi.text.chat import Chat


class Judged(NamedTuple):
    """What a model judged: how many videos, how many it could not tell, and what it cost in dollars."""

    n: int
    n_unsure: int
    cost: float


def judge_run(job: Job, spec: str, n: int) -> Judged:
    """Let `openai:MODEL` answer for at most `n` drawn videos, see `drawn`; every answer is kept.

    The model sees frames and a shortlist of names, in which nothing shows what the models of the run think. Raises
    MaxiError for another judge, and as `Chat` does; answers that came before are kept.
    """
    kind, _, model = spec.partition(":")
    if kind != "openai" or not model:
        raise MaxiError(
            f"--with {spec}: unknown judge; write openai:MODEL, a model that sees images"
        )
    chat = Chat(model, job.config.chat)
    chat.check()
    sample, videos = drawn(job, n, by=spec)
    places = {video.id: place for place, video in enumerate(sample.videos)}
    names, tables = job.names(), [sample.cosines(kind) for kind in sample.z_v]
    answers = job.decoder.map(request(video, N_FRAMES) for video in videos)
    shown = iter(job.progress(zip(videos, answers, strict=True), len(videos), "judge"))
    kinds: Counter[str] = Counter()
    while chunk := list(islice(shown, job.config.chat.parallel)):
        # What cannot be read cannot be judged.
        readable = [
            (video, frames) for video, (_, frames) in chunk if isinstance(frames, np.ndarray)
        ]
        lists = [
            shortlist(names, *(table[places[video.id]] for table in tables))
            for video, _ in readable
        ]
        questions = [
            question(list(frames), listed)
            for (_, frames), listed in zip(readable, lists, strict=True)
        ]
        replies = chat.ask_all(questions)
        for (video, _), listed, reply in zip(readable, lists, replies, strict=True):
            found = verdict(reply, listed)
            add(job.run, [{"video": video.id, "by": spec, **found._asdict()}])
            kinds[found.kind] += 1
    return Judged(kinds.total(), kinds["unsure"], chat.cost)


def lines_of(run: Run, spec: str, found: Judged) -> Iterator[str]:
    """Yield what a model judged, and how often it says the same as a person where both answered."""
    cost = f" for {found.cost:.2f} dollars" if found.cost else ""
    yield f"{found.n} videos judged{cost}, {found.n_unsure} of them as “{UNSURE}”"
    if found.n == found.n_unsure > 0:
        yield "no reply named an action: check that the model sees images"
    wrong, both = error_rates(run).get(spec, (0, 0))
    if both:
        yield f"of {both} videos that a person judged too, it says something else of {wrong}"
