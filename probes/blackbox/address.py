"""Which address of a target is taken, and a connection to it.

The choice is made when the name is resolved and not again: an address that then does not answer is a failure. With
`compat: fixed` the other addresses are tried as RFC 8305 says.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import AsyncIterator, Callable
from typing import Final

from probes.base import IpFamily, Measurement, ProbeError
from probes.blackbox.modules import Addressing
from probes.blackbox.task import Task
from probes.net import Stream, open_stream, resolve

_FNV_BEGIN: Final = 2166136261
_FNV_PRIME: Final = 16777619


def address_hash(ip: str) -> int:
    """Return the FNV-1a hash (32 bits) of an address's 4 or 16 bytes."""
    number = _FNV_BEGIN
    for byte in ipaddress.ip_address(ip.partition("%")[0]).packed:
        number = (number ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return number


async def choose(task: Task, m: Measurement, host: str, how: Addressing) -> str:
    """Return the address to probe, and note what `probe_ip_protocol` and its like say.

    Raises:
        ProbeError: NAME when there is no address of a wanted family; LOCAL when our resolver gave no answer.
    """
    wanted = IpFamily.IP4 if how.prefers_ip4 else IpFamily.IP6
    task.say("Resolving target address", target=host, ip_protocol=wanted)
    m.values |= {"dns_lookup_time_seconds": 0.0, "ip_protocol": 0.0, "ip_addr_hash": 0.0}
    try:
        found = await resolve(m, host, 0, IpFamily.ANY if how.ip_protocol_fallback else wanted)
    except ProbeError as exc:
        task.say("Resolution with IP protocol failed", "error", err=exc.detail)
        raise
    finally:
        m.values["dns_lookup_time_seconds"] = m.phases.get("resolve", 0.0)
    chosen = next((a for a in found if a.family == wanted.socket_family), found[-1])
    _note(m, chosen.ip)
    task.say("Resolved target address", target=host, ip=chosen.ip)
    return chosen.ip


def _note(m: Measurement, ip: str) -> None:
    m.values["ip_protocol"] = 6.0 if ":" in ip else 4.0
    m.values["ip_addr_hash"] = float(address_hash(ip))


def once_more(m: Measurement, ip: str, port: int) -> Callable[[], contextlib.AbstractAsyncContextManager[Stream]]:
    """Return what opens a second connection to an address, the times of which are not counted."""
    return lambda: open_stream(Measurement(m.timeout_s, m.path), ip, port)


@contextlib.asynccontextmanager
async def open_chosen(
    task: Task, m: Measurement, target: tuple[str, int], ip: str, how: Addressing
) -> AsyncIterator[Stream]:
    """Connect to the chosen address; with `fixed`, to whichever address of the host answers first.

    Raises:
        ProbeError: see `probes.net.connect`.
        OSError: see `probes.net.connect`.
    """
    racing = task.fixed and how.ip_protocol_fallback
    host, port = target
    async with open_stream(m, host if racing else ip, port) as stream:
        if racing:
            _note(m, m.facts.get("address", ip))
        yield stream
