"""Report: show what came out of a run, as a page, a model card, a page to judge clips on, and a few lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maxi.documents import Predicted, Results, read_document, read_rows
from maxi.method.metrics import with_interval
from maxi.reports.model_card import write_card
from maxi.reports.report import write_report
from maxi.reports.tables import best, both
from maxi.reports.verify import write_verify
from maxi.run import Run, contents, require
from maxi.stages.job import Job


def report_run(job: Job) -> Path:
    """Write `report.html`, and the card beside the model; return the path of the report.

    Raises MaxiError when the figures are those of an earlier training.
    """
    for path in (job.run.predictions, job.run.results):
        _require_current(job.run, path)
    if job.run.model.is_dir():
        write_card(job.run, job.config, job.names())
    return write_report(job.run, job.decoder, seed=job.config.seed)


def verify_run(job: Job, n: int) -> Path:
    """Write `verify.html`, on which a person judges `n` sampled clips, and return its path."""
    _require_current(job.run, job.run.predictions)
    return write_verify(job.run, job.decoder, n=n, seed=job.config.seed)


def _require_current(run: Run, path: Path) -> None:
    """Raise MaxiError when a file of the evaluation is older than the training."""
    if path.exists():
        require(path, "eval", {run.training.name: contents(run.training)})


def summary_of(run: Run) -> Iterator[str]:
    """Yield what came out of a finished run, a few lines for the terminal."""
    if run.results.exists():
        records = [r for r in read_document(run.results, Results) if r["split"] == "all"]
        yield f"{'model':10} {'top-1':>7} {'top-5':>7} {'per class':>10}   on {records[0]['n']} labelled videos"
        for r in records:
            gain = r.get("gain", {}).get("top1")
            paired = f"   top-1 {with_interval(gain['gain'], gain['interval'])}" if gain else ""
            yield f"{r['model']:10} {r['top1']:7.1f} {r['top5']:7.1f} {r['mean_per_class']:10.1f}{paired}"
    else:
        predictions = both(read_rows(run.predictions, Predicted))
        n_same = sum(best(r, "frozen") == best(r, "adapted") for r in predictions)
        yield (
            f"frozen and adapted agree on {n_same} of {len(predictions)} videos; no labels, so no gain is claimed"
        )
        yield f"judge a sample yourself: maxi open {run.folder}"
    yield f"model:  {run.model}"
    if run.report.exists():
        yield f"report: {run.report}"
