"""The world as a flat map: coasts, and where a place lies on it.

The projection is Natural Earth (Šavrič, Jenny, Patterson et al. 2011, in the polynomial form of its
authors), scaled to `WIDTH` for the whole equator.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from math import radians

WIDTH = 960.0
_TOP_DEG, _BOTTOM_DEG = 84.0, -57.0
_X = (0.870700, -0.131979, -0.013791, 0.003971, -0.001529)
_Y = (1.007226, 0.015085, -0.044475, 0.028874, -0.005916)
_SCALE = WIDTH / (2 * 0.870700 * 3.141592653589793)


def project(latitude: float, longitude: float) -> tuple[float, float]:
    """Return where a place lies, x to the right and y downwards, in units of the map."""
    lam, phi = radians(longitude), radians(latitude)
    p2 = phi * phi
    p4 = p2 * p2
    x = lam * (_X[0] + p2 * _X[1] + p4 * (_X[2] + p4 * (_X[3] * p2 + _X[4] * p4)))
    return WIDTH / 2 + x * _SCALE, _height(radians(_TOP_DEG)) - _height(phi)


def _height(phi: float) -> float:
    p2 = phi * phi
    p4 = p2 * p2
    return phi * (_Y[0] + p2 * (_Y[1] + p4 * (_Y[2] + _Y[3] * p2 + _Y[4] * p4))) * _SCALE


HEIGHT = round(project(_BOTTOM_DEG, 0)[1], 1)


@cache
def coasts() -> tuple[tuple[tuple[float, float], ...], ...]:
    """Return the outlines of the lands (without Antarctica) as rings of points on the map."""
    text = (files("testbed.report") / "land.json").read_text(encoding="utf-8")
    return tuple(
        tuple(project(lat / 10, lon / 10) for lon, lat in zip(ring[::2], ring[1::2], strict=True))
        for ring in json.loads(text)["rings"]
    )


@cache
def outline() -> str:
    """Return the outlines as the `d` of an SVG path."""
    return "".join("M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in ring) + "Z" for ring in coasts())
