"""Exec: any plugin of Nagios or Icinga, for what no probe of ours speaks.

The program is started from a list of words, never by a shell, with an environment of its own, nothing on its
standard input and `/` as its folder. It leads a process group that is ended with SIGTERM, then SIGKILL, at the
time-out, when the run is cancelled, and when something of it is left behind. Status 0 is good; 1 (WARNING) is good
with a warning, of which a streak makes the check degraded; 2 (CRITICAL) is a content fault; 3 (UNKNOWN) and any other
end say that nothing was measured. Numbers in the performance data become values.

Source: Monitoring Plugins Development Guidelines (exit status, output, performance data).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from probes.base import Fault, Measurement, Path, ProbeError, ProbeSettings, ProbeType, Value, read_secret
from probes.exec_perf import named, split

OUTPUT_LIMIT: Final = 65536  # bytes of standard output kept
ERRORS_LIMIT: Final = 4096  # bytes of standard error kept
FLOOD_LIMIT: Final = 16 << 20  # bytes after which a plugin that prints without end is ended
GRACE_S: Final = 0.25  # from SIGTERM to SIGKILL, and for a child that keeps our pipe open
MARGIN_S: Final = 0.5  # chosen: an overdue plugin is ended this much before the deadline, so that all is over by then

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECRET_OPTION: Final = re.compile(
    r"--?(?:\w+-)*(?:password|passwd|passphrase|secret|token|bearer|api-?key|auth(?:entication)?-?passw(?:or)?d"
    r"|priv-?passw(?:or)?d)(?:=.*)?",
    re.IGNORECASE,
)
_MACROS: Final = ("$source$", "$interface$")
_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
_STATUS_WORDS: Final = {0: "OK", 1: "WARNING", 2: "CRITICAL", 3: "UNKNOWN"}


class Secret(BaseModel):
    """A variable whose value must not stand in the configuration."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME, max_length=100, description="Name of the variable as the plugin wants it")
    value_file: FilePath | None = Field(default=None, description="File whose first line is the value")
    value_env: str | None = Field(default=None, description="Environment variable of the monitor that holds the value")

    @model_validator(mode="after")
    def _one_source(self) -> Secret:
        if (self.value_file is None) == (self.value_env is None):
            raise ValueError("give one of value_file, value_env")
        return self


def _checked_command(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words[0].startswith("/"):
        raise ValueError("the first word is the program's full name, beginning with '/'")
    for word in words:
        if "\0" in word:
            raise ValueError("a word holds a zero byte")
        if _SECRET_OPTION.fullmatch(word):
            raise ValueError(
                f"{word.partition('=')[0]} would show a secret in the list of processes: use secrets, or the plugin's "
                "own file of options (--extra-opts)"
            )
    return words


class Settings(ProbeSettings):
    """What a plugin needs."""

    command: Annotated[tuple[str, ...], AfterValidator(_checked_command)] = Field(
        min_length=1,
        max_length=100,
        description="Program and arguments, one word each; $source$ and $interface$ stand for the path's",
    )
    environment: Mapping[Annotated[str, Field(pattern=_NAME)], str] = Field(
        default_factory=dict, max_length=50, description="Variables for the plugin, beside PATH, HOME and LC_ALL"
    )
    secrets: tuple[Secret, ...] = Field(
        default=(), max_length=20, description="Variables whose values come from files or from our own environment"
    )
    perf: bool = Field(default=True, description="Whether numbers of the performance data are kept")

    def endpoint(self) -> str:
        """Return nothing: what the plugin looks at is known to it alone."""
        return ""


async def run(settings: Settings, m: Measurement) -> None:
    """Run the plugin to its end and read what it says.

    Raises:
        ProbeError: CONTENT for CRITICAL; TIMEOUT when it did not end in time; LOCAL for UNKNOWN, for any other end, and
            when it cannot be started.
    """
    began = time.perf_counter()
    words = _placed(settings.command, m.path)
    environment = await _environment(settings)
    plugin = await _started(words, environment)
    plugin.hidden = tuple(filter(None, (environment[secret.name] for secret in settings.secrets)))
    left_s = m.timeout_s - min(MARGIN_S, m.timeout_s / 4) - (time.perf_counter() - began)
    try:
        with m.phase("processing"):
            async with asyncio.timeout(left_s):
                await plugin.ended()
    except TimeoutError as exc:
        said = f", having said: {plugin.words}" if plugin.words else ""
        raise ProbeError(Fault.TIMEOUT, f"the plugin did not end within {m.timeout_s:g} s{said}") from exc
    finally:
        await plugin.close()
    _report(settings, m, plugin)


def _placed(command: Sequence[str], path: Path | None) -> list[str]:
    """Put a path's source and interface where the command names them.

    Raises:
        ProbeError: LOCAL when a path is wanted and the plugin is not told of it, or has not what is named.
    """
    named_ = [macro for macro in _MACROS if any(macro in word for word in command)]
    if path is None and not named_:
        return list(command)
    if path is None:
        raise ProbeError(Fault.LOCAL, f"the command names {named_[0]}, and the check has no path")
    if not named_:
        words = f"a plugin does not leave by path {path.id} unless its arguments say so: name $source$ or $interface$"
        raise ProbeError(Fault.LOCAL, words)
    known = {"$source$": path.source, "$interface$": path.interface}
    for macro in named_:
        if known[macro] is None:
            raise ProbeError(Fault.LOCAL, f"the command names {macro}, which path {path.id} has not")
    return [_filled(word, known) for word in command]


def _filled(word: str, known: Mapping[str, str | None]) -> str:
    for macro, value in known.items():
        word = word.replace(macro, value or "")
    return word


async def _environment(settings: Settings) -> dict[str, str]:
    found = {"PATH": _PATH, "HOME": "/", "LC_ALL": "C.UTF-8", **settings.environment}
    for secret in settings.secrets:
        found[secret.name] = (await read_secret(secret.value_file, secret.value_env)).get_secret_value()
    return found


async def _started(words: Sequence[str], environment: Mapping[str, str]) -> _Plugin:
    try:
        transport, plugin = await asyncio.get_running_loop().subprocess_exec(
            _Plugin,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd="/",
            env=dict(environment),
            start_new_session=True,  # a process group of its own, and no terminal
        )
    except (OSError, ValueError) as exc:
        said = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ProbeError(Fault.LOCAL, f"{words[0]} cannot be started: {said}") from exc
    plugin.transport = transport
    return plugin


class _Plugin(asyncio.SubprocessProtocol):
    """A running plugin: its output as it comes, and its end.

    Not asyncio's own streams: there, waiting for the end also waits for a pipe that a child of the plugin keeps open.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport: asyncio.SubprocessTransport
        self.hidden: tuple[str, ...] = ()  # what its words may not show: plugins print their login when it is refused
        self._kept = {1: bytearray(), 2: bytearray()}
        self._came = 0
        self._open = {1, 2}
        self._exited: asyncio.Future[None] = loop.create_future()
        self._silent: asyncio.Future[None] = loop.create_future()  # both pipes are closed at the other end
        self._flooding = False

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keep the beginning of what is printed."""
        kept = self._kept[fd]
        kept += data[: (OUTPUT_LIMIT if fd == 1 else ERRORS_LIMIT) - len(kept)]
        self._came += len(data)
        if self._came > FLOOD_LIMIT and not self._flooding:
            self._flooding = True
            self._signal(signal.SIGKILL)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Note that nothing more comes by this pipe."""
        self._open.discard(fd)
        if not self._open and not self._silent.done():
            self._silent.set_result(None)

    def process_exited(self) -> None:
        """Note that the plugin itself has ended."""
        if not self._exited.done():
            self._exited.set_result(None)

    @property
    def printed(self) -> str:
        """Standard output so far."""
        return self._kept[1].decode("utf-8", "replace")

    @property
    def words(self) -> str:
        """The first line for people; of the errors when there is no other."""
        found = split(self.printed).text or self._kept[2].decode("utf-8", "replace").strip().partition("\n")[0]
        for secret in self.hidden:
            found = found.replace(secret, "***")
        return found

    @property
    def status(self) -> int:
        """How it ended: its exit status, or a signal's number below 0."""
        code = self.transport.get_returncode()
        assert code is not None
        return code

    async def ended(self) -> None:
        """Wait until it has ended, and a moment for what it said to be here.

        Raises:
            ProbeError: LOCAL when it prints without end.
        """
        await asyncio.shield(self._exited)
        await asyncio.wait([self._silent], timeout=GRACE_S)
        if self._flooding:
            raise ProbeError(Fault.LOCAL, f"the plugin printed more than {FLOOD_LIMIT >> 20} MiB and was ended")

    async def close(self) -> None:
        """End whatever of it still runs, and wait until it has; nothing is left in the list of processes."""
        try:
            if not self._exited.done():
                self._signal(signal.SIGTERM)
                await asyncio.wait([self._exited], timeout=GRACE_S)
        finally:
            # A group lives as long as one of its processes: an open pipe is a sign of one, and then the number is
            # still theirs. Without it the number may by now be somebody else's.
            if not self._exited.done() or self._open:
                self._signal(signal.SIGKILL)
        await self._exited
        self.transport.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.transport.get_pid(), number)


def _report(settings: Settings, m: Measurement, plugin: _Plugin) -> None:
    """Turn the plugin's end into a verdict.

    Raises:
        ProbeError: CONTENT for CRITICAL, LOCAL for whatever says that nothing was measured.
    """
    words, status = plugin.words, plugin.status
    if words:
        m.fact("output", words)
    if status < 0:
        raise ProbeError(Fault.LOCAL, f"the plugin was ended by {_signal_name(-status)}")
    m.values["plugin_code"] = status
    m.values["warning_count"] = int(status == 1)
    if settings.perf:
        m.values.update(named(split(plugin.printed).perf))
    said = words or f"the plugin ended with {_STATUS_WORDS.get(status, 'a status')} {status} and no word"
    if status == 1:
        m.remark = said
    elif status == 2:
        raise ProbeError(Fault.CONTENT, said)
    elif status == 3:
        raise ProbeError(Fault.LOCAL, f"the plugin could not tell: {said}")
    elif status:
        raise ProbeError(Fault.LOCAL, f"the plugin ended with status {status}, expected 0 to 3: {words or 'no word'}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


PROBE = ProbeType(
    kind="exec",
    summary="Any plugin of Nagios or Icinga: its status, its words and its performance data",
    settings=Settings,
    run=run,
    values=(
        Value("plugin_code", "Exit status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN"),
        Value("warning_count", "1 when the plugin said WARNING; a streak of these makes the check degraded"),
        Value(
            "perf_value_count",
            "Performance data: each number as perf_<label>_<unit>, times in _s, sizes in _bytes, percent as _ratio "
            "(0 to 1), all others in _count; at most 50",
        ),
    ),
    facts=(Value("output", "The first line that the plugin printed"),),
    rounds_to_down=3,
    least_timeout_s=lambda _: 1.0,
)
