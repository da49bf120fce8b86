"""Unix socket: does a local service take connections on its socket, and does it say the right words?

For what runs beside the monitor: a database, a mail filter, a container engine. Source: unix(7) of the Linux manual.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from probes.base import Fault, Measurement, ProbeError, ProbeSettings, ProbeType, Value
from probes.dialogue import STEPS_LIMIT, Step, hold
from probes.net import STREAM_LIMIT, Stream

PATH_LIMIT: Final = 107  # bytes of a socket's name (unix(7))


def _absolute(path: FilePath) -> FilePath:
    if not path.is_absolute() or len(os.fsencode(path)) > PATH_LIMIT:
        raise ValueError(f"expected the full name of a socket, beginning with '/', of at most {PATH_LIMIT} bytes")
    return path


class Settings(ProbeSettings):
    """What a Unix socket check needs."""

    socket: Annotated[FilePath, AfterValidator(_absolute)] = Field(description="Full name of the socket's file")
    dialogue: tuple[Step, ...] = Field(default=(), max_length=STEPS_LIMIT, description="What is said once connected")


async def run(settings: Settings, m: Measurement) -> None:
    """Connect, hold the dialogue if there is one, and hang up.

    Raises:
        ProbeError: NAME when there is no such socket; LOCAL when we may not use it; REFUSED when nothing listens;
            CONTENT when something else came than was expected.
    """
    async with open_unix(m, str(settings.socket)) as stream:
        if settings.dialogue:
            await hold(settings.dialogue, stream, m)


@asynccontextmanager
async def open_unix(m: Measurement, path: str) -> AsyncIterator[Stream]:
    """Connect to a Unix socket, timed as phase `connect`, and close the connection at the end.

    Raises:
        ProbeError: NAME when there is no such socket; LOCAL when we may not use it.
        OSError: nothing listens there.
    """
    with m.phase("connect"):
        try:
            reader, writer = await asyncio.open_unix_connection(path, limit=STREAM_LIMIT)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise ProbeError(Fault.NAME, f"there is no socket {path}") from exc
        except PermissionError as exc:
            raise ProbeError(Fault.LOCAL, f"we may not use the socket {path}: {exc.strerror}") from exc
        except OSError as exc:
            if exc.errno == errno.EAGAIN:  # its queue of new connections is full
                raise ProbeError(Fault.REFUSED, f"the queue of {path} is full: nobody takes connections") from exc
            raise
    try:
        yield Stream(reader, writer)
    finally:
        writer.transport.abort()


PROBE = ProbeType(
    kind="unix",
    summary="A connection to a Unix socket of this machine, with an optional dialogue",
    settings=Settings,
    run=run,
    facts=(Value("answer", "The line in which the last expected pattern was found, or the first that came"),),
)
