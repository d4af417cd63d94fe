"""Writes a run's capture, labels and event log while it is simulated, in a process of its own.

The process renders frames and writes files on the second core; the simulation sends it batches of
records through a pipe, which also bounds how far it can run ahead.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from testbed.errors import WorldError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from multiprocessing.connection import Connection
    from pathlib import Path

    from testbed.capture.write import Label, StateSpan
    from testbed.simulation.journal import Pages
    from testbed.simulation.tape import Batch


class Written(NamedTuple):
    """What the files hold in the end."""

    frames: int
    bytes: int
    per_device: dict[str, tuple[int, int]]


class Output:
    """Takes batches of records; their frames are appended to the files, in order."""

    def __init__(self, folder: Path, begin: datetime, states: Sequence[StateSpan]) -> None:
        # A forked process starts at once with what is loaded; elsewhere than on Linux forking is unsafe.
        context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self._pipe, folder, begin, tuple(states))
        self._process = context.Process(target=_write, args=arguments, name="render", daemon=True)
        self._process.start()
        theirs.close()
        self._sent_labels = 0

    def put(self, batch: Batch, labels: Sequence[Label], pages: Pages) -> None:
        """Hand over a batch; waits while the writer is behind. Raises WorldError if it failed."""
        try:
            self._pipe.send((batch, tuple(labels[self._sent_labels :]), pages))
        except (BrokenPipeError, ConnectionError):
            self._fail()
        self._sent_labels = len(labels)

    def close(self) -> Written:
        """Finish the files and return what they hold. Raises WorldError if writing failed."""
        try:
            self._pipe.send(None)
            answer = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionError):
            answer = None
        self._process.join()
        if not isinstance(answer, Written):
            raise WorldError(f"the capture could not be written: {answer or 'its writer died'}")
        return answer

    def abandon(self) -> None:
        """Stop writing; the files stay incomplete."""
        self._pipe.close()
        self._process.terminate()
        self._process.join()

    def _fail(self) -> None:
        answer = self._pipe.recv() if self._pipe.poll(5) else "its writer died"
        raise WorldError(f"the capture could not be written: {answer}")


def _write(
    pipe: Connection, parents: Connection, folder: Path, begin: datetime, states: tuple[StateSpan, ...]
) -> None:
    """Be the writing process: batches in, files out, until told to stop."""
    parents.close()  # else the end of the parent would never be seen here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the simulation's to handle
    try:
        import numpy as np

        from testbed.capture.write import LabelWriter, PcapWriter
        from testbed.scenario.events import EventLog
        from testbed.simulation import journal
        from testbed.simulation.render import render

        begin_s = round(begin.timestamp())
        log = EventLog(folder / "events.jsonl", begin)
        labels: list[Label] = []
        frames_total = bytes_total = 0
        per_device: dict[str, tuple[int, int]] = {}
        with (
            PcapWriter(folder / "capture.pcap") as pcap,
            LabelWriter(folder / "labels.parquet", states) as rows,
        ):
            while (item := pipe.recv()) is not None:
                batch, fresh, pages = item
                labels += fresh
                journal.write(pages, labels, log)
                frames = render(batch, begin_s * 1_000_000)
                if not len(frames.label):
                    continue
                pcap.records(frames.pcap)
                time_ns = (frames.time_us + begin_s * 1_000_000) * 1000
                rows.add(labels, frames.label, time_ns, frames.exchange, frames.received)
                frames_total += len(frames.label)
                bytes_total += int(frames.length.sum())
                counts = np.bincount(frames.label, minlength=len(labels)).tolist()
                sizes = np.bincount(frames.label, weights=frames.length, minlength=len(labels)).tolist()
                for label, count, size in zip(labels, counts, sizes, strict=True):
                    if count:
                        old = per_device.get(label.device, (0, 0))
                        per_device[label.device] = (old[0] + count, old[1] + int(size))
        log.close()
        pipe.send(Written(frames_total, bytes_total, per_device))
    except EOFError:
        return
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
