"""The rules that hold the house together, held against every file."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.models.document import read_document

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted((ROOT / "testbed").rglob("*.py"))

BASE = {"errors", "host", "models", "protocols"}
MAY_IMPORT = {
    "errors": set(),
    "models": {"errors", "models"},
    "host": {"errors", "models"},
    "protocols": BASE,
    "kernel": {"kernel"},
    "output": {"errors"},
    "capture": {"errors", "models", "capture"},
    "analysis": {"errors", "models", "capture", "analysis"},
    "behaviours": {*BASE, "behaviours"},
    "services": {*BASE, "services"},
    "scenario": {*BASE, "behaviours", "services", "capture", "scenario"},
    "simulation": {*BASE, "behaviours", "services", "capture", "scenario", "kernel", "simulation"},
    "emulation": {*BASE, "behaviours", "services", "capture", "scenario", "kernel", "emulation"},
    "validation": {"errors", "models", "capture", "analysis", "scenario", "output", "validation"},
    "report": {"errors", "models", "capture", "analysis", "validation", "output", "report"},
    "reproduction": {"errors", "models", "capture", "analysis", "scenario", "report", "reproduction"},
}
"""Part -> the parts it may import. `cli`, `api` and the package itself are on top and import anything."""

ON_TOP = {"cli", "api", "__init__", "__main__"}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "testbed").parts[0].removesuffix(".py")


def imports(tree: ast.AST, *, typing_too: bool = True) -> Iterator[tuple[int, str]]:
    """Yield line and full name of every import, wherever it stands; `TYPE_CHECKING` blocks if wanted."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not typing_too:
            for other in node.orelse:
                yield from imports(other)
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        else:
            yield from imports(node, typing_too=typing_too)


def wrong_imports(source: str, part: str) -> list[str]:
    return [
        f"line {line}: {part} imports {name}"
        for line, name in imports(ast.parse(source))
        if name.startswith("testbed.") and name.split(".")[1] not in MAY_IMPORT[part]
    ]


def breaks_of_rule_1(source: str) -> list[str]:
    """Return where code (comments and docstrings aside) knows of what happens to the network."""
    docstrings = {
        node.body[0].lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node) is not None
    }
    return [
        f"line {token.start[0]}: {word}"
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type in (tokenize.NAME, tokenize.STRING) and token.start[0] not in docstrings
        for word in ("scenario", "state_number", "phase")
        if word in token.string.lower()
    ]


FIXED_DATES = {"certs.py"}
"""Files that need the type `datetime` for constants (the validity of certificates), never its clock."""


def breaks_of_rule_2(source: str, *, dates: bool = False) -> list[str]:
    """Return where code takes time or chance from anywhere but its host."""
    tree = ast.parse(source)
    banned = {"time", "datetime", "random", "secrets", "asyncio", "simpy", "socket", "threading"}
    if dates:
        banned -= {"datetime"}
    found = [
        f"line {line}: imports {name}"
        for line, name in imports(tree, typing_too=False)
        if name.split(".")[0] in banned
    ]
    found += [
        f"line {node.lineno}: reads a clock"
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in ("utcnow", "today"))
        or (isinstance(node, ast.Attribute) and node.attr == "now" and "date" in ast.unparse(node.value))
    ]
    found += [
        f"line {node.lineno}: draws an identifier"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.alias)
        and (node.attr if isinstance(node, ast.Attribute) else node.name) in ("uuid1", "uuid4", "urandom")
    ]
    found += [
        f"line {node.lineno}: calls hash()"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hash"
    ]
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    part = part_of(path)
    if part not in ON_TOP:
        assert wrong_imports(path.read_text(), part) == []


def of_parts(*parts: str) -> list[Path]:
    return [path for path in CODE if part_of(path) in parts]


@pytest.mark.parametrize("path", of_parts("behaviours", "services"), ids=lambda path: path.stem)
def test_devices_and_services_do_not_know_what_happens_to_the_network(path: Path) -> None:
    assert breaks_of_rule_1(path.read_text()) == []


@pytest.mark.parametrize(
    "path", of_parts("behaviours", "services", "protocols", "kernel"), ids=lambda path: path.stem
)
def test_time_and_chance_come_from_the_host(path: Path) -> None:
    assert breaks_of_rule_2(path.read_text(), dates=path.name in FIXED_DATES) == []


@pytest.mark.parametrize("path", sorted((ROOT / "device_models").glob("*.yaml")), ids=lambda path: path.stem)
def test_device_models_do_not_know_what_happens_to_the_network(path: Path) -> None:
    def words(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key not in ("sources", "limits"):  # prose
                    yield str(key)
                    yield from words(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from words(inner)
        elif isinstance(value, str):
            yield value

    found = [
        word
        for word in words(read_document(path).data)
        for bad in ("scenario", "phase", "state")
        if bad in word
    ]
    assert found == []


def test_the_scans_see_violations() -> None:
    assert wrong_imports("from testbed.simulation import network", "analysis")
    assert wrong_imports("def f():\n    import testbed.services.registry", "models")
    assert not wrong_imports("from testbed.capture import frame", "analysis")
    assert breaks_of_rule_1("def f(host):\n    return host.scenario")
    assert breaks_of_rule_1('KEY = "phase"')
    assert not breaks_of_rule_1('"""A scenario."""\n# in every scenario\nx = 1')
    assert breaks_of_rule_2("from time import monotonic")
    assert breaks_of_rule_2("def f():\n    import asyncio")
    assert breaks_of_rule_2("x = hash('plug')")
    assert breaks_of_rule_2("from uuid import uuid4")
    assert breaks_of_rule_2("import uuid\nx = uuid.uuid1()")
    assert not breaks_of_rule_2("from uuid import uuid5")
    assert breaks_of_rule_2("from datetime import datetime\nx = datetime.now()", dates=True)
    assert not breaks_of_rule_2("if TYPE_CHECKING:\n    from random import Random")
