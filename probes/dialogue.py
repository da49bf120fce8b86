"""A dialogue of texts on an open connection: say something, wait until a pattern comes. Bounded; no protocol at all.

Patterns are RE2's, searched in what came since the last match.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probes.base import Fault, Measurement, ProbeError, one_line
from probes.net import Stream
from probes.regex import Regex, search

UNMATCHED_LIMIT: Final = 16384  # characters read for one step without finding its pattern; chosen: any greeting fits
STEPS_LIMIT: Final = 20
SHOWN: Final = 60  # characters of an answer in a reason


class Step(BaseModel):
    """One step of a dialogue: say something, wait for something, or both in this order."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, frozen=True, extra="forbid")

    send: str | None = Field(default=None, min_length=1, max_length=4096, description='Text to send, as "PING\\r\\n"')
    expect: Regex | None = Field(default=None, description="Pattern (RE2) that has to come; (?m) lets ^ match lines")

    @model_validator(mode="after")
    def _not_empty(self) -> Step:
        if self.send is None and self.expect is None:
            raise ValueError("give send, expect or both")
        return self


async def hold(dialogue: Sequence[Step], stream: Stream, m: Measurement) -> None:
    """Hold a dialogue, timed as phase `processing`; the line of the last match is kept as the fact `answer`.

    Raises:
        ProbeError: CONTENT when something else came than was expected; REFUSED when the server hung up before a word.
        OSError: the connection broke.
    """
    with m.phase("processing"):
        talk = _Talk(stream, m)
        for step in dialogue:
            if step.send is not None:
                await stream.write(step.send.encode())
            if step.expect is not None:
                await talk.expect(step.expect)


class _Talk:
    """What the server has said and no step has used yet."""

    def __init__(self, stream: Stream, m: Measurement) -> None:
        self._stream = stream
        self._m = m
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._heard = ""

    async def expect(self, pattern: str) -> None:
        """Read until the pattern is found; what stands behind it is left to the next step.

        Raises:
            ProbeError: CONTENT or REFUSED, see `run`.
        """
        while (found := search(pattern, self._heard)) is None:
            if len(self._heard) >= UNMATCHED_LIMIT:
                raise ProbeError(Fault.CONTENT, f"{self._wanted(pattern)} in {len(self._heard)} characters")
            data = await self._stream.read_some()
            if not data:
                raise self._hung_up(pattern)
            self._heard += self._decoder.decode(data)
            if "answer" not in self._m.facts:  # shown also when the deadline comes first
                self._m.fact("answer", _line_at(self._heard, 0))
        self._m.fact("answer", _line_at(self._heard, found[0]))
        self._heard = self._heard[found[1] :]

    def _wanted(self, pattern: str) -> str:
        came = repr(one_line(self._heard, SHOWN)) if self._heard else "nothing more"
        return f"expected pattern '{pattern[:SHOWN]}', got {came}"

    def _hung_up(self, pattern: str) -> ProbeError:
        if not self._heard and "answer" not in self._m.facts:
            return ProbeError(Fault.REFUSED, "the server hung up without a word")
        return ProbeError(Fault.CONTENT, f"{self._wanted(pattern)} and the end")


def _line_at(text: str, position: int) -> str:
    begin = max(text.rfind("\n", 0, position), text.rfind("\r", 0, position)) + 1
    return text[begin:].lstrip("\r\n").partition("\n")[0]
