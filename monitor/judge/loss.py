"""Packet loss with honest bounds. Pure: no clock, no input or output."""

from __future__ import annotations

import math
from typing import Final

SHOWN: Final = 1.96  # standard deviations of the bounds people are shown: 95 %, two sides
ALARM: Final = 3.29  # and of the bound that decides: asked every five minutes, 95 % would be wrong each week


def wilson(lost: int, sent: int, z: float = SHOWN) -> tuple[float, float]:
    """Return the bounds of the loss ratio that `lost` of `sent` packets prove. Source: Wilson 1927, score interval."""
    if sent <= 0:
        return 0.0, 1.0
    p, z2 = lost / sent, z * z
    middle = (p + z2 / (2 * sent)) / (1 + z2 / sent)
    half = z / (1 + z2 / sent) * math.sqrt(p * (1 - p) / sent + z2 / (4 * sent * sent))
    return max(0.0, middle - half), min(1.0, middle + half)
