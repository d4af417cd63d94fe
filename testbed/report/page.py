"""The report: one HTML file that shows everything and asks the network for nothing."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.errors import WorldError
from testbed.report.atlas import HEIGHT, WIDTH, outline
from testbed.report.content import MOST_ROWS, content
from testbed.report.palette import COLOURS, RECEIVED, SENT, WHOLE_COLOURS
from testbed.report.summary import every, facts, glance, sentences, size
from testbed.validation.text import number, threshold

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.analysis import Analysis
    from testbed.validation import Validation

NAME = "report.html"


def write_report(
    analysis: Analysis,
    folder: str | Path,
    *,
    title: str = "",
    validation: Validation | None = None,
    figures: Mapping[str, str] | None = None,
) -> Path:
    """Write `report.html` into the folder and return its path.

    `title` says what was captured, `figures` names the files of the figures beside the report, with
    what they show. Raises WorldError when the folder cannot be written.
    """
    path = Path(folder) / NAME
    try:
        path.write_text(
            render(analysis, title=title, validation=validation, figures=figures), encoding="utf-8"
        )
    except OSError as error:
        raise WorldError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def render(
    analysis: Analysis,
    *,
    title: str = "",
    validation: Validation | None = None,
    figures: Mapping[str, str] | None = None,
) -> str:
    """Return the report as HTML."""
    import jinja2

    shipped = files("testbed.report")
    world = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    world.filters.update(size=size, every=every, number=lambda value: f"{value:,}")
    colours = {"colours": COLOURS, "whole_colours": WHOLE_COLOURS, "sent": SENT, "received": RECEIVED}
    data = content(analysis) | colours
    captures = [Path(name).name for name in analysis.captures]
    return world.from_string((shipped / "report.html.j2").read_text(encoding="utf-8")).render(
        title=title
        or ", ".join(captures[:3]) + (f" and {len(captures) - 3} more" if len(captures) > 3 else ""),
        captures=captures,
        analysis=analysis,
        facts=facts(analysis),
        sentences=sentences(analysis),
        glance=glance(analysis, data["devices"]),
        data=data,
        json=_embedded(data),
        matrix=_matrix(analysis, data["devices"]),
        outline=outline(),
        width=WIDTH,
        height=HEIGHT,
        most_rows=MOST_ROWS,
        validation=validation,
        value=number,
        threshold=threshold,
        figures=figures or {},
        style=(shipped / "report.css").read_text(encoding="utf-8"),
        script=(shipped / "report.js").read_text(encoding="utf-8"),
    )


def _embedded(data: dict[str, Any]) -> str:
    """Return JSON that no name in the data can break out of the script element with."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _matrix(analysis: Analysis, names: list[str]) -> dict[str, Any]:
    """Return Table 3 as a grid: what each device keeps and loses without the Internet."""
    from testbed.capture.frame import APPLICATIONS

    rows = [row for row in analysis.dependencies if row.device in names]
    used = {name for row in rows for name in (*row.continued.split(";"), *row.disrupted.split(";"))}
    columns = [name for name in APPLICATIONS if name in used]
    grid = []
    for row in rows:
        kept, lost, answered = (set(text.split(";")) for text in (row.continued, row.disrupted, row.answered))
        cells = [
            "answered"
            if name in kept & answered
            else "tried"
            if name in kept
            else "lost"
            if name in lost
            else ""
            for name in columns
        ]
        grid.append((row.device, row.functionality, cells))
    return {"columns": columns, "rows": grid, "state": rows[0].states if rows else ""}
