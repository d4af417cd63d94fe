"""The analyser: sees captures only, and finds in them what the paper's figures show."""

from testbed.analysis.pipeline import analyse
from testbed.analysis.result import Analysis

__all__ = ["Analysis", "analyse"]
