"""What the figures for print share: their style, stacked bars, legends."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from testbed.report.palette import APPLICATION_ORDER, COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from testbed.analysis import Analysis

MOST_DEVICES = 16
"""More devices than these do not fit on a page."""
STYLE: Any = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.0,
    "legend.columnspacing": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "#d9dfe6",
    "lines.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "testbed",
    "figure.constrained_layout.use": True,
}
Cells = dict[str, dict[str, int]]
"""Device -> protocol -> bytes."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches, tied to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def device_names(analysis: Analysis) -> list[str]:
    """Return the devices that are drawn: the busiest ones, in the order of the tables."""
    busiest = sorted(analysis.devices, key=lambda row: -row.bytes)[:MOST_DEVICES]
    return [row.device for row in analysis.devices if row in busiest and row.packets]


def in_bytes(value: float, _: object = None) -> str:
    """Return the label of a tick: ``20 kB``, also for what is drawn downwards."""
    for unit in ("B", "kB", "MB"):
        if abs(value) < 1000:
            return f"{abs(value):g} {unit}"
        value /= 1000
    return f"{abs(value):g} GB"


def stack(
    axes: Axes, cells: Cells, names: Sequence[str], order: Sequence[str], *, share: bool = False
) -> None:
    """Draw horizontal stacked bars, the first device at the top."""
    left = [0.0] * len(names)
    for protocol in order:
        values = []
        for name in names:
            total = sum(cells.get(name, {}).values()) or 1
            value = cells.get(name, {}).get(protocol, 0)
            values.append(100.0 * value / total if share else float(value))
        if any(values):
            axes.barh(
                range(len(names)),
                values,
                left=left,
                height=0.72,
                color=COLOURS[protocol],
                label=protocol,
                edgecolor="white",
                linewidth=0.3,
            )
            left = [a + b for a, b in zip(left, values, strict=True)]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    if share:
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of bytes (%)")
    else:
        axes.xaxis.set_major_formatter(in_bytes)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("bytes")


def key_below(figure: Figure, axes: Sequence[Axes], columns: int = 10) -> None:
    """Give one legend to all axes, below them."""
    entries: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    labels = sorted(
        entries, key=lambda label: APPLICATION_ORDER.index(label) if label in APPLICATION_ORDER else 0
    )
    if entries:
        figure.legend([entries[label] for label in labels], labels, loc="outside lower center", ncols=columns)


def layer_cells(analysis: Analysis, layer: str) -> Cells:
    """Return bytes by device and protocol of a layer, both directions together."""
    out: Cells = defaultdict(dict)
    for row in analysis.protocols:
        if row.layer == layer:
            out[row.device][row.protocol] = out[row.device].get(row.protocol, 0) + row.bytes
    return out
