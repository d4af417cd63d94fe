"""The paper's tables and figures beside ours: which claims belong to which, and ours as pictures."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, NamedTuple

from testbed.reproduction.measures.base import SHORT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from testbed.reproduction.verdict import Result

FIGURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "figure-02": ("Figure 2: protocols", ("P-3.1",)),
    "figure-03": ("Figure 3: bandwidth over a week", tuple(f"P-3.2-{n:02d}" for n in range(1, 25))),
    "figure-04": ("Figure 4: periodicity", tuple(f"P-3.2-{n:02d}" for n in range(25, 60))),
    "figure-05": ("Figure 5: places", tuple(f"P-3.3-{n:02d}" for n in range(7, 14))),
    "figure-06": ("Figure 6: time servers", tuple(f"P-3.3-{n:02d}" for n in (1, 2, 3, 4, 5, 6, 14, 15))),
    "figure-07": ("Figure 7: the Internet gone and back (states 2 and 3)", ("P-4.2", "P-4.3")),
    "figure-08": ("Figure 8: the router on again without the Internet (state 5)", ("P-4.5",)),
    "figure-09": ("Figure 9: the Internet back after that (state 6)", ("P-4.6",)),
    "figure-10": ("Figure 10: devices restarted (state 7)", ("P-4.7",)),
}
"""Name of our drawing, title, and the ids (or their beginnings) of the claims about the paper's."""
ROWS = ("class and link", "protocols", "security", "power", "mean rate")
"""Of Table 1, in the order of its claims."""


class Side(NamedTuple):
    """One figure: ours, and the claims about the paper's."""

    title: str
    picture: str
    """A data URL."""
    results: list[Result]


class Grid(NamedTuple):
    """A table of the paper: for each row and column the claim that is about it."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[Result]]]


def sides(results: Sequence[Result], folder: Path) -> list[Side]:
    """Return the figures that were drawn below `folder`, with their claims."""
    out = []
    for name, (title, ids) in FIGURES.items():
        found = sorted(folder.glob(f"*/{name}-*.png"))
        if not found:
            continue
        # Both runs have protocols and bandwidth; the paper took its month, so ours is the week.
        path = next((path for path in found if path.parent.name == "week"), found[0])
        if name in ("figure-07", "figure-08", "figure-09", "figure-10"):
            path = next((path for path in found if path.parent.name == "states"), found[0])
        picture = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        out.append(Side(title, picture, [r for r in results if r.claim.id.startswith(ids)]))
    return out


def grids(results: Sequence[Result]) -> list[Grid]:
    """Return Table 1, Table 2 and Table 3 of the paper with what we measured."""
    by_id = {result.claim.id: result for result in results}

    def rows(prefix: str, first: int, step: int, names: Sequence[str]) -> list[tuple[str, list[Result]]]:
        found = []
        for number, name in enumerate(names):
            ids = [f"{prefix}-{first + number * step + column:02d}" for column in range(step)]
            if all(one in by_id for one in ids):
                found.append((name, [by_id[one] for one in ids]))
        return found

    table_3 = (
        "hive_hub", "foobot", "hs110_plug", "google_home_mini", "echo_dot", "arlo_base", "nest_protect",
        "dlink_motion",
    )  # fmt: skip
    all_grids = (
        Grid(
            "Table 1: devices and their traffic", list(ROWS), rows("P-T1", 1, len(ROWS), list(SHORT.values()))
        ),
        Grid("Table 2: states", ["what is on"], rows("P-4.0", 1, 1, [f"#{n}" for n in range(1, 8)])),
        Grid(
            "Table 3: services without the Internet",
            ["continued", "disrupted"],
            rows("P-T3", 2, 2, [SHORT[name] for name in table_3]),
        ),
    )
    return [grid for grid in all_grids if grid.rows]
