"""The analyser, or any other one, against the labels of a run: how right is it?"""

from testbed.validation.result import Check, Validation
from testbed.validation.verdict import validate

__all__ = ["Check", "Validation", "validate"]
