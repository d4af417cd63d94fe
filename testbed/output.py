"""Output folders that are complete or absent, and never overwrite what is not ours.

Where it is asked for, absent also when this process is killed: a shell beside it then removes the
half-made folder.
"""

from __future__ import annotations

import glob
import os
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.errors import UserError, WorldError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def new_folder(out: str | Path, *, force: bool, mark: str, even_if_killed: bool = False) -> Iterator[Path]:
    """Give a fresh folder beside `out` that takes its place once the block ends without an error.

    An existing `out` is refused without `force`. With it, the old folder stays until the new one is
    complete, and goes only if it is empty or holds the file `mark`, by which one knows our folders.
    What is half-made is removed on any error, with `even_if_killed` on `kill -9` of this process too.
    Raises UserError, or WorldError when the disk does not allow it.
    """
    target = Path(os.path.abspath(out))
    refuse_existing(target, force=force, mark=mark)
    partial = target.with_name(f"{_partial(target)}{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(target)
        _remove(partial)
        partial.mkdir()
    except OSError as error:
        raise WorldError(f"{target}: cannot be made: {error.strerror}") from None
    with _removed_if_killed(partial) if even_if_killed else nullcontext():
        try:
            yield partial
            refuse_existing(target, force=force, mark=mark)
            _put_in_place(partial, target)
        finally:
            _remove(partial)


def refuse_existing(target: Path, *, force: bool, mark: str) -> None:
    """Raise UserError if `target` exists and may not be replaced."""
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or target.is_symlink():
        raise UserError(f"{target}: exists and is not a folder; choose another name")
    if not force:
        raise UserError(f"{target}: exists already; choose another folder, or replace it with --force")
    if any(target.iterdir()) and not (target / mark).is_file():
        raise UserError(f"{target}: holds no {mark}, so it is not ours to replace; choose another folder")


def _partial(target: Path) -> str:
    return f".{target.name}.partial-"


@contextmanager
def _removed_if_killed(folder: Path) -> Iterator[None]:
    """Have `folder` removed when this process ends before the block does, however it ends."""
    import shutil
    import subprocess

    if shutil.which("sh") is None:
        yield
        return
    with subprocess.Popen(
        ["sh", "-c", 'cat; rm -rf -- "$0"', folder], stdin=subprocess.PIPE, start_new_session=True
    ):  # its input ends with this process, or here
        yield


def _clear_abandoned(target: Path) -> None:
    """Remove the half-made folders of `target` that outlived their makers, as after a power cut."""
    prefix = _partial(target)
    for left in target.parent.glob(f"{glob.escape(prefix)}*"):
        maker = left.name.removeprefix(prefix)
        if maker.isdecimal() and not Path("/proc", maker).exists() and Path("/proc/self").exists():
            _remove(left)


def _put_in_place(partial: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    try:
        if target.exists():
            target.rename(old)
        partial.rename(target)
    except OSError as error:
        if old.exists() and not target.exists():
            old.rename(target)
        raise WorldError(f"{target}: cannot be put in place: {error.strerror}") from None
    _remove(old)


def _remove(folder: Path) -> None:
    """Delete a folder of ours, if it is there."""
    if folder.exists():
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
