"""The page on the analyser's tables has every file, every column and every key, in their order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import testbed
from testbed.analysis.rows import TABLES, columns

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tables.md").read_text()


def section(title: str) -> str:
    assert f"\n## {title}\n" in PAGE, f"docs/tables.md has no section {title}"
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    """Return the words in the first column of a section's table."""
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [word for cell in rows for word in re.findall(r"`(\w+)`", cell)]


@pytest.mark.parametrize("name", TABLES)
def test_the_columns_of_a_table(name: str) -> None:
    assert sorted(first_cells(section(f"{name}.csv"))) == sorted(columns(TABLES[name]))


@pytest.mark.slow
def test_the_keys_of_the_summary(tmp_path: Path) -> None:
    testbed.run("internet-outage", out=tmp_path / "run", until_s=60)
    summary = testbed.analyse(tmp_path / "run" / "capture.pcap").summary()
    assert sorted(first_cells(section("analysis.json"))) == sorted(summary)
