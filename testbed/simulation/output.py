"""The simulation's side of writing a run's files: a process of its own takes the records.

`testbed.simulation.writer` renders frames and writes files on the second core. Batches go to it
through a pipe, which also bounds how far the simulation can run ahead. It is a fresh interpreter,
not a fork: the caller may have threads (a notebook, a test runner).
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from testbed.errors import WorldError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from testbed.capture.write import Label, StateSpan
    from testbed.simulation.journal import Pages
    from testbed.simulation.tape import Batch

PICKLE_PROTOCOL = 5


class Written(NamedTuple):
    """What the files hold in the end."""

    frames: int
    bytes: int
    per_device: dict[str, tuple[int, int]]


class Output:
    """Takes batches of records; their frames are appended to the files, in order."""

    def __init__(self, folder: Path, begin: datetime, states: Sequence[StateSpan]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "testbed.simulation.writer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,  # Ctrl-C is the simulation's to handle
        )
        self._sent_labels = 0
        self._send((folder, begin, tuple(states)))

    def put(self, batch: Batch, labels: Sequence[Label], pages: Pages) -> None:
        """Hand over a batch; waits while the writer is behind. Raises WorldError if it failed."""
        self._send((batch, tuple(labels[self._sent_labels :]), pages))
        self._sent_labels = len(labels)

    def close(self) -> Written:
        """Finish the files and return what they hold. Raises WorldError if writing failed."""
        self._send(None)
        answer = self._answer()
        if not isinstance(answer, Written):
            self._fail(answer)
        return answer

    def abandon(self) -> None:
        """Stop writing; the files stay incomplete."""
        self._process.kill()
        self._process.communicate()

    def _send(self, item: object) -> None:
        assert self._process.stdin is not None
        try:
            pickle.dump(item, self._process.stdin, PICKLE_PROTOCOL)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail(self._answer())

    def _answer(self) -> Written | str | None:
        """Return the writer's last word, None if it had none."""
        assert self._process.stdout is not None
        said = self._process.stdout.read()
        self._process.stdout.close()
        self._process.wait()
        answer: Written | str | None = pickle.loads(said) if said else None
        return answer

    def _fail(self, answer: Written | str | None) -> NoReturn:
        raise WorldError(f"the run's files could not be written: {answer or 'the writing process died'}")
