"""A simulated IoT testbed and traffic emulator.

>>> import testbed
>>> summary = testbed.run("internet-outage", out="runs/outage")  # doctest: +SKIP
>>> analysis = testbed.analyse("runs/outage/capture.pcap", run="runs/outage")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.analysis import analyse
    from testbed.api import run
    from testbed.validation import validate

__all__ = ["analyse", "run", "validate"]

_HOMES = {"analyse": "testbed.analysis", "run": "testbed.api", "validate": "testbed.validation"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `import testbed` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'testbed' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
