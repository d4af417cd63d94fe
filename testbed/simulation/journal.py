"""What the simulation has to say for the event log, packed as it comes.

The writing process turns it into `events.jsonl` (`testbed.scenario.events`).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from testbed.host import About, LinkDown, NoReply, Outcome, Refused, StreamLost, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.capture.write import Label
    from testbed.scenario.events import EventLog

OUTCOMES = (
    Outcome.OK,
    Outcome.SENT,
    Outcome.CANCELLED,
    *(kind.outcome for kind in (NoReply, Refused, Unreachable, LinkDown, StreamLost)),
)
_CODES = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_ENTRY = Struct("4q")


class Note(NamedTuple):
    """Anything but an exchange."""

    place: int
    """How many exchanges were logged before it."""
    at: int
    device: str
    behaviour: str
    event: str
    outcome: str
    why: str
    details: dict[str, Any]


class Pages(NamedTuple):
    """A part of the journal."""

    exchanges: bytes
    notes: list[Note]


class Journal:
    """Collects what happened; times are nanoseconds from the start of the capture."""

    def __init__(self) -> None:
        self._exchanges = bytearray()
        self._notes: list[Note] = []

    def exchange(self, at: int, label: int, exchange: int, outcome: str) -> None:
        """Log an exchange that ended."""
        if at >= 0:
            self._exchanges += _ENTRY.pack(at, label, exchange, _CODES[outcome])

    def note(
        self,
        at: int,
        device: str,
        behaviour: str,
        event: str,
        outcome: str = "",
        why: str = "",
        **details: Any,
    ) -> None:
        """Log anything else."""
        if at >= 0:
            place = len(self._exchanges) // _ENTRY.size
            self._notes.append(Note(place, at, device, behaviour, event, outcome, why, details))

    def take(self) -> Pages:
        """Return what was collected since the last time."""
        pages = Pages(bytes(self._exchanges), self._notes)
        self._exchanges, self._notes = bytearray(), []
        return pages


def write(pages: Pages, labels: Sequence[Label], log: EventLog) -> None:
    """Write a part of the journal to the event log."""
    notes = iter([*pages.notes, None])
    note = next(notes)
    for place, (at, number, exchange, code) in enumerate(_ENTRY.iter_unpack(pages.exchanges)):
        while note is not None and note.place <= place:
            _write_note(note, log)
            note = next(notes)
        label = labels[number]
        about = About(label.protocol, label.service, label.attempt, label.why)
        log.exchange(at, label.device, label.behaviour, about, exchange, OUTCOMES[code])
    while note is not None:
        _write_note(note, log)
        note = next(notes)
    log.flush()


def _write_note(note: Note, log: EventLog) -> None:
    log.note(note.at, note.device, note.behaviour, note.event, note.outcome, note.why, **note.details)
