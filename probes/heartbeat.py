"""Heartbeat: has something that should call in called in?

For what nobody can probe from outside: a nightly backup, a script behind a firewall, another monitor. It calls
`/heartbeat/<service>.<check>` on the monitor's own page, by GET or POST, with a token (`Authorization: Bearer …`, or
`?token=…`), and `/heartbeat/<service>.<check>/fail` when it ran and did not go well; what a POST says (up to 1 KiB) is
kept as its note. Silence for longer than `within` is a content fault. Silence while the monitor was not running is
nobody's fault: after a restart the check waits once more for up to `within`, unless it had been silent for too long
before, or the restart took less than a sixtieth of `within` (and less than a minute). A reload interrupts nothing.

Source: RFC 6750 section 2.1 (the token in the request).
"""

from __future__ import annotations

import time
from pathlib import Path as FilePath

from pydantic import Field, SecretStr, model_validator

from probes.base import (
    Duration,
    Fault,
    Measurement,
    ProbeError,
    ProbeSettings,
    ProbeType,
    Value,
    read_secret,
)
from probes.heartbeat_ledger import LEAST_TOKEN, Beat, Heartbeats


class Settings(ProbeSettings):
    """What a heartbeat needs."""

    within: Duration = Field(ge=1, description="Longest silence that is well: the caller's interval, and some patience")
    token_file: FilePath | None = Field(
        default=None, description=f"File whose first line is the caller's token, {LEAST_TOKEN} characters or more"
    )
    token_env: str | None = Field(default=None, description="Environment variable that holds the caller's token")

    @model_validator(mode="after")
    def _token_has_one_source(self) -> Settings:
        if (self.token_file is None) == (self.token_env is None):
            raise ValueError("give one of token_file, token_env")
        return self

    def endpoint(self) -> str:
        """Return nothing: who calls is not known before."""
        return ""

    async def token(self) -> SecretStr:
        """Read the token now, so that a changed file is honoured without a reload.

        Raises:
            ProbeError: LOCAL when it cannot be read.
        """
        return await read_secret(self.token_file, self.token_env)


async def run(settings: Settings, m: Measurement) -> None:
    """Look when the last call came.

    Raises:
        ProbeError: CONTENT after too long a silence, and when the caller itself said that it failed; LOCAL while we
            have not listened for long enough to know, and without a usable token.
    """
    ledger = m.tools.of(Heartbeats)
    if not ledger.hears:
        raise ProbeError(Fault.LOCAL, "heartbeats are heard by the running daemon alone")
    beat = ledger.last(m.check)
    age_s = None if beat is None else time.perf_counter() - beat.clock_s
    m.values["beats_count"] = ledger.count(m.check)
    if beat is not None and age_s is not None:
        _report(m, beat, age_s)
    if age_s is None or age_s > settings.within:
        await _silent(settings, age_s, ledger.silence_s(m.check, settings.within))
    elif beat is not None and not beat.well:
        raise ProbeError(Fault.CONTENT, f"it says that it failed: {beat.note or 'no word why'}")


def _report(m: Measurement, beat: Beat, age_s: float) -> None:
    m.values["age_s"] = age_s
    m.values["last_beat_timestamp_s"] = beat.at.timestamp()
    if beat.note:
        m.fact("note", beat.note)
    if beat.source:
        m.fact("source", beat.source)


async def _silent(settings: Settings, age_s: float | None, listened_s: float) -> None:
    if len((await settings.token()).get_secret_value()) < LEAST_TOKEN:
        raise ProbeError(Fault.LOCAL, f"the token has fewer than {LEAST_TOKEN} characters: no call is taken with it")
    expected = f"expected within {_words(settings.within)}"
    if listened_s < settings.within:
        raise ProbeError(Fault.LOCAL, f"no heartbeat in the {_words(listened_s)} in which we listened, {expected}")
    since = _words(listened_s) + " since we listen" if age_s is None else _words(age_s)
    raise ProbeError(Fault.CONTENT, f"no heartbeat for {since}, {expected}")


def _words(seconds: float) -> str:
    """Say a duration in its two largest units: 3d 4h, 2h 5m, 90 s."""
    whole = int(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= 2 * size:
            rest = whole % size // part
            return f"{whole // size}{unit} {rest}{smaller}" if rest else f"{whole // size}{unit}"
    return f"{whole}s" if whole == seconds or whole >= 10 else f"{seconds:.2g}s"


PROBE = ProbeType(
    kind="heartbeat",
    summary="Something else calls in; silence for too long means that it is down",
    settings=Settings,
    run=run,
    values=(
        Value("age_s", "Time since the last call"),
        Value("last_beat_timestamp_s", "When the last call came, Unix time"),
        Value("beats_count", "Calls heard since the start of the monitor"),
    ),
    facts=(
        Value("note", "What the last call said"),
        Value("source", "The address that the last call came from"),
    ),
    rounds_to_down=1,  # the patience is in `within`
)
