"""The paper's claims as data: what it says, where, and which measurements decide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from testbed.errors import UserError
from testbed.models.base import Model
from testbed.models.document import Document, read_document
from testbed.models.problems import explain
from testbed.reproduction.measures import Checks

KINDS = {
    "N": "a number",
    "O": "an order or inequality",
    "S": "a set or membership",
    "Q": "what a user sees",
    "M": "method or set-up",
    "C": "a conjecture of the authors: reported, not judged",
}
FOLDER = Path(__file__).resolve().parent / "paper"


class Claim(Model):
    """One statement of the paper that can be tested, or the reason why it cannot."""

    id: Annotated[str, Field(pattern=r"^P-[0-9T.]+-\d\d$")]
    where: str
    """Section and paragraph, table or figure of the paper."""
    kind: Literal["N", "O", "S", "Q", "M", "C"]
    claim: str
    """What is said, in our words."""
    expected: str
    """The value or set that is expected."""
    check: Checks | None = None
    """Measurements, all of which must hold."""
    note: str = ""
    """How the claim is read where the paper contradicts itself or leaves something open."""
    reason: str = ""
    """Why it fails, or why it cannot be checked."""

    @model_validator(mode="after")
    def _has_check_or_reason(self) -> Claim:
        if self.check is None and not self.reason:
            raise ValueError("needs a check, or the reason why there is none")
        return self

    @property
    def judged(self) -> bool:
        """Whether it gets a verdict; conjectures do not."""
        return self.kind != "C"


class _Page(Model):
    """One file of claims: those of one section."""

    section: str
    claims: tuple[Claim, ...]


def load_claims(folder: Path = FOLDER) -> list[Claim]:
    """Return all claims in the paper's order; raises UserError naming file, line and key."""
    out: list[Claim] = []
    seen: dict[str, Path] = {}
    for path in sorted(folder.glob("*.yaml")):
        document = read_document(path)
        for claim in _page(document).claims:
            if claim.id in seen:
                raise UserError(f"{path}: {claim.id} stands in {seen[claim.id].name} already")
            seen[claim.id] = path
            out.append(claim)
    return out


def _page(document: Document) -> _Page:
    try:
        return _Page.model_validate(document.data)
    except ValidationError as error:
        raise UserError("\n".join(explain(error, _Page, document))) from None
