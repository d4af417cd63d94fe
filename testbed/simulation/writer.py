"""The process that writes a simulated run's files (see `testbed.simulation.output`).

It reads pickled batches from standard input until None, writes the capture, its labels and the
event log, and answers on standard output with what the files hold, or with what went wrong.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from testbed.capture.write import LabelWriter, PcapWriter
from testbed.scenario.events import EventLog
from testbed.simulation import journal
from testbed.simulation.output import PICKLE_PROTOCOL, Written
from testbed.simulation.render import render

if TYPE_CHECKING:
    from testbed.capture.write import Label


def write(batches: BinaryIO) -> Written:
    """Write everything that comes; raises EOFError when the simulation ends without a word."""
    folder, begin, states = pickle.load(batches)
    begin_us = round(begin.timestamp()) * 1_000_000
    labels: list[Label] = []
    frames_total = bytes_total = 0
    per_device: dict[str, tuple[int, int]] = {}
    log = EventLog(folder / "events.jsonl", begin)
    with PcapWriter(folder / "capture.pcap") as pcap, LabelWriter(folder / "labels.parquet", states) as rows:
        while (item := pickle.load(batches)) is not None:
            batch, fresh, pages = item
            labels += fresh
            journal.write(pages, labels, log)
            frames = render(batch, begin_us)
            if not len(frames.label):
                continue
            pcap.records(frames.pcap)
            time_ns = (frames.time_us + begin_us) * 1000
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
    return Written(frames_total, bytes_total, per_device)


def main() -> None:
    """Be the writing process."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints must not mix with the answer
    try:
        answer: Written | str = write(sys.stdin.buffer)
    except EOFError:
        return
    except OSError as error:
        answer = error.strerror or str(error)
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    pickle.dump(answer, answers, PICKLE_PROTOCOL)
    answers.close()


if __name__ == "__main__":
    main()
