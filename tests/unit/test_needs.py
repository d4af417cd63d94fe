"""A system test that cannot run is skipped with a reason, but fails in CI."""

from __future__ import annotations

import pytest

from tests.conftest import PACKAGES, need


def test_a_missing_command_skips_and_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setitem(PACKAGES, "no-such-command", "its-package")
    with pytest.raises(pytest.skip.Exception, match="apt-get install its-package"):
        need("no-such-command")


def test_a_missing_command_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-command"):
        need("no-such-command")


def test_what_is_there_is_no_reason_to_skip() -> None:
    need("sh")
