"""Writes a run's capture and labels while it is simulated, on a thread of its own."""

from __future__ import annotations

from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np

from testbed.capture.write import LabelWriter, PcapWriter
from testbed.simulation.render import render

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from testbed.capture.write import Label, StateSpan
    from testbed.simulation.tape import Batch

WAITING_BATCHES = 2
"""Batches that may wait to be rendered: bounds memory."""


class Output:
    """Takes batches of records and appends their frames to the files, in order."""

    def __init__(self, folder: Path, begin: datetime, states: Sequence[StateSpan]) -> None:
        self._pcap = PcapWriter(folder / "capture.pcap")
        self._labels = LabelWriter(folder / "labels.parquet", states)
        self._begin_us = round(begin.timestamp()) * 1_000_000
        self.frames = 0
        self.bytes = 0
        self.per_device: dict[str, tuple[int, int]] = {}
        self._error: BaseException | None = None
        self._queue: Queue[tuple[Batch, tuple[Label, ...]] | None] = Queue(WAITING_BATCHES)
        self._thread = Thread(target=self._work, name="render", daemon=True)
        self._thread.start()

    def put(self, batch: Batch, labels: tuple[Label, ...]) -> None:
        """Hand over a batch; waits while too many are unfinished. Raises what the thread met."""
        self._queue.put((batch, labels))
        self._raise()

    def close(self) -> None:
        """Finish the files."""
        self._queue.put(None)
        self._thread.join()
        self._pcap.close()
        self._labels.close()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._append(*item)
                except BaseException as error:  # handed to the simulation's thread, which raises it
                    self._error = error

    def _append(self, batch: Batch, labels: tuple[Label, ...]) -> None:
        frames = render(batch, self._begin_us)
        if not len(frames.label):
            return
        self._pcap.records(frames.pcap)
        time_ns = (frames.time_us + self._begin_us) * 1000
        self._labels.add(labels, frames.label, time_ns, frames.exchange, frames.received)
        self.frames += len(frames.label)
        self.bytes += int(frames.length.sum())
        counts = np.bincount(frames.label, minlength=len(labels))
        sizes = np.bincount(frames.label, weights=frames.length, minlength=len(labels))
        for label, count, size in zip(labels, counts.tolist(), sizes.tolist(), strict=True):
            if count:
                old = self.per_device.get(label.device, (0, 0))
                self.per_device[label.device] = (old[0] + count, old[1] + int(size))
