"""The process inside a run's namespaces: plays what `testbed.emulation.isolate` hands it."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from multiprocessing.connection import Connection

from testbed.emulation.run import play
from testbed.errors import TestbedError


def main(fd: int) -> None:
    """Be the first process of the namespaces: play what comes over the line."""
    os.set_inheritable(fd, False)
    line = Connection(fd)
    plan = pickle.loads(line.recv_bytes())
    stopping = False

    def stop() -> bool:
        nonlocal stopping
        if not stopping and line.poll():
            line.recv()  # raises EOFError when the other process is gone: nobody wants the run
            stopping = True
        return stopping

    def progress(done_s: float, total_s: float) -> None:
        line.send(("progress", (done_s, total_s)))

    try:
        line.send(("done", play(plan, progress, stop)))
    except (EOFError, ConnectionError):
        os._exit(1)  # the other process is gone
    except TestbedError as error:
        line.send(("failed", error))
    except Exception:
        line.send(("crashed", traceback.format_exc()))
    os._exit(0)  # what is left in the namespaces goes with them


if __name__ == "__main__":
    main(int(sys.argv[1]))
