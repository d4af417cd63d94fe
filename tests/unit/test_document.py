"""YAML becomes plain data that knows its lines, and hostile YAML becomes one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import UserError
from testbed.models.document import Document, key_path, read_document


def read(folder: Path, text: str) -> Document:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return read_document(path)


def test_every_key_and_item_knows_its_line(tmp_path: Path) -> None:
    document = read(tmp_path, "a: 1\nb:\n  c: x\n  d:\n    - 1\n    - e: 2\n")
    assert [
        document.line(loc) for loc in [("a",), ("b",), ("b", "c"), ("b", "d", 1), ("b", "d", 1, "e")]
    ] == [*(1, 2, 3, 6, 6)]


def test_a_key_that_is_missing_has_the_line_of_what_it_is_missing_from(tmp_path: Path) -> None:
    assert read(tmp_path, "a: 1\nb:\n  c: x\n").line(("b", "missing", 3)) == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("on", "on"),
        ("yes", "yes"),
        ("NO", "NO"),  # Norway
        ("20:30", "20:30"),
        ("20:4e:7f:00:00:01", "20:4e:7f:00:00:01"),
        ("2018-04-03", "2018-04-03"),
        ("010", 10),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        (".nan", ".nan"),
        ("'5'", "5"),
        ("5", 5),
        ("-2.5e3", -2500.0),
        ("true", True),
        ("~", None),
        ("", None),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_words_stay_words(tmp_path: Path, text: str, value: object) -> None:
    got = read(tmp_path, f"key: {text}\n").data["key"]
    assert got == value
    assert type(got) is type(value)


def test_aliases_and_merges_are_unfolded(tmp_path: Path) -> None:
    document = read(tmp_path, "a: &x\n  b: 1\n  c: 2\nd:\n  <<: *x\n  c: 3\n")
    assert document.data["d"] == {"b": 1, "c": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "3: a: key is given twice (first in line 1)"),
        ("a:\n  b: 1\n  b: 2\n", "3: a.b: key is given twice (first in line 2)"),
        ("a: [1\nb: 2\n", "2: is not valid YAML: "),
        ("a:\n\t- 1\n", "2: is not valid YAML: "),
        ("- 1\n", "1: must be keys with values, such as 'name: …'"),
        ("", "1: must be keys with values, such as 'name: …'"),
        ("a: *b\n", "1: is not valid YAML: "),
        ("a: &x [*x]\n", "1: a[0]: an alias (*) that contains itself"),
        ("? [a, b]\n: 1\n", "1: a key must be a word"),
        ("a: &x 5\nb:\n  <<: *x\n", "2: b: '<<' needs an alias of other keys with values"),
        ("a: " + "[" * 60, "1: is nested over 50 levels deep, more than any model needs"),
        ("a: " + "[" * 100_000, "1: is n"),  # "nested over ..." too, or the parser's own limit comes first
    ],
)
def test_bad_yaml_is_one_error_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/file.yaml:{message}")


@pytest.mark.slow
def test_aliases_that_unfold_without_bound_are_refused(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    with pytest.raises(UserError, match="holds over 1,000,000 values"):
        read(tmp_path, bomb)


def test_what_is_no_text_file_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(UserError, match=r"file\.yaml: is not a text file \(byte 3 is not UTF-8\)"):
        read_document(path)
    with pytest.raises(UserError, match="cannot be read: is a directory"):
        read_document(tmp_path)


@given(st.text(alphabet="ab:-[]{}&*#!|>'\"%@`<, \n\t0?~", max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text)
    try:
        assert isinstance(read_document(path).data, dict)
    except UserError as error:
        assert str(path) in str(error)


def test_paths_are_written_as_people_say_them() -> None:
    assert key_path(("events", 3, "device")) == "events[3].device"
    assert key_path(()) == ""
