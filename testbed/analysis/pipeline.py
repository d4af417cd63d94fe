"""From captures to an `Analysis`: reads once, then asks the tables."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.analysis import tables as t
from testbed.analysis.bandwidth import bandwidth_rows, iso, spike_rows, window_bytes
from testbed.analysis.devices import device_rows
from testbed.analysis.disruption import Disruption, as_states, find_disruptions
from testbed.analysis.geography import Atlas
from testbed.analysis.ledger import PAYLOAD, PORT, Ledger
from testbed.analysis.periodicity import Regularity
from testbed.analysis.protocols import protocol_rows, state_rows, whole_capture
from testbed.analysis.result import Analysis
from testbed.analysis.roles import find_roles
from testbed.analysis.rows import FoundStateRow
from testbed.analysis.run import Run, State, load_run, load_states, parse_time
from testbed.analysis.services import Services, place_rows, service_rows
from testbed.analysis.states import Exchanges, Normal, applications_in, dependency_rows
from testbed.analysis.tables import Tables
from testbed.analysis.tally import add
from testbed.capture.frame import REASONS, address_text, mac_text
from testbed.capture.read import Capture
from testbed.capture.source import copy_to, read_once
from testbed.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Progress = Callable[[int, int | None], None]
    """Told how many bytes of the files were read, of how many (None if not known)."""

RULES = (PORT, PAYLOAD)


def analyse(
    captures: str | Path | Sequence[str | Path],
    *,
    run: str | Path | None = None,
    baseline: str | Path | None = None,
    states: str | Path | Sequence[State] | None = None,
    geo: str | Path | None = None,
    local: Sequence[str] = (),
    rule: str = PORT,
    begin: str | int | None = None,
    end: str | int | None = None,
    keep_frames: bool = False,
    progress: Progress | None = None,
) -> Analysis:
    """Analyse captures and return everything found.

    - `captures`: paths of pcap or pcapng files (or ``-``); together they are one capture.
    - `run`: a run's folder, which names the devices, states and places.
    - `states`: a CSV of intervals, or `State` objects, instead; without any, disruptions are looked
      for in the capture.
    - `baseline`: the folder of a longer steady run, or a capture, that shows what is normal.
    - `geo`: a database of places in MaxMind's format.
    - `local`: networks that are local, where the capture does not show it.
    - `rule`: how applications are named, ``port`` or ``payload``.
    - `begin`, `end`: look at this span only; ISO 8601 (UTC unless a zone is named) or Unix nanoseconds.
    - `keep_frames`: keep four bytes a frame, for `Analysis.frame_table`.

    Damage ends a file and is in `Analysis.damages`. Raises UserError.
    """
    names = [str(name) for name in ([captures] if isinstance(captures, str | Path) else captures)]
    if not names:
        raise UserError("no capture given")
    if rule not in RULES:
        raise UserError(f"unknown rule '{rule}'; {nearest(rule, RULES)}")
    about = load_run(run) if run is not None else None
    atlas = Atlas(geo if geo is not None else (about.places if about is not None else None))
    spans, origin = _states(about, states)
    window = _window(begin, end)
    normal = _baseline(baseline, about, local, rule)
    keep: list[NDArray[np.int32]] | None = [] if keep_frames else None
    with on_disk(names, twice=origin == "none") as files:
        tables, capture = read_tables(files, spans, window, progress, keep)
        ledger = _ledger(tables, about, spans, local, rule, window)
        disruptions = find_disruptions(ledger) if origin == "none" else []
        if disruptions:
            # Once more, so that cells end where the states do.
            spans, origin = as_states(disruptions, ledger.begin_ns, ledger.end_ns), "capture"
            tables, capture = read_tables(files, spans, window, progress, keep)
            ledger = _ledger(tables, about, spans, local, rule, window)
    given = dict(zip(files, names, strict=True))
    capture.names = [given[file] for file in capture.names]
    capture.damages = [damage._replace(file=given[damage.file]) for damage in capture.damages]
    for file, name in given.items():
        capture.notes = [note.replace(f"{file}:", f"{name}:") for note in capture.notes]
    result = _result(ledger, capture, origin, disruptions, atlas, normal)
    if keep is not None:
        result.frame_keys = np.concatenate([np.empty(0, np.int32), *keep])
    return result


@contextmanager
def on_disk(names: list[str], *, twice: bool) -> Iterator[list[str]]:
    """Give the captures as files; what can be read only once becomes a temporary one, if read twice."""
    if not twice or not any(map(read_once, names)):
        yield names
        return
    import tempfile

    with ExitStack() as copies:
        files = []
        for name in names:
            if read_once(name):
                copy = copies.enter_context(tempfile.NamedTemporaryFile(prefix="testbed-"))
                copy_to(name, copy)
                files.append(copy.name)
            else:
                files.append(name)
        try:
            yield files
        except UserError as error:  # tell the name that was given
            text = str(error)
            for name, file in zip(names, files, strict=True):
                text = text.replace(f"'{file}'", f"'{name}'")
            raise UserError(text) from None


def _baseline(
    baseline: str | Path | None, about: Run | None, local: Sequence[str], rule: str
) -> Normal | None:
    """Return the applications that each device uses in a steady run's folder, or in a capture."""
    if baseline is None:
        return None
    steady = load_run(baseline) if Path(baseline).is_dir() else None
    names = [str(steady.capture if steady is not None else baseline)]
    tables, _ = read_tables(names)
    return applications_in(_ledger(tables, steady or about, (), local, rule), None)


def read_tables(
    names: list[str],
    states: Sequence[State] = (),
    window: tuple[int, int] | None = None,
    progress: Progress | None = None,
    keep: list[NDArray[np.int32]] | None = None,
) -> tuple[Tables, Capture]:
    """Read captures into tables whose cells do not straddle the states' boundaries.

    Of a `window` only that is kept. `keep` gets the key of every frame, chunk by chunk.
    """
    times = {time for state in states for time in (state.begin_ns, state.end_ns)} | set(window or ())
    tables = Tables(np.array(sorted(times), np.int64))
    capture = Capture(names)
    row_key = np.empty(1 << 16, np.int32)
    if keep is not None:
        keep.clear()
    for chunk in capture.chunks():
        if len(row_key) < len(chunk.frames):
            row_key = np.empty(len(chunk.frames), np.int32)
        add(tables, chunk, row_key)
        if keep is not None:
            keep.append(row_key[: len(chunk.frames)].copy())
        if progress is not None:
            progress(capture.bytes_read, capture.bytes_total)
    tables.finish()
    if window is not None:
        tables.keep_between(*window)
    return tables, capture


def _states(about: Run | None, states: str | Path | Sequence[State] | None) -> tuple[tuple[State, ...], str]:
    if states is not None:
        if isinstance(states, str | Path):
            return load_states(states), "file"
        return tuple(states), "file"
    if about is not None and about.states:
        return about.states, "run"
    return (), "none"


def _window(begin: str | int | None, end: str | int | None) -> tuple[int, int] | None:
    if begin is None and end is None:
        return None
    edges = [-(1 << 62), 1 << 62]
    for i, edge in enumerate((begin, end)):
        if isinstance(edge, str):
            try:
                edges[i] = parse_time(edge)
            except (ValueError, OverflowError):
                raise UserError(f"'{edge}' is not a time; write it like 2018-04-03T14:00:00Z") from None
        elif edge is not None:
            edges[i] = edge
    if edges[0] >= edges[1]:
        raise UserError("the span to look at ends before it begins")
    return edges[0], edges[1]


def _ledger(
    tables: Tables,
    about: Run | None,
    states: tuple[State, ...],
    local: Sequence[str],
    rule: str,
    window: tuple[int, int] | None = None,
) -> Ledger:
    lan = tuple(local) or ((about.lan,) if about is not None and about.lan else ())
    roles = find_roles(
        tables,
        about.devices if about is not None else (),
        about.router if about is not None else None,
        lan,
    )
    first, last = int(tables.state[t.FIRST_NS]), int(tables.state[t.LAST_NS])
    if first > last:
        first = last = 0
    if about is not None and about.begin_ns is not None and about.end_ns is not None:
        first, last = min(first or about.begin_ns, about.begin_ns), max(last, about.end_ns)
    if window is not None:
        first, last = max(first, window[0]), min(last, window[1])
    return Ledger(tables, roles, states, first, last, rule)


def _result(
    ledger: Ledger,
    capture: Capture,
    origin: str,
    disruptions: list[Disruption],
    atlas: Atlas,
    normal: Normal | None,
) -> Analysis:
    tables = ledger.tables
    services = Services(ledger)
    regularity = Regularity(ledger, services.name)  # searches while the rest is added up
    amounts = window_bytes(ledger)
    result = Analysis(
        captures=capture.names,
        begin=iso(ledger.begin_ns) if ledger.end_ns else "",
        end=iso(ledger.end_ns) if ledger.end_ns else "",
        duration_s=ledger.duration_s,
        frames=int(tables.state[t.FRAMES]),
        bytes=int(ledger.cells["bytes"].sum()),
        rule=ledger.rule,
        window_s=tables.window_ns / 1e9,
        unplaced=_unplaced(tables),
        damages=capture.damages,
        warnings=_warnings(tables, capture),
        gateway=_gateway(ledger),
        states_from=origin,
        devices=device_rows(ledger),
        protocols=protocol_rows(ledger),
        bandwidth=bandwidth_rows(ledger, amounts),
        spikes=spike_rows(ledger, amounts),
        services=service_rows(services, atlas),
        places=place_rows(services, atlas),
        states=state_rows(ledger),
        state_services=Exchanges(ledger, services).rows() if ledger.states else [],
        dependencies=dependency_rows(ledger, normal),
        found_states=[
            FoundStateRow(state.name, iso(state.begin_ns), iso(state.end_ns), kind, why)
            for state, kind, why in _found(ledger.states, disruptions)
        ],
        state_spans=ledger.states,
        ledger=ledger,
        **whole_capture(ledger),
    )
    result.periodicity, result.periods = regularity.rows()
    return result


def _found(states: Sequence[State], disruptions: list[Disruption]) -> list[tuple[State, str, str]]:
    """Return the states that were found, with their kind and the reason."""
    if not disruptions:
        return []
    reasons = {disruption.end_ns: disruption for disruption in disruptions}
    out = []
    for state in states:
        reason = reasons.get(state.end_ns)
        out.append((state, reason.kind if reason else "online", reason.why if reason else ""))
    return out


def _unplaced(tables: Tables) -> dict[str, dict[str, int]]:
    return {
        REASONS[i]: {"packets": int(packets), "bytes": int(size)}
        for i, (packets, size) in enumerate(tables.reasons.tolist())
        if i and packets
    }


def _warnings(tables: Tables, capture: Capture) -> list[str]:
    """Return what one should know before trusting the numbers."""
    warnings = list(capture.notes)
    state = tables.state
    for slot, text in (
        (t.BACKWARDS, "frames are earlier than the one before them in the file"),
        (t.ABSURD, "frames claim more than 1 MiB on the wire; bytes are as the file has them"),
        (t.CUT, "frames are cut by the snap length; counts are right, payloads may be missing"),
    ):
        if state[slot]:
            warnings.append(f"{int(state[slot]):,} {text}")
    if state[t.KEYS_FULL]:
        warnings.append("more sorts of frame than the tables hold; the rarest are counted by protocol only")
    if state[t.EVENTS_FULL]:
        warnings.append("more bursts than the tables hold; periods and retries cover the first part only")
    if state[t.FACTS_FULL]:
        warnings.append("more names than the tables hold; the last ones are missing")
    if tables.window_ns != t.WINDOW_NS:
        warnings.append(
            f"the capture spans so much that windows are {tables.window_ns / 1e9:.0f} s long, not 900 s"
        )
    return warnings


def _gateway(ledger: Ledger) -> dict[str, Any]:
    roles = ledger.roles
    return {
        "name": roles.router_name,
        "macs": [mac_text(mac) for mac in sorted(roles.gateways)],
        "addresses": sorted(address_text(*address) for address in roles.gateway_addresses),
    }
