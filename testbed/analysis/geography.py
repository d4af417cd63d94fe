"""Where addresses are, by a database in MaxMind's format (GeoLite2-City or -Country, or a run's own)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from testbed.errors import UserError


class Place(NamedTuple):
    """What a database says of an address; empty where it says nothing."""

    country: str = ""
    """ISO 3166, for the United States with the state (US-CA)."""
    registry: str = ""
    """Country in which the address block is registered."""
    physical: str = ""
    """Where it really stands, if the database knows that apart (the testbed's own does)."""
    city: str = ""
    latitude: float | None = None
    longitude: float | None = None


NOWHERE = Place()


class Atlas:
    """Looks addresses up, each once; without a database every place is `NOWHERE`."""

    def __init__(self, path: str | Path | None) -> None:
        self._known: dict[str, Place] = {}
        self._reader: Any = None
        if path is None:
            return
        import maxminddb

        try:
            self._reader = maxminddb.open_database(str(path))
        except FileNotFoundError:
            raise UserError(f"there is no file '{path}'") from None
        except (maxminddb.InvalidDatabaseError, ValueError, OSError) as error:
            raise UserError(f"'{path}' is not a database of places (MaxMind's .mmdb): {error}") from None

    def __bool__(self) -> bool:
        return self._reader is not None

    def place(self, address: str) -> Place:
        """Return where an address is."""
        if self._reader is None or not address:
            return NOWHERE
        if address not in self._known:
            self._known[address] = self._look_up(address)
        return self._known[address]

    def _look_up(self, address: str) -> Place:
        try:
            record = self._reader.get(address)
        except Exception as error:  # maxminddb raises its own and struct's errors on damaged files
            raise UserError(f"the database of places is damaged: {error}") from None
        if not isinstance(record, dict):
            return NOWHERE
        country = _text(record, "country", "iso_code")
        state = ""
        parts = record.get("subdivisions")
        if country == "US" and isinstance(parts, list) and parts and isinstance(parts[0], dict):
            state = str(parts[0].get("iso_code") or "")
        physical = _text(record, "physical", "country")
        physical_state = _text(record, "physical", "state")
        if physical == "US" and physical_state:
            physical = f"US-{physical_state}"
        return Place(
            country=f"US-{state}" if state else country,
            registry=_text(record, "registered_country", "iso_code"),
            physical=physical,
            city=_text(record, "city", "names", "en"),
            latitude=_number(record, "latitude"),
            longitude=_number(record, "longitude"),
        )


def _text(record: dict[str, Any], *path: str) -> str:
    value: Any = record
    for key in path:
        if not isinstance(value, dict):
            return ""
        value = value.get(key)
    return str(value) if isinstance(value, str) else ""


def _number(record: dict[str, Any], key: str) -> float | None:
    location = record.get("location")
    value = location.get(key) if isinstance(location, dict) else None
    return float(value) if isinstance(value, int | float) else None
