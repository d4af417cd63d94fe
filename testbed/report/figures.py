"""The paper's figures 2 to 10, drawn from an analysis for print: SVG and PNG.

Each is drawn only if the analysis has what it shows; `draw_figures` returns what there is. Figure 1 is a
drawing of the set-up, which no capture holds.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.analysis.bandwidth import iso
from testbed.errors import WorldError
from testbed.report.content import bandwidth_series
from testbed.report.palette import (
    APPLICATION_ORDER,
    COLOURS,
    RECEIVED,
    SENT,
    TRANSPORT_ORDER,
    WHOLE_COLOURS,
    WHOLE_ORDER,
)
from testbed.report.plots import (
    STYLE,
    Cells,
    device_names,
    in_bytes,
    key_below,
    layer_cells,
    new_figure,
    stack,
)
from testbed.report.summary import every

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

    from testbed.analysis import Analysis

COLUMN_IN, PAGE_IN = 3.4, 7.0
"""Widths of a column and of a page of a two-column paper, inches."""
DPI = 200
LEAST_SPECTRUM_S = 2 * 86_400
HIGHEST_LINE = 60.0


def draw_figures(analysis: Analysis, folder: str | Path) -> dict[str, str]:
    """Draw what there is into the folder; return each figure's name (without .svg, .png) and title.

    Raises WorldError when the folder cannot be written.
    """
    import matplotlib

    drawn: dict[str, str] = {}
    with matplotlib.rc_context():
        matplotlib.rcParams.update(STYLE)
        for name, title, draw in FIGURES:
            figure = draw(analysis)
            if figure is None:
                continue
            try:
                for kind in ("svg", "png"):
                    # Without a date, the same analysis gives the same bytes.
                    metadata = {"Date": None} if kind == "svg" else {"Software": None}
                    figure.savefig(Path(folder) / f"{name}.{kind}", dpi=DPI, metadata=metadata)
            except OSError as error:
                raise WorldError(f"{folder}: cannot be written: {error.strerror}") from error
            drawn[name] = title
    return drawn


def breakdown(analysis: Analysis) -> Figure | None:
    """Figure 2: the whole capture by protocol; each device by transport, and by application."""
    names = device_names(analysis)
    if not names:
        return None
    figure = new_figure(PAGE_IN, 0.9 + 0.17 * max(len(names), 12))
    whole, transport, application = figure.subplots(1, 3, width_ratios=(0.9, 1, 1.15))
    shown = sorted(
        (p for p in WHOLE_ORDER if analysis.protocol_bytes.get(p)), key=lambda p: -analysis.protocol_bytes[p]
    )
    total = sum(analysis.protocol_bytes.values())
    shares = [100 * analysis.protocol_bytes[p] / total for p in shown]
    whole.barh(range(len(shown)), shares, height=0.72, color=[WHOLE_COLOURS[p] for p in shown])
    for i, value in enumerate(shares):
        whole.text(
            value + 1, i, f"{value:.2g} %" if value < 10 else f"{value:.0f} %", va="center", fontsize=6
        )
    whole.set_yticks(range(len(shown)), shown)
    whole.set_ylim(len(shown) - 0.4, -0.6)
    whole.set_xlim(0, max(shares) * 1.25)
    whole.grid(axis="y", visible=False)
    whole.set_xlabel("share of bytes (%)")
    whole.set_title("(a) whole capture")
    stack(transport, layer_cells(analysis, "transport"), names, TRANSPORT_ORDER)
    transport.set_title("(b) by device and transport")
    transport.legend(loc="lower right", ncols=2)
    stack(application, layer_cells(analysis, "application"), names, APPLICATION_ORDER, share=True)
    application.tick_params(left=False, labelleft=False)
    application.set_title("(c) by device and application")
    key_below(figure, [application])
    return figure


def bandwidth(analysis: Analysis) -> Figure | None:
    """Figure 3: bytes sent (up) and received (down) in each window, one panel per device."""
    names = device_names(analysis)
    if not names or not analysis.bandwidth:
        return None
    import numpy as np

    series = bandwidth_series(analysis, names)
    step = series["step_s"]
    values = {name: np.array([both["sent"], both["received"]]) for name, both in series["devices"].items()}
    count = len(series["devices"][names[0]]["sent"])
    unit, word = (86_400.0, "days") if count * step > 2 * 86_400 else (3600.0, "hours")
    edges = np.arange(count + 1) * step / unit
    figure = new_figure(PAGE_IN, 0.35 + 0.95 * -(-len(names) // 2))
    panels = figure.subplots(-(-len(names) // 2), 2, sharex=True, squeeze=False)
    for name, axes in zip(names, panels.flat, strict=False):
        # The edges are drawn too: a single window of a week is narrower than a dot of the printer.
        axes.stairs(
            values[name][0], edges, fill=True, facecolor=SENT, edgecolor=SENT, linewidth=0.4, label="sent"
        )
        axes.stairs(
            -values[name][1],
            edges,
            fill=True,
            facecolor=RECEIVED,
            edgecolor=RECEIVED,
            linewidth=0.4,
            label="received",
        )
        sent, received = values[name].max(axis=1).tolist()
        margin = 0.06 * max(sent, received, 1.0)
        axes.set_ylim(-received - margin, sent + margin)
        axes.axhline(0, color="#566272", linewidth=0.5)
        axes.yaxis.set_major_formatter(in_bytes)
        axes.locator_params(axis="y", nbins=4)
        axes.set_xlim(0, edges[-1])
        axes.set_title(name, loc="left", pad=2)
    for axes in list(panels.flat)[len(names) :]:
        axes.set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel(f"{word} since {iso(series['begin_s'] * 10**9)[:16].replace('T', ' ')} UTC")
    figure.supylabel(f"bytes in {every(step)}", fontsize=7)
    key_below(figure, [panels[0][0]])
    return figure


def spectra(analysis: Analysis) -> Figure | None:
    """Figure 4: magnitude against cycles per week; dots are lines that chance does not explain."""
    if analysis.duration_s < LEAST_SPECTRUM_S:
        return None
    lines: dict[str, dict[str, list[tuple[float, float, bool]]]] = defaultdict(lambda: defaultdict(list))
    for row in analysis.periodicity:
        if row.cycles_per_week <= HIGHEST_LINE and row.protocol in APPLICATION_ORDER:
            lines[row.device][row.protocol].append((row.cycles_per_week, row.magnitude, row.significant))
    names = [name for name in device_names(analysis) if name in lines]
    if not names:
        return None
    figure = new_figure(PAGE_IN, 0.45 + 1.15 * -(-len(names) // 2))
    panels = figure.subplots(-(-len(names) // 2), 2, sharex=True, sharey=True, squeeze=False)
    for name, axes in zip(names, panels.flat, strict=False):
        for protocol in APPLICATION_ORDER:
            if protocol not in lines[name]:
                continue
            points = lines[name][protocol]
            axes.plot(
                [p[0] for p in points],
                [p[1] for p in points],
                color=COLOURS[protocol],
                label=protocol,
                linewidth=0.7,
            )
            peaks = [p for p in points if p[2]]
            axes.plot(
                [p[0] for p in peaks], [p[1] for p in peaks], ".", color=COLOURS[protocol], markersize=3.5
            )
        axes.set_title(name, loc="left", pad=2)
        axes.set_xlim(0, HIGHEST_LINE)
        axes.set_ylim(0, 1.05)
        axes.set_xticks(range(0, int(HIGHEST_LINE), 7))
    for axes in list(panels.flat)[len(names) :]:
        axes.set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("cycles per week")
    figure.supylabel("normalised magnitude", fontsize=7)
    key_below(figure, list(panels.flat))
    return figure


def places(analysis: Analysis) -> Figure | None:
    """Figure 5: share of windows in which each (device, protocol) spoke to each country or US state.

    NTP is left to Figure 6, as in the paper.
    """
    from matplotlib.colors import LinearSegmentedColormap

    cells: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in analysis.places:
        if row.protocol in APPLICATION_ORDER and row.protocol != "NTP":
            cells[row.device, row.protocol][row.country] = row.active_windows_pct
    order = device_names(analysis)
    rows = sorted(
        (key for key in cells if key[0] in order),
        key=lambda key: (order.index(key[0]), APPLICATION_ORDER.index(key[1])),
    )
    countries = sorted({country for key in rows for country in cells[key]})
    if not rows:
        return None
    figure = new_figure(max(COLUMN_IN, 1.9 + 0.24 * len(countries)), 0.9 + 0.15 * len(rows))
    axes = figure.subplots()
    shade = LinearSegmentedColormap.from_list("activity", ["#e3eef7", "#56a0d3", "#08306b"])
    points = [
        (x, y, cells[key][c])
        for y, key in enumerate(rows)
        for x, c in enumerate(countries)
        if c in cells[key]
    ]
    image = axes.scatter(
        [p[0] for p in points],
        [p[1] for p in points],
        c=[p[2] for p in points],
        s=62,
        marker="s",
        cmap=shade,
        vmin=0,
        vmax=100,
        linewidths=0.3,
        edgecolors="#8fa3b5",
    )
    axes.set_xticks(range(len(countries)), countries, rotation=90)
    axes.set_yticks(range(len(rows)), [f"{device}  {protocol}" for device, protocol in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-0.6, len(countries) - 0.4)
    figure.colorbar(image, ax=axes, label="active windows (%)", aspect=30, pad=0.02)
    return figure


def clocks(analysis: Analysis) -> Figure | None:
    """Figure 6: where the time servers are that each device spoke to."""
    from matplotlib.collections import PolyCollection

    from testbed.report.atlas import HEIGHT, WIDTH, coasts, project

    per: dict[str, dict[tuple[float, float], int]] = defaultdict(lambda: defaultdict(int))
    for row in analysis.services:
        if row.protocol == "NTP" and row.latitude is not None and row.longitude is not None:
            per[row.device][row.latitude, row.longitude] += row.packets
    names = [name for name in device_names(analysis) if name in per]
    if not names:
        return None
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(
        PAGE_IN if columns > 1 else COLUMN_IN * 1.4, 0.3 + rows * (PAGE_IN / 2 * HEIGHT / WIDTH + 0.2)
    )
    panels = figure.subplots(rows, columns, squeeze=False)
    for name, axes in zip(names, panels.flat, strict=False):
        axes.add_collection(
            PolyCollection([list(ring) for ring in coasts()], facecolors="#dfe5ea", edgecolors="none")
        )
        greatest = max(per[name].values())
        spots = [(project(*place), packets) for place, packets in per[name].items()]
        axes.scatter(
            [p[0][0] for p in spots],
            [p[0][1] for p in spots],
            s=[6 + 70 * p[1] / greatest for p in spots],
            color=COLOURS["NTP"],
            alpha=0.65,
            linewidths=0.4,
            edgecolors="white",
        )
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(HEIGHT, 0)
        axes.set_aspect("equal")
        axes.axis("off")
        axes.set_title(f"{name}: {len(spots)} {'place' if len(spots) == 1 else 'places'}", loc="left", pad=2)
    for axes in list(panels.flat)[len(names) :]:
        axes.set_visible(False)
    return figure


def _states(analysis: Analysis, numbers: Sequence[int]) -> Figure | None:
    """Draw transport and application bytes of each device in the states with these numbers."""
    spans = [(number, [s for s in analysis.state_spans if s.number == number]) for number in numbers]
    spans = [(number, states) for number, states in spans if states]
    if not spans:
        return None
    names = device_names(analysis)
    figure = new_figure(PAGE_IN, 0.45 + len(spans) * (0.55 + 0.15 * len(names)))
    panels = figure.subplots(len(spans), 2, squeeze=False)
    letter = iter("abcdefgh")
    for (number, states), (left, right) in zip(spans, panels, strict=True):
        wanted = {state.name: state.device for state in states}
        for axes, layer, order in (
            (left, "transport", TRANSPORT_ORDER),
            (right, "application", APPLICATION_ORDER),
        ):
            cells: Cells = defaultdict(dict)
            for row in analysis.states:
                if row.state in wanted and row.layer == layer and wanted[row.state] in (None, row.device):
                    cells[row.device][row.protocol] = cells[row.device].get(row.protocol, 0) + row.bytes
            stack(axes, cells, names, order)
            what = states[0].name if len(states) == 1 else "first five minutes of each device"
            axes.set_title(f"({next(letter)}) #{number} {what}: {layer}")
        right.tick_params(left=False, labelleft=False)
        left.legend(loc="lower right", ncols=2)
    key_below(figure, [row[1] for row in panels])
    return figure


def outage(analysis: Analysis) -> Figure | None:
    """Figure 7: the states #2 (Internet gone) and #3 (Internet back)."""
    return _states(analysis, (2, 3))


def router_on(analysis: Analysis) -> Figure | None:
    """Figure 8: the state #5 (router back, Internet still gone)."""
    return _states(analysis, (5,))


def all_back(analysis: Analysis) -> Figure | None:
    """Figure 9: the state #6 (Internet back after the router's restart)."""
    return _states(analysis, (6,))


def restarted(analysis: Analysis) -> Figure | None:
    """Figure 10: the state #7, the first five minutes of each device after its restart."""
    return _states(analysis, (7,))


FIGURES: tuple[tuple[str, str, Callable[[Analysis], Figure | None]], ...] = (
    ("figure-02-protocols", "Traffic by protocol and device", breakdown),
    ("figure-03-bandwidth", "Bandwidth of each device", bandwidth),
    ("figure-04-periodicity", "Periodicity of each device's activity", spectra),
    ("figure-05-places", "Where each device's services are, and how active", places),
    ("figure-06-ntp", "Places of the time servers", clocks),
    ("figure-07-internet-off-and-back", "Traffic in the states #2 and #3", outage),
    ("figure-08-router-on", "Traffic in the state #5", router_on),
    ("figure-09-all-back", "Traffic in the state #6", all_back),
    ("figure-10-restarted", "Traffic in the state #7", restarted),
)
"""Name of the files, title, and what draws it."""
