"""Figures and the HTML report of an analysis."""

from testbed.report.figures import draw_figures
from testbed.report.page import write_report

__all__ = ["draw_figures", "write_report"]
