"""The vendors of MAC prefixes, found in sorted lines that are kept between processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.analysis import vendors
from testbed.analysis.vendors import _find, vendor
from testbed.capture import kept

LINES = b"000000 Xerox\n0000aa B\nfffffe Last One\n"


@pytest.mark.parametrize(
    ("prefix", "name"),
    [("000000", "Xerox"), ("0000aa", "B"), ("fffffe", "Last One"), ("000001", ""), ("ffffff", "")],
)
def test_a_prefix_is_found_among_the_lines_or_not(prefix: str, name: str) -> None:
    assert _find(LINES, prefix) == name
    assert _find(b"", prefix) == ""


def test_every_assignment_is_found() -> None:
    registry = vendors._registry()
    lines = registry.decode().splitlines()
    assert len(lines) > 10_000 and lines == sorted(lines)
    for line in lines[::97]:
        assert _find(registry, line[:6]) == line[7:]


def test_random_and_unknown_addresses_have_no_vendor() -> None:
    assert vendor(0x50C7BF000001).startswith("Tp-Link")  # a common one, by itself
    assert vendor(0x00000C000001)  # one of the registry
    assert vendor(0x025555000001) == ""  # locally administered
    assert vendor(1 << 48 | 5) == ""  # no MAC


def test_a_damaged_list_is_unpacked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    vendors._registry.cache_clear()
    try:
        whole = vendors._registry()
        (path,) = tmp_path.glob("vendors-*")
        path.write_bytes(path.read_bytes()[:-1])
        vendors._registry.cache_clear()
        assert vendors._registry() == whole
        assert kept.look_up(path.name) == whole
    finally:
        vendors._registry.cache_clear()
