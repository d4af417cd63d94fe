"""Which assumed numbers the claims depend on: each is halved and doubled, and the states played again.

Only the seven states are played (a week each would take hours), so only their claims can change. A
claim that changes is not proven by the sources but chosen with that number.
"""

from __future__ import annotations

import copy
import csv
import io
import multiprocessing
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from testbed.errors import UserError
from testbed.models.load import read_device
from testbed.reproduction.claims import load_claims
from testbed.reproduction.evidence import Evidence, look
from testbed.reproduction.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.reproduction.runs import Player

FACTORS = (0.5, 2.0)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")
Loc = tuple[str | int, ...]


class Variation(NamedTuple):
    """One assumed number, changed."""

    device: str
    where: str
    """Habit and parameter."""
    loc: Loc
    value: str
    varied: str


class Effect(NamedTuple):
    """What a variation did to the claims."""

    variation: Variation
    changed: tuple[str, ...]
    """``id: before → after`` for each claim whose verdict is another."""
    why_not: str = ""
    """Why it could not be played: the model refuses the value."""

    @property
    def matters(self) -> bool:
        """Whether some claim changes."""
        return bool(self.changed)

    def row(self) -> tuple[str, ...]:
        """Return the fields of its line in `vary.csv`."""
        told = "; ".join(self.changed) or self.why_not
        return (
            self.variation.device,
            self.variation.where,
            self.variation.value,
            self.variation.varied,
            told,
        )


def vary(device: str, player: Player, folder: Path, processes: int, seed: int = 1) -> list[Effect]:
    """Play every variation of a device's assumed numbers below `folder`; raises what playing raises."""
    found = variations(device)
    before = verdicts(player, folder, seed)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        futures = [pool.submit(effect, player, folder, seed, variation, before) for variation in found]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


COLUMNS = ("device", "parameter", "value", "varied", "changed")
"""Of `vary.csv`."""


def csv_text(effects: Sequence[Effect]) -> str:
    """Return `vary.csv`: one row for each variation (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(effect.row() for effect in effects)
    return out.getvalue()


def variations(device: str) -> list[Variation]:
    """Return what can be varied of a device's model: each assumed number, halved and doubled."""
    data = read_device(device).document.data
    blocks: list[tuple[Loc, dict[str, Any]]] = [((), data)]
    blocks += [
        ((name,), data[name]) for name in data if isinstance(data[name], dict) and "sources" in data[name]
    ]
    blocks += [(("habits", index), habit) for index, habit in enumerate(data.get("habits", ()))]
    out = []
    for at, block in blocks:
        for path, value in _assumed(block):
            for factor in FACTORS:
                name = str(block.get("name", at[0] if at else "device"))
                where = f"{name}: {'.'.join(map(str, path))}"
                varied = str(scaled(value, factor))
                if varied != str(value):
                    out.append(Variation(device, where, (*at, *path), str(value), varied))
    return list(dict.fromkeys(out))


def _assumed(block: dict[str, Any]) -> Iterator[tuple[Loc, Any]]:
    """Yield the numbers of a block whose source says that they are assumed."""
    for key, text in (block.get("sources") or {}).items():
        if not str(text).startswith("assumed"):
            continue
        for name in (part.strip() for part in str(key).split(",")):
            value: Any = block
            path = tuple(name.split("."))
            for step in path:
                value = value.get(step) if isinstance(value, dict) else None
            yield from _leaves(value, path)


def _leaves(value: Any, path: Loc) -> Iterator[tuple[Loc, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "sources":
                yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if not isinstance(inner, int):  # numbers in lists are codes, such as DHCP options
                yield from _leaves(inner, (*path, index))
    elif _is_number(value) and scaled(value, 2.0) != value:
        yield path, value


def _is_number(value: Any) -> bool:
    """Return whether a value is a count or a quantity; flags, words and times of day are not."""
    if isinstance(value, str):
        return value[:1].isdigit() and not _TIME_OF_DAY.fullmatch(value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def scaled(value: Any, factor: float) -> Any:
    """Return a number, or a quantity with units such as ``1h30m``, times a factor; counts stay whole."""
    if isinstance(value, int):
        return max(1, round(value * factor))
    if isinstance(value, float):
        return value * factor
    return _NUMBER.sub(lambda match: f"{float(match[0]) * factor:.6g}", value)


def verdicts(player: Player, folder: Path, seed: int, models: tuple[Path, ...] = ()) -> dict[str, str]:
    """Play the states with some models replaced, and return the verdict of each claim."""
    run = folder / "run"
    player("all-states", out=run, seed=seed, models=models)
    try:
        evidence = Evidence(seed, states=look(run))
    finally:
        shutil.rmtree(run)
    return {result.claim.id: result.verdict for result in judge(load_claims(), [evidence])}


def effect(player: Player, folder: Path, seed: int, variation: Variation, before: dict[str, str]) -> Effect:
    """Play one variation below `folder` and compare."""
    place = Path(mkdtemp(dir=folder))
    models = place / "models"
    models.mkdir()
    data = copy.deepcopy(read_device(variation.device).document.data)
    target: Any = data
    for step in variation.loc[:-1]:
        target = target[step]
    factor = 2.0 if str(scaled(target[variation.loc[-1]], 2.0)) == variation.varied else 0.5
    target[variation.loc[-1]] = scaled(target[variation.loc[-1]], factor)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    (models / f"{variation.device}.yaml").write_text(text, encoding="utf-8")
    try:
        after = verdicts(player, place, seed, (models,))
    except UserError as error:
        return Effect(variation, (), str(error).splitlines()[0])
    finally:
        shutil.rmtree(place, ignore_errors=True)
    changed = tuple(
        f"{name}: {before[name]} → {after[name]}" for name in before if after[name] != before[name]
    )
    return Effect(variation, changed)
