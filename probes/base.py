"""The contract between a probe and the rest of the house.

A probe is one module `probes/<kind>.py` with a settings model, a coroutine `run` and a `PROBE` that names both.
Probes measure and hold no opinion: what a failure means for a service is judged elsewhere. This module must not
know any protocol and must not import any other room of the house.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationInfo, model_validator

from probes.faults import BLIND_FAULTS as BLIND_FAULTS
from probes.faults import Fault as Fault
from probes.faults import fault_of as fault_of
from probes.loop_watch import TICK_S, LoopWatch

log = logging.getLogger(__name__)

T = TypeVar("T")

DETAIL_LIMIT: Final = 200  # characters of a one-line reason; chosen: fits a mail header and a table cell
TRUSTED_PART: Final = 0.1  # chosen: a time that our own lateness is a greater part of says little of the target
PHASES: Final = ("resolve", "connect", "tls", "processing", "transfer")  # the only names a phase may have


def utc_now() -> datetime:
    """Return the present moment as an aware datetime in UTC; the only place the wall clock is read."""
    return datetime.now(UTC)  # noqa: TID251  the one allowed reading


def one_line(text: str, limit: int = DETAIL_LIMIT) -> str:
    """Make text safe for a log line, a mail header and a table cell: one line, printable, at most `limit` long."""
    if len(text) <= limit and text.isprintable() and "  " not in text and text.strip() == text:
        return text  # the only printable blank is the space; this is nearly every text, several times a probe
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


class ProbeError(Exception):
    """A probe's own verdict on why it could not finish; becomes a Reading with that fault."""

    def __init__(self, fault: Fault, detail: str) -> None:
        """Args: fault: one of the closed list. detail: what was expected and what came, without secrets."""
        super().__init__(detail)
        self.fault = fault
        self.detail = one_line(detail)


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: object) -> float:
    """Read `500ms 30s 5m 2h 7d` as seconds.

    Raises:
        ValueError: anything else, bare numbers included: a number without a unit is a wrong unit waiting to happen.
    """
    if isinstance(text, str) and (match := _DURATION.fullmatch(text)):
        return float(match[1]) * _UNIT_S[match[2]]
    raise ValueError("expected a duration with its unit, like 500ms, 30s, 5m, 2h or 7d")


def _duration(value: object, info: ValidationInfo) -> object:
    """Take seconds from code; from a file, where `30.0` would be a number without its unit, only text."""
    return value if isinstance(value, float) and info.mode != "json" else parse_duration(value)


_DurationText = Annotated[str, Field(pattern=rf"^{_DURATION.pattern}$")]  # what an editor is told
Duration = Annotated[float, BeforeValidator(_duration, json_schema_input_type=_DurationText), Field(ge=0)]  # seconds
Host = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[^\s/]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]


class IpFamily(StrEnum):
    """Which address family to use; `any` tries IPv4 and IPv6 in the resolver's order."""

    ANY = "any"
    IP4 = "ip4"
    IP6 = "ip6"

    @property
    def socket_family(self) -> socket.AddressFamily:
        """The socket module's constant for this choice."""
        return _SOCKET_FAMILIES[self]


_SOCKET_FAMILIES: Final = {
    IpFamily.ANY: socket.AF_UNSPEC,
    IpFamily.IP4: socket.AF_INET,
    IpFamily.IP6: socket.AF_INET6,
}


class ProbeSettings(BaseModel):
    """What one kind of probe needs to know; subclassed beside its `run`.

    Validated from JSON text (`model_validate_json`), so that strict mode accepts enums and tuples.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, frozen=True, extra="forbid")

    def endpoint(self) -> str:
        """Return the host that is probed, for grouping what shares a host; empty when there is none."""
        return str(getattr(self, "host", ""))


class PasswordSettings(ProbeSettings):
    """Login settings: the secret itself never stands in the configuration."""

    username: str | None = Field(default=None, description="Login name; without it no login is tried")
    password_file: FilePath | None = Field(default=None, description="File whose first line is the password")
    password_env: str | None = Field(default=None, description="Environment variable that holds the password")

    @model_validator(mode="after")
    def _password_has_one_source(self) -> PasswordSettings:
        sources = (self.password_file is not None) + (self.password_env is not None)
        if sources > 1:
            raise ValueError("give password_file or password_env, not both")
        if sources != (self.username is not None):
            raise ValueError("username and one of password_file, password_env go together")
        return self

    async def password(self) -> SecretStr:
        """Read the password now, so that a changed file is honoured without a reload.

        Raises:
            ProbeError: LOCAL when the source cannot be read.
        """
        return await read_secret(self.password_file, self.password_env)


async def read_secret(file: FilePath | None, env: str | None) -> SecretStr:
    """Read a secret from a file's first line or an environment variable.

    Raises:
        ProbeError: LOCAL when neither can be read; the message names the source, never the secret.
    """
    if env is not None:
        value = os.environ.get(env)
        if not value:
            raise ProbeError(Fault.LOCAL, f"environment variable {env} with the secret is not set")
        return SecretStr(value)
    if file is None:
        raise ProbeError(Fault.LOCAL, "no source for the secret is configured")
    try:
        text = await asyncio.to_thread(file.read_text, "utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ProbeError(Fault.LOCAL, f"secret file {file} cannot be read: {exc}") from exc
    return SecretStr(text.split("\n", 1)[0].rstrip("\r"))


@dataclass(frozen=True, slots=True)
class Path:
    """An uplink a check leaves by. Both unset is the system's own route."""

    id: str
    name: str
    source: str | None = None  # local address to bind, IPv4 or IPv6
    interface: str | None = None  # network interface, by SO_BINDTODEVICE


class Tools:
    """Long-lived helpers that probes share, one of each type for each daemon: sockets, resolvers, contexts.

    Owned by whoever runs probes; every probe may ask for one, none keeps state of its own.
    """

    def __init__(self) -> None:
        self._made: dict[type[Any], Any] = {}

    def of(self, kind: type[T]) -> T:
        """Return the one `kind()` of this set, made at the first call; it may have a plain method `close`."""
        tool = self._made.get(kind)
        if tool is None:
            tool = self._made[kind] = kind()
        found: T = tool
        return found

    def put(self, tool: object) -> None:
        """Give the one of its type, made by whoever owns the tools; for those that need to know a file or a peer."""
        self._made[type(tool)] = tool

    def close(self) -> None:
        """Close every tool that can be closed, and forget all."""
        for tool in self._made.values():
            close = getattr(tool, "close", None)
            if close is not None:
                close()
        self._made.clear()


@dataclass(slots=True)
class Measurement:
    """What one run has found out so far; filled by the probe, kept whatever way the run ends.

    A probe writes phases with `with m.phase("connect"):`, numbers into `values`, texts into `facts` and one
    entry an echo into `rtts_s`. What is written before a failure or the time-out stays in the Reading.
    """

    timeout_s: float
    path: Path | None = None
    tools: Tools = field(default_factory=Tools)
    phases: dict[str, float] = field(default_factory=dict)  # seconds by phase name, one of PHASES
    values: dict[str, float] = field(default_factory=dict)  # names declared in ProbeType.values
    facts: dict[str, str] = field(default_factory=dict)  # names declared in ProbeType.facts
    rtts_s: list[float | None] = field(default_factory=list)  # one an echo, in order of sending; None is lost
    current: str = ""  # the phase under way, for the message of a time-out
    check: str = ""  # whose run this is, `service.check`; empty for a probe on its own
    remark: str = ""  # what is worth saying of a good answer; becomes the Reading's detail when nothing fails

    def phase(self, name: str) -> Phase:
        """Add the time spent in the block to phase `name`, also when the block raises."""
        return Phase(self, name)

    def fact(self, name: str, text: str) -> None:
        """Keep a text found out, made safe for one line."""
        self.facts[name] = one_line(text)


class Phase:
    """The block of `Measurement.phase`. A class: contextlib's generator costs three times as much, twice a probe."""

    __slots__ = ("_began", "_m", "_name")

    def __init__(self, m: Measurement, name: str) -> None:
        self._m = m
        self._name = name
        self._began = 0.0

    def __enter__(self) -> None:
        self._m.current = self._name
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        m = self._m
        m.phases[self._name] = m.phases.get(self._name, 0.0) + time.perf_counter() - self._began
        if kind is None:
            m.current = ""  # only after success: a failure keeps the name of its phase


@dataclass(frozen=True, slots=True)
class Reading:
    """What one probe run measured. `fault` None is a good answer."""

    fault: Fault | None
    detail: str  # one line for people; empty when good and nothing is worth saying
    duration_s: float  # monotonic, from start to end of the run
    phases: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    rtts_s: tuple[float | None, ...] = ()
    late_s: float = 0.0  # how late our own event loop was meanwhile, at the worst; 0 when not worth a word

    @property
    def trusted(self) -> bool:
        """Whether the time is the target's own: our loop was too little late meanwhile to have made it longer.

        Echoes are stamped by the kernel: nothing of ours is in them.
        """
        return bool(self.rtts_s) or self.late_s <= max(TICK_S, TRUSTED_PART * self.duration_s)

    @property
    def warned(self) -> bool:
        """Whether the target said of itself that all is not quite well, by a value `warning_count`."""
        return self.values.get("warning_count", 0) > 0

    @property
    def response_s(self) -> float | None:
        """How long the target took to answer: the median echo where echoes were sent, else the whole run.

        None when nothing came back in time. The pauses between echoes are ours, not the target's.
        """
        if self.rtts_s:
            back = sorted(r for r in self.rtts_s if r is not None)
            return back[(len(back) - 1) // 2] if back else None
        return self.duration_s if self.fault is None else None


@dataclass(frozen=True, slots=True)
class Value:
    """A number or text that a probe may report; `help` becomes the metric's help and the manual's line."""

    name: str  # ends in its unit: _s _ratio _bytes _bps _count _code _timestamp_s _score; texts need none
    help: str


Run = Callable[[Any, Measurement], Awaitable[None]]
# A run without a task (`probes.flight`). `Launch` begins one, or returns None when this one wants a task; later, never
# before it has returned, it calls `Done` once with the last step and its arguments: what that raises is what is wrong.
Done = Callable[..., None]
Stop = Callable[[], None]
Launch = Callable[[Measurement, Done], Stop | None]
Prepare = Callable[[Any, Path | None, Tools], Launch | None]


def _one_second(_: Any) -> float:
    return 1.0


def _nothing(_: Any) -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class ProbeType:
    """One kind of probe: the single thing a probe module must export, as `PROBE`."""

    kind: str  # file name and word in the configuration
    summary: str  # one English line for the manual
    settings: type[ProbeSettings]
    run: Run  # fills the Measurement; raises OSError or ProbeError when the target is not well
    values: tuple[Value, ...] = ()
    facts: tuple[Value, ...] = ()
    rounds_to_down: int = 3  # consecutive bad rounds before DOWN, unless the check says otherwise
    least_every_s: Callable[[Any], float] = _one_second  # shortest sensible interval for these settings
    least_timeout_s: Callable[[Any], float] = _nothing  # shortest time-out in which a run with these settings can end
    default_timeout_s: float = 10.0  # or the least, where that is longer
    self_test: Callable[[], str | None] | None = None  # at start-up; a text says exactly what to mend
    prepare: Prepare | None = None  # what `run` does without a task, for these settings; None from it: always `run`


def timed_out(m: Measurement) -> tuple[Fault, str]:
    """Say what it means that a run's time is over."""
    if m.current == "resolve":  # the resolver is ours: the target has not been asked anything yet
        return Fault.LOCAL, f"our resolver gave no answer within {m.timeout_s:g} s"
    where = f" in phase {m.current}" if m.current else ""
    return Fault.TIMEOUT, f"no answer within {m.timeout_s:g} s{where}"


class _Deadline:
    """What `asyncio.timeout` does, at a third of its cost, once a probe: no states to ask, nothing to reschedule."""

    __slots__ = ("_cancelling", "_delay_s", "_task", "_timer", "expired")

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self.expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # a coroutine is always run by one
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = task.get_loop().call_later(self._delay_s, self._expire)

    def _expire(self) -> None:
        self.expired = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: object) -> None:
        self._timer.cancel()
        # Cancelled from outside as well: that goes on, as asyncio.timeout has it.
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from exc


async def measure(
    probe: ProbeType,
    settings: ProbeSettings,
    *,
    timeout_s: float,
    path: Path | None = None,
    tools: Tools,
    check: str = "",
) -> Reading:
    """Run a probe once, within its deadline, and turn whatever happens into a Reading.

    Never raises but CancelledError. The deadline and the kernel's own ETIMEDOUT both arrive as TimeoutError;
    a probe that swallowed the cancellation leaves no exception at all, so the deadline itself is asked.
    """
    m = Measurement(timeout_s=timeout_s, path=path, tools=tools, check=check)
    fault: Fault | None = None
    detail = ""
    watch = tools.of(LoopWatch)
    entered = watch.enter()
    began = time.perf_counter()
    deadline = _Deadline(timeout_s)
    try:
        with deadline:
            await probe.run(settings, m)
        if deadline.expired:
            fault, detail = timed_out(m)
        elif m.remark:
            detail = one_line(m.remark)
    except Exception as exc:  # noqa: BLE001  a bug in a probe must not stop the others; it is logged with its trace
        is_ours = deadline.expired and isinstance(exc, TimeoutError)
        fault, detail = timed_out(m) if is_ours else name_fault(exc, probe)
    finally:
        late_s = watch.leave(entered)
    return reading_of(m, fault, detail, began, late_s)


def name_fault(exc: Exception, probe: ProbeType) -> tuple[Fault, str]:
    """Say what an exception of a probe's means; a bug is logged with its trace."""
    if isinstance(exc, ProbeError):
        return exc.fault, exc.detail
    if isinstance(exc, TimeoutError):
        return Fault.TIMEOUT, one_line(str(exc)) or "timed out"
    if isinstance(exc, OSError):
        return fault_of(exc), one_line(exc.strerror or str(exc) or type(exc).__name__)
    log.error("probe %s failed inside", probe.kind, exc_info=exc)
    return Fault.INTERNAL, one_line(f"{type(exc).__name__}: {exc}")


def reading_of(m: Measurement, fault: Fault | None, detail: str, began: float, late_s: float) -> Reading:
    """Make the Reading of a run that began at a moment of `time.perf_counter()` and ends now."""
    duration_s = time.perf_counter() - began
    values = m.values
    if not all(map(math.isfinite, values.values())):
        values = {k: v for k, v in values.items() if math.isfinite(v)}
    return Reading(fault, detail, duration_s, m.phases, values, m.facts, tuple(m.rtts_s), min(late_s, duration_s))
