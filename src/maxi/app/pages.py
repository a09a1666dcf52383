"""The pages: filled templates, which load their scripts and styles from the server."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from maxi.app.desk import Desk
from maxi.app.editing import to_rerun
from maxi.files import digest
from maxi.reports.html import render_page
from maxi.reports.refinement import lines_of, load_refinement
from maxi.run import contents
from maxi.stages.report import summary_of
from maxi.stages.status import next_step

PAGES = {
    "/": "overview",
    "/judge": "judge",
    "/bags": "bags",
    "/search": "search",
    "/classify": "classify",
}


def page(desk: Desk, name: str) -> str:
    """Return a page as HTML; every value is escaped."""
    more = _overview(desk) if name == "overview" else {}
    return _filled(desk, name, rerun=to_rerun(desk) if name == "bags" else None, **more)


def error_page(desk: Desk, name: str, sentence: str) -> str:
    """Return what stands in place of a page that cannot be shown."""
    return _filled(desk, name, template="error", sentence=sentence)


def _filled(desk: Desk, name: str, template: str = "", **context: Any) -> str:
    return render_page(
        f"{template or name}.html.j2",
        room="maxi.app",
        run=desk.run.folder.resolve().name,
        run_folder=desk.run.folder,
        page=name,
        pages=[(path, of_page, of_page.capitalize()) for path, of_page in PAGES.items()],
        names=desk.names,
        **context,
    )


def _overview(desk: Desk) -> dict[str, Any]:
    run = desk.run
    with desk.models:
        step = next_step(desk.job)
        loaded = load_refinement(run)
    return {
        "step": step,
        "is_new": contents(run.training) != desk.trained,
        "summary": list(summary_of(run)),
        "refined": list(lines_of(loaded.facts)) if loaded else [],
        "n_videos": len(desk.videos),
        "n_names": len(desk.names),
        "has_report": run.report.is_file(),
        "report": f"/report?of={digest(contents(run.report))}",
    }


def style() -> str:
    """Return the styles of all pages: those of the reports, and what the pages add."""
    of_reports = files("maxi.reports") / "templates" / "style.css"
    of_pages = files("maxi.app") / "static" / "app.css"
    return of_reports.read_text(encoding="utf-8") + of_pages.read_text(encoding="utf-8")
