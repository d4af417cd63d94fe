"""The paper's results, claim by claim: which of them a capture shows, and which it does not.

The claims are data (`paper/*.yaml`); each names measurements (`measures`) with their parameters. A
measurement sees the analyser's tables, `run.json`, and for what a user would see the devices' own
log of their function: never a label, never a device model.
"""

from __future__ import annotations

from testbed.reproduction.claims import Claim, load_claims
from testbed.reproduction.evidence import Evidence, Findings
from testbed.reproduction.verdict import Result, judge

__all__ = ["Claim", "Evidence", "Findings", "Result", "judge", "load_claims"]
