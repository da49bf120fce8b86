"""TCP: does a port take connections, how long does the handshake take, and does the server say the right words?

Without a dialogue the connection is closed as soon as it is open and nothing is sent. With one, each step sends a text
or waits until a pattern is found in what came since the last match, or both. Source: RFC 9293 section 3.5.
"""

from __future__ import annotations

from pydantic import Field

from probes.base import Host, IpFamily, Measurement, Port, ProbeSettings, ProbeType, Value
from probes.dialogue import STEPS_LIMIT, Step, hold
from probes.net import connect, open_stream


class Settings(ProbeSettings):
    """What a TCP check needs."""

    host: Host = Field(description="Name or address")
    port: Port = Field(description="Port")
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family")
    dialogue: tuple[Step, ...] = Field(default=(), max_length=STEPS_LIMIT, description="What is said once connected")


async def run(settings: Settings, m: Measurement) -> None:
    """Connect, hold the dialogue if there is one, and hang up.

    Raises:
        ProbeError: see `probes.net.connect`; CONTENT when something else came than was expected; REFUSED when the
            server hung up before a word.
        OSError: what the network or host answered.
    """
    if not settings.dialogue:
        (await connect(m, settings.host, settings.port, settings.family)).close()
        return
    async with open_stream(m, settings.host, settings.port, family=settings.family) as stream:
        await hold(settings.dialogue, stream, m)


PROBE = ProbeType(
    kind="tcp",
    summary="A TCP connection, with an optional dialogue of texts sent and patterns expected",
    settings=Settings,
    run=run,
    facts=(
        Value("address", "The address that took the connection"),
        Value("answer", "The line in which the last expected pattern was found, or the first that came"),
    ),
)
