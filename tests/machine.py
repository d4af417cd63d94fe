"""What a run must leave as it found it: interfaces, namespaces, rules, settings, processes, files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

_CHANGES_BY_ITSELF = ("nf_conntrack_count", "random", "uuid", "tcp_fastopen_key", "sched")


def machine() -> dict[str, Any]:
    """Return the machine's state, part by part."""

    def said(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    settings = {}
    for path in Path("/proc/sys/net").rglob("*"):
        if path.is_file() and os.access(path, os.R_OK):
            try:
                settings[str(path)] = path.read_text()
            except OSError:
                continue
    return {
        "links": [line.split(":")[1] for line in said("ip", "-o", "link").splitlines()],
        "namespaces": said("ip", "netns"),
        "rules": said("nft", "list", "ruleset"),
        "settings": {k: v for k, v in settings.items() if not any(word in k for word in _CHANGES_BY_ITSELF)},
        "temporary": sorted(p.name for p in Path("/tmp").glob("m[in]*")),  # Mininet's; others write there too
        "bridges": said("brctl", "show"),
        "history": Path("~/.mininet_history").expanduser().exists(),
    }


def processes_with(mark: str) -> list[int]:
    """Return the processes that run with `mark` in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found
