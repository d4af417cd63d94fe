"""What measurements may look at: the analyser's tables of a capture, `run.json`, and the function log.

- Tables come from `testbed.analysis` alone. Every state also has a *settled* twin that leaves out
  its first five minutes, in which kernels give up what was under way; months are split into days.
- State #1 is the mean hour of the week, where one was played (the paper took the whole month), else
  the hour of state #1.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from testbed.analysis import analyse
from testbed.analysis.run import State, load_run, parse_time
from testbed.errors import UserError, WorldError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from testbed.analysis import Analysis
    from testbed.analysis.rows import LineRow

When = Literal["week", "month", "S1", "S2", "S3", "S4", "S5", "S6", "S7"]
"""Where to look: the steady week, the month, or one of the states of the paper's Table 2."""

SETTLE_NS = 300 * 10**9
SETTLED = " settled"
DAY_NS = 86_400 * 10**9
WEEK_HOURS = 168.0
TRANSPORTS = ("TCP", "UDP", "ICMP", "ICMPv6", "IGMP", "ARP", "other")
BROAD = {"all": TRANSPORTS, "IP": tuple(name for name in TRANSPORTS if name != "ARP")}
"""Words for sums of transports: every frame, and every IP packet."""

TABLES = ("devices", "protocols", "states", "spikes", "periodicity", "periods", "services", "places",
          "state_services", "dependencies", "bandwidth")  # fmt: skip


class NotMeasured(Exception):
    """The evidence that a measurement needs is not there; the text says which."""


class Shown(NamedTuple):
    """A change of what a device's user sees, from the device's own log."""

    time_ns: int
    device: str
    outcome: str
    """works, partial or off-line."""
    local: str
    """What still works without any service."""


class Amount(NamedTuple):
    """Frames and their bytes."""

    packets: float
    bytes: float


@dataclass(frozen=True)
class Findings:
    """One run, as the analyser sees it."""

    manifest: dict[str, Any]
    """`run.json`."""
    tables: dict[str, list[Any]]
    """The analyser's tables by name (`testbed.analysis.rows`)."""
    shown: list[Shown] = field(default_factory=list)
    payloads: dict[tuple[str, str], Amount] = field(default_factory=dict)
    """TCP segments with payload that each device sent, by device and application; bytes of payload."""
    paper_week: list[LineRow] = field(default_factory=list)
    """Of a month: the spectra of the week that the paper transformed (3 to 10 April)."""
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def totals(self) -> dict[str, dict[tuple[str, str, str], Amount]]:
        """Amounts by state (empty: the whole capture), then by device, protocol and direction."""
        out: dict[str, dict[tuple[str, str, str], Amount]] = defaultdict(dict)
        for row in self.tables.get("protocols", ()):
            out[""][row.device, row.protocol, row.direction] = Amount(row.packets, row.bytes)
        for row in self.tables.get("states", ()):
            out[row.state][row.device, row.protocol, row.direction] = Amount(row.packets, row.bytes)
        return out

    @property
    def duration_s(self) -> float:
        """Length of the capture."""
        return (parse_time(self.manifest["end"]) - parse_time(self.manifest["begin"])) / 1e9

    def statistics(self) -> list[dict[str, Any]]:
        """Return the entries of the devices in the paper's statistics (the eight that speak IP)."""
        return [entry for entry in self.manifest["devices"] if entry.get("in_statistics")]

    def state(self, number: int, device: str | None = None) -> dict[str, Any]:
        """Return the first state with the paper's number (of #7: the device's own); NotMeasured if none."""
        for state in self.manifest["states"]:
            if state["number"] == number and state.get("device") in (None, device):
                found: dict[str, Any] = state
                return found
        raise NotMeasured(f"no state #{number} in '{self.manifest['scenario']['name']}'")


@dataclass(frozen=True)
class Evidence:
    """All that was played and analysed for one seed; None is what was not played."""

    seed: int
    states: Findings | None = None
    week: Findings | None = None
    month: Findings | None = None

    def findings(self, when: When) -> Findings:
        """Return the run that shows it; raises NotMeasured if it was not played."""
        found = {"week": self.week, "month": self.month}.get(when, self.states)
        if found is None:
            raise NotMeasured(f"no {when if when in ('week', 'month') else 'run of the states'} was played")
        return found

    @property
    def any(self) -> Findings:
        """Some run of this seed, for what is the same in all."""
        found = self.states or self.week or self.month
        if found is None:
            raise NotMeasured("nothing was played")
        return found

    def devices(self, names: str | tuple[str, ...], without: Iterable[str] = ()) -> list[str]:
        """Return device names; `eight`, `hubs` and `sensors` are those of the paper's statistics."""
        if isinstance(names, str):
            groups = {"eight": ("H", "S"), "hubs": ("H",), "sensors": ("S",)}
            chosen = [d["name"] for d in self.any.statistics() if d["class"] in groups[names]]
        else:
            known = [entry["name"] for entry in self.any.manifest["devices"]]
            if missing := [name for name in names if name not in known]:
                raise NotMeasured(f"the lab has no {', '.join(missing)}")
            chosen = list(names)
        return [name for name in chosen if name not in set(without)]

    def amount(
        self,
        device: str,
        protocols: Iterable[str],
        when: When,
        way: Literal["both", "sent", "received"] = "both",
        *,
        settled: bool = False,
    ) -> Amount:
        """Return what a device sent and received; of state #1 the mean hour of the week, if there is one."""
        if when == "S1" and self.week is not None and not settled:
            week = self.amount(device, protocols, "week", way)
            return Amount(week.packets / WEEK_HOURS, week.bytes / WEEK_HOURS)
        findings = self.findings(when)
        name = ""
        if when not in ("week", "month"):
            name = findings.state(int(when[1:]), device)["name"] + (SETTLED if settled else "")
        found = findings.totals.get(name, {})
        ways = ("sent", "received") if way == "both" else (way,)
        parts = [found.get((device, part, w)) for p in protocols for part in BROAD.get(p, (p,)) for w in ways]
        present = [part for part in parts if part is not None]
        return Amount(sum(part.packets for part in present), sum(part.bytes for part in present))


def look(folder: Path, baseline: Path | None = None, figures: Path | None = None) -> Findings:
    """Analyse a run's folder; `baseline` is a steady run that shows what is normal.

    The paper's figures are drawn into the folder `figures`, if there is one.
    """
    manifest = read_manifest(folder)
    run = load_run(folder)
    month = manifest["scenario"]["name"] == "month"
    spans = _days(run.begin_ns or 0, run.end_ns or 0) if month else _with_settled(run.states)
    analysis = analyse(run.capture, run=folder, states=spans, baseline=baseline)
    if figures is not None:
        from testbed.report import draw_figures

        figures.mkdir(parents=True, exist_ok=True)
        draw_figures(analysis, figures)
    if analysis.damages:
        raise WorldError(str(analysis.damages[0]))
    return Findings(
        manifest=manifest,
        tables={name: getattr(analysis, name) for name in TABLES},
        shown=_shown(folder / "events.jsonl"),
        payloads=_payloads(run.capture, manifest) if manifest["scenario"]["name"] == "steady-week" else {},
        paper_week=_paper_week(analysis) if month else [],
        warnings=[*manifest.get("warnings", ()), *analysis.warnings],
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return `run.json`; raises UserError if the folder holds none that can be read."""
    path = folder / "run.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"'{folder}' is no run's folder: run.json cannot be read ({error})") from None
    return manifest


def _with_settled(states: tuple[State, ...]) -> tuple[State, ...]:
    """Return the states, and a twin without its first five minutes of each that is an hour of all."""
    twins = [
        State(s.name + SETTLED, s.begin_ns + SETTLE_NS, s.end_ns, None, s.device)
        for s in states
        if s.device is None and s.end_ns - s.begin_ns > 4 * SETTLE_NS
    ]
    return (*states, *twins)


def _days(begin_ns: int, end_ns: int) -> tuple[State, ...]:
    import numpy as np

    starts = range(begin_ns, end_ns, DAY_NS)
    return tuple(
        State(str(np.datetime64(start, "ns"))[:10], start, min(start + DAY_NS, end_ns)) for start in starts
    )


def _shown(path: Path) -> list[Shown]:
    """Return the changes of function in a run's log."""
    out = []
    with path.open(encoding="utf-8") as lines:
        for text in lines:
            if '"event": "function"' not in text:
                continue
            line = json.loads(text)
            local = line.get("local", "")
            out.append(Shown(parse_time(line["time"]), line["device"], line["outcome"], local))
    return out


def _payloads(capture: Path, manifest: dict[str, Any]) -> dict[tuple[str, str], Amount]:
    """Count TCP segments with payload by sender and application, as the analyser's reader sees them."""
    import numpy as np

    from testbed.capture.frame import APPLICATION_OF_SERVICE, SERVICES, TCP, mac_number
    from testbed.capture.read import Capture

    devices = [entry["name"] for entry in manifest["devices"] if entry["mac"]]
    macs = np.array([mac_number(entry["mac"]) for entry in manifest["devices"] if entry["mac"]])
    order = np.argsort(macs)
    count = np.zeros((2, len(devices), len(SERVICES)), np.int64)
    for chunk in Capture([str(capture)]).chunks():
        frames = chunk.frames
        frames = frames[(frames["transport"] == TCP) & (frames["payload"] > 0)]
        place = np.searchsorted(macs[order], frames["src"]).clip(max=len(devices) - 1)
        known = macs[order][place] == frames["src"]
        at = (order[place[known]], frames["service"][known])
        np.add.at(count[0], at, 1)
        np.add.at(count[1], at, frames["payload"][known])
    return {
        (name, APPLICATION_OF_SERVICE[s]): Amount(int(count[0, d, s]), int(count[1, d, s]))
        for d, name in enumerate(devices)
        for s in APPLICATION_OF_SERVICE
        if count[0, d, s]
    }


PAPER_WEEK = ("2018-04-03T00:00:00Z", "2018-04-10T00:00:00Z")


def _paper_week(analysis: Analysis) -> list[LineRow]:
    """Return the spectra of the paper's week in a month, by the analyser's own transform."""
    import numpy as np

    from testbed.analysis.events import gather, own_events
    from testbed.analysis.ledger import PROTOCOLS
    from testbed.analysis.rows import LineRow
    from testbed.analysis.spectra import WINDOW_S, spectrum

    ledger = analysis.ledger
    assert ledger is not None
    begin, end = (parse_time(text) for text in PAPER_WEEK)
    time_ns, key = own_events(ledger)
    inside = (time_ns >= begin) & (time_ns < end)
    label = ledger.roles.device.astype(np.int64) * len(PROTOCOLS) + ledger.protocol
    groups = (len(ledger.roles.devices) + 1) * len(PROTOCOLS)
    series = gather(time_ns[inside], key[inside], label, np.arange(groups), begin)
    rows = []
    for number in np.flatnonzero(np.diff(series.starts) >= 2).tolist():
        device, protocol = divmod(number, len(PROTOCOLS))
        magnitude, height = spectrum(series.series(number), round((end - begin) / 1e9 / WINDOW_S))
        name = ledger.roles.name(device)
        rows += [
            LineRow(name, PROTOCOLS[protocol], float(line), m, False, float(np.exp(-min(h, 700.0))))
            for line, (m, h) in enumerate(zip(magnitude.tolist(), height.tolist(), strict=True), 1)
        ]
    return rows
