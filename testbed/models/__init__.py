"""Device models, topologies and scenarios as typed data."""

from testbed.models.base import CONFIDENCES, Backoff, Model
from testbed.models.device import DeviceModel, Habit
from testbed.models.scenario import Scenario, State
from testbed.models.topology import Topology

__all__ = ["CONFIDENCES", "Backoff", "DeviceModel", "Habit", "Model", "Scenario", "State", "Topology"]
