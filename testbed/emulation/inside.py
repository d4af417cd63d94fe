"""The process inside a run's namespaces: does what `testbed.emulation.isolate` hands it."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from testbed.errors import TestbedError

_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE)
"""What a full or closed disk says: no bug, so no traceback."""


def main(fd: int) -> None:
    """Be the first process of the namespaces: do what comes over the line."""
    os.set_inheritable(fd, False)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a dozen descriptors for each host
    line = Connection(fd)
    work = pickle.loads(line.recv_bytes())
    stopping = False

    def stop() -> bool:
        nonlocal stopping
        if not stopping and line.poll():
            try:
                line.recv()
            except EOFError:
                os._exit(1)  # the other process is gone: nobody wants the run
            stopping = True
        return stopping

    def tell(what: Any) -> None:
        try:
            line.send(("told", what))
        except ConnectionError:
            os._exit(1)

    try:
        line.send(("done", work.play(tell, stop)))
    except (TestbedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _OF_THE_MACHINE:
            line.send(("crashed", traceback.format_exc()))
            os._exit(1)
        line.send(("failed", error))
    except Exception:
        line.send(("crashed", traceback.format_exc()))
    os._exit(0)  # what is left in the namespaces goes with them


if __name__ == "__main__":
    main(int(sys.argv[1]))
