"""Corrections: what a person says a span of time was, with a reason, and with a second person's approval. Pure.

Nothing measured is changed by one. Figures are given twice, as measured and with the approved corrections laid over;
one that nobody approved changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from config.plan import Window
from monitor.model import State

PROPOSED: Final = "proposed"
APPROVED: Final = "approved"
REJECTED: Final = "rejected"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that shows why: a work order, a letter of the carrier. It is named by its hash and kept by people."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Correction:
    """A proposal, and what was decided on it."""

    id: int
    subject: str  # id of a service, or service.check
    window: Window
    state: State
    reason: str
    author: str
    account: str  # who was logged in
    at: datetime  # when it was put on record
    evidence: Attachment | None = None
    status: str = PROPOSED
    decided_by: str = ""
    decided_at: datetime | None = None
    decision: str = ""  # why, in the words of who decided
    decision_no: int = 0  # the record of the decision: later ones lie over earlier ones

    @property
    def approved(self) -> bool:
        """Whether it counts."""
        return self.status == APPROVED


def same_person(one: str, other: str) -> bool:
    """Whether two names may be one person's, however they were typed: letters alone count, without their marks.

    Two people whose names differ in marks alone have to give something more, such as their unit: better one who is
    asked for more than one who approves his own correction.
    """
    return _bare(one) == _bare(other)


def _bare(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name.casefold().replace("đ", "d"))
    return re.sub(r"[\W_]+", "", "".join(c for c in letters if not unicodedata.combining(c)))
