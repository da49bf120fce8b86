"""How many slow packets in a row chance does not make. Pure: no clock, no input or output."""

from __future__ import annotations

import math
from typing import Final

ANSWERS_STANDING: Final = 4  # slow packets that a queue needs to stand, however thinly the path is probed
CHANCE: Final = 1e-5  # and so many more that a row of them is no chance on a path some of whose packets are always slow
ANSWERS_ROW_MOST: Final = 120  # but no more than this: four bins of a path that is probed each ten seconds
QUIET_ANSWERS: Final = 3000  # of how many the share of slow ones is known: older ones fade
_SELDOM: Final = 0.056  # of packets slow: below it chance makes not even the fewest; the fourth root of CHANCE


def row_needed(answers: float, slow: float) -> int:
    """Return how many slow packets in a row are no chance where so many of the quiet path's answers were slow."""
    share = (slow + 1) / (answers + 20)
    if share < _SELDOM:
        return ANSWERS_STANDING
    return max(ANSWERS_STANDING, min(ANSWERS_ROW_MOST, math.ceil(math.log(CHANCE) / math.log(min(share, 0.99)))))
