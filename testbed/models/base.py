"""What every typed model shares: frozen, no unknown keys, every number with its source."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from testbed.models.units import Duration, Share

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
"""A name of a device, topology, scenario, state or task."""

Sources = dict[str, str]
"""Parameter name -> ``confidence: where it was found`` (confidences: `CONFIDENCES`)."""

CONFIDENCES = ("paper", "cap", "doc", "inf", "std", "assumed")
"""How well a number is known: stated in the paper, read off a public capture, documented,
inferred from those, given by a standard, or assumed (a plausible free parameter)."""


class Model(BaseModel):
    """Base of all typed configuration."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # a field's docstring is its description in schemas and in the docs
    )


class Backoff(Model):
    """How long a client waits before it tries again.

    The n-th wait is ``first * factor**n``, at most `cap`, each drawn uniformly within
    ``± jitter`` of itself. `factor` 1 is a constant retry.
    """

    first: Duration = Field(gt=0)
    """The first wait."""
    factor: float = Field(1.0, ge=1)
    """Each further wait is so many times longer; 1 is a constant retry."""
    cap: Duration = Field("1w", gt=0)
    """Longest wait."""
    jitter: Share = 0.0
    """Each wait is drawn uniformly within ± this share of itself."""

    def wait_s(self, failures: int, draw: float) -> float:
        """Return the wait after `failures` failures in a row (from 1), `draw` uniform in [0, 1)."""
        exponent = min(failures - 1, 64)
        base = min(self.cap, self.first * self.factor**exponent)
        return base * (1 + self.jitter * (2 * draw - 1))
