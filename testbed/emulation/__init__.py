"""The Mininet world: device models over real kernel sockets, under a virtual or the real clock."""

from testbed.emulation.isolate import run_emulation

__all__ = ["run_emulation"]
