"""Sphinx configuration; the reference pages are generated from the code at each build."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

project = "iot-testbed"
author = "The iot-testbed authors"
copyright = "2026, The iot-testbed authors"

extensions = ["myst_parser"]
html_theme = "furo"
html_title = "iot-testbed"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
nitpicky = True


def _generate(_app: Any) -> None:
    import reference

    reference.write(HERE / "reference")


def setup(app: Any) -> None:
    app.connect("builder-inited", _generate)
