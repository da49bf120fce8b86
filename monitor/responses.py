"""What the results of one check said within a period, and which response times stand at which rank. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Final

_MICRO: Final = 1_000_000
_USUAL: Final = (0.5, 0.9, 0.95, 0.99, 1.0)  # shares that one format of a report or another asks for
_FEW: Final = 5_000  # values that are sorted here; of more the library behind the evidence finds the ranks


class Responses:
    """Counts of results, and the response times of the good ones: in whole microseconds, as they are recorded."""

    __slots__ = ("_ranked", "bad", "blind", "echoes_lost", "echoes_sent", "good", "micros")

    def __init__(
        self,
        good: int,
        bad: int,
        blind: int,
        seconds: Iterable[float] = (),
        echoes_sent: int = 0,
        echoes_lost: int = 0,
    ) -> None:
        """Args: seconds: response times of the good results, in no order."""
        self.good = good
        self.bad = bad
        self.blind = blind
        # Four bytes each: there may be tens of millions.
        self.micros = array("I", (round(s * _MICRO) for s in seconds))
        self.echoes_sent = echoes_sent
        self.echoes_lost = echoes_lost
        self._ranked: tuple[int, dict[int, int]] = (0, {})  # of so many times, by place: every format of a report asks

    def __eq__(self, other: object) -> bool:
        """Whether they say the same, in the same order."""
        if not isinstance(other, Responses):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__ if name != "_ranked")

    __hash__ = None  # type: ignore[assignment]  # they grow

    def __repr__(self) -> str:
        """Name the counts, for a test that fails."""
        return f"Responses({self.good}, {self.bad}, {self.blind}, {len(self.micros)} times, {self.echoes_sent})"

    @property
    def seconds(self) -> Sequence[float]:
        """The response times in seconds, in no order."""
        return array("d", (us / _MICRO for us in self.micros))

    def at_ranks(self, shares: Sequence[float]) -> list[float | None]:
        """Return the smallest time that at least such a share of the times do not exceed (RFC 2330 section 11.3).

        Args:
            shares: each above 0 and at most 1, to the thousandth; 1 asks for the largest time.

        Returns:
            Seconds, one for each share; None where there are no times.
        """
        count = len(self.micros)
        if not count:
            return [None] * len(shares)
        places = [_place(count, share) for share in shares]
        if self._ranked[0] != count or not self._ranked[1].keys() >= set(places):
            usual = sorted({*places, *(_place(count, share) for share in _USUAL)})
            if count > _FEW:
                found = _picked(self.micros, usual)
            else:
                ordered = sorted(self.micros)
                found = [ordered[place] for place in usual]
            self._ranked = count, dict(zip(usual, found, strict=True))
        return [self._ranked[1][place] / _MICRO for place in places]


def _place(count: int, share: float) -> int:
    return max(1, -(-count * round(share * 1000) // 1000)) - 1


def _picked(values: array[int], places: Sequence[int]) -> list[int]:
    """Return what would stand at these places if all were sorted, without sorting all."""
    import pyarrow as pa  # large, and a daemon without long reports does without
    import pyarrow.compute as pc

    whole = pa.Array.from_buffers(pa.uint32(), len(values), [None, pa.py_buffer(values)])
    # "lower" takes the value below a place between two; a quarter beyond ours is safe from rounding.
    asked = [min((place + 0.25) / (len(values) - 1), 1.0) for place in places]
    found: list[int] = pc.quantile(whole, q=asked, interpolation="lower").to_pylist()
    return found
