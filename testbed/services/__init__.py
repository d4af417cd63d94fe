"""What answers: the services of the fake Internet, of the router, and of the devices themselves.

A service does no I/O and only reacts: bytes and the time in, bytes out (`testbed.host.Service`).
"""

from testbed.services.context import ServiceContext
from testbed.services.zone import Zone

__all__ = ["ServiceContext", "Zone"]
