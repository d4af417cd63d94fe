"""What is true of a run: its labels, its description, and the models that were played."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from testbed.errors import UserError
from testbed.validation.wire import Wire, read_wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from testbed.models.setup import Setup


class Column(NamedTuple):
    """A column of names: ``names[codes[i]]`` is the name in row i."""

    names: list[str]
    codes: NDArray[np.int32]

    def mask(self, *names: str) -> NDArray[np.bool_]:
        """Return which rows hold one of the names."""
        wanted = [i for i, name in enumerate(self.names) if name in names]
        return np.isin(self.codes, wanted)


@dataclass(frozen=True)
class Labels:
    """`labels.parquet`: one entry per frame, in the order of the capture."""

    time_ns: NDArray[np.int64]
    exchange: NDArray[np.int64]
    device: Column
    direction: Column
    behaviour: Column
    protocol: Column
    service: Column
    state: Column

    def __len__(self) -> int:
        return len(self.time_ns)


@dataclass(frozen=True)
class Truth:
    """A run as it really was."""

    folder: Path
    run: dict[str, Any]
    """`run.json`."""
    labels: Labels
    wire: Wire
    setup: Setup | None
    """The models; None if they could not be loaded."""
    why_no_setup: str = ""

    def model_of(self) -> dict[str, str]:
        """Return each device's model."""
        return {str(entry["name"]): str(entry["model"]) for entry in self.run["devices"]}


def load_truth(folder: str | Path, models: Sequence[str | Path] = ()) -> Truth:
    """Read a run's folder; `models` are the user's own folders of models. Raises UserError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder that `testbed run` made")
    for name in ("run.json", "labels.parquet", "capture.pcap"):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder}: there is no {name} in it; only runs of the testbed have a ground truth"
            )
    try:
        run = json.loads((folder / "run.json").read_bytes())
        _ = run["devices"], run["states"], run["services"], run["scenario"]["name"], run["topology"]["name"]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / 'run.json'}: cannot be read: {error}") from None
    except KeyError as error:
        raise UserError(f"{folder / 'run.json'}: the key {error} is missing") from None
    labels = read_labels(folder / "labels.parquet")
    wire = read_wire(folder / "capture.pcap")
    if len(wire) != len(labels):
        raise UserError(f"{folder}: {len(wire):,} frames, but {len(labels):,} labels; the run is damaged")
    setup, why = _setup(run, models)
    return Truth(folder, run, labels, wire, setup, why)


def read_labels(path: Path) -> Labels:
    """Read labels; raises UserError naming what is wrong with the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None

    def names(column: str) -> Column:
        values = table.column(column)
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        whole = values.unify_dictionaries().combine_chunks()
        if isinstance(whole, pa.ChunkedArray):
            whole = (
                whole.chunk(0) if whole.num_chunks else pa.array([], pa.dictionary(pa.int32(), pa.string()))
            )
        return Column(
            whole.dictionary.to_pylist(), whole.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        )

    try:
        return Labels(
            time_ns=table.column("time_ns").to_numpy(),
            exchange=table.column("exchange").to_numpy(),
            **{
                name: names(name)
                for name in ("device", "direction", "behaviour", "protocol", "service", "state")
            },
        )
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]}") from None


def _setup(run: dict[str, Any], models: Sequence[str | Path]) -> tuple[Setup | None, str]:
    from testbed.models.setup import load_setup

    try:
        return load_setup(run["scenario"]["name"], run["topology"]["name"], models), ""
    except UserError as error:
        return None, f"the models of the run cannot be loaded ({error}); name their folder with --models"
