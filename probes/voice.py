"""How a telephone call would sound over a path with a given delay and loss: the E-model, pure arithmetic.

All parameters but delay, loss and codec have their default values, which describe a usual handset in a usual room.
Source: ITU-T G.107 (06/2015) clause 7 and table 3 (defaults), Annex B (from rating to MOS); G.113 (2007) Appendix I
table I.4 (codecs); G.114 (2003) annex A (delay of packets).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# Clauses 7.2 and 7.3 with the defaults of table 3: signal to noise, and what comes with the voice itself.
_RO: Final = 94.769
_IS: Final = 1.414
_TELR_DB: Final = 65.0  # talker echo loudness rating
_WEPL_DB: Final = 110.0  # weighted echo path loss
_NO_DBM0P: Final = -61.18  # sum of all noises
_RLR_DB: Final = 2.0
_SENSE_MS: Final = 100.0  # delay below which a conversation does not notice it; mT and sT have their default values
WORST_SCORE: Final = 1.0


class Codec(StrEnum):
    """How voice is coded, in packets of 20 ms."""

    G711 = "g711"  # silence where a packet is lost
    G711_PLC = "g711-plc"  # fills what is lost (G.711 Appendix I)
    G729A = "g729a"  # with voice activity detection


@dataclass(frozen=True, slots=True)
class _CodecFacts:
    ie: float  # impairment without loss
    bpl: float  # robustness against loss
    delay_s: float  # one packet, and what the coder looks ahead


_CODECS: Final = {
    Codec.G711: _CodecFacts(0.0, 4.3, 0.020),
    Codec.G711_PLC: _CodecFacts(0.0, 25.1, 0.020),
    Codec.G729A: _CodecFacts(11.0, 19.0, 0.025),
}


def codec_delay_s(codec: Codec) -> float:
    """Return how much later than spoken a voice leaves."""
    return _CODECS[codec].delay_s


def rating(
    mouth_to_ear_s: float, loss_ratio: float, *, codec: Codec = Codec.G711_PLC, burst_ratio: float = 1.0
) -> float:
    """Return the transmission rating R: 93.2 is the best, below 50 nearly nobody is content.

    Args:
        mouth_to_ear_s: delay of one way, with coding and the jitter buffer.
        loss_ratio: share of packets that cannot be played, 0 to 1.
        codec: how voice is coded.
        burst_ratio: how much longer runs of loss are than chance would make them; 1 is chance.
    """
    facts = _CODECS[codec]
    loss_percent = 100 * min(max(loss_ratio, 0.0), 1.0)
    # Clause 7.5
    from_loss = (95 - facts.ie) * loss_percent / (loss_percent / max(burst_ratio, 1.0) + facts.bpl)
    delay_ms = 1000 * max(mouth_to_ear_s, 0.0)
    return _RO - _IS - _from_delay(delay_ms) - facts.ie - from_loss


def _from_delay(delay_ms: float) -> float:
    """Return Id: talker echo, listener echo and the delay itself (clause 7.4)."""
    return _talker_echo(delay_ms) + _listener_echo(2 * delay_ms) + _absolute(delay_ms)


def _talker_echo(delay_ms: float) -> float:
    seen = (1 + delay_ms / 10) / (1 + delay_ms / 150)
    terv = _TELR_DB - 40 * math.log10(seen) + 6 * math.exp(-0.3 * delay_ms**2)
    margin = (-1.5 * (_NO_DBM0P - _RLR_DB) - (80 + 2.5 * (terv - 14))) / 2
    return (margin + math.sqrt(margin * margin + 100) - 1) * (1 - math.exp(-delay_ms))


def _listener_echo(round_trip_ms: float) -> float:
    margin = (_RO - 10.5 * (_WEPL_DB + 7) / math.sqrt(math.sqrt(round_trip_ms + 1))) / 2
    return margin + math.sqrt(margin * margin + 169)


def _absolute(delay_ms: float) -> float:
    if delay_ms <= _SENSE_MS:
        return 0.0
    x = math.log2(delay_ms / _SENSE_MS)
    return 25 * (math.pow(1 + x**6, 1 / 6) - 3 * math.pow(1 + (x / 3) ** 6, 1 / 6) + 2)


def mos(r: float) -> float:
    """Return the mean opinion score of a rating, 1 (bad) to 4.5 (Annex B)."""
    if r <= 0:
        return WORST_SCORE
    if r >= 100:
        return 4.5
    return max(WORST_SCORE, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)
