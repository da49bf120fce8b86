"""Names to addresses for every probe: asynchronous, bounded in time and number, and of this host's own settings.

/etc/hosts first, then the name servers of /etc/resolv.conf. What is found is kept for a few seconds, failures not at
all: a check is to see a change or a dead resolver at its next slot. The same name wanted by many at once is asked
once. A resolver that does not answer is a fault of its own (LOCAL): it says nothing about the target.

Source: RFC 1034 section 5, RFC 2308 (negative answers), resolv.conf(5), RFC 6761 section 6.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from probes import dns_message
from probes.address_order import ordered
from probes.base import Fault, IpFamily, ProbeError
from probes.dns_message import Question
from probes.resolver_conf import FileWatch, Hosts, NameFiles, ResolvConf
from probes.resolver_question import TRY_S, A, Asking, Manner
from probes.resolver_wire import ALIASES, Alias, Failed, Found, Missing, NameServer
from probes.resolver_witness import Witness

KEPT_S: Final = 10.0  # chosen: checks of one host in the same slot share an answer, a later slot asks again
KEPT_NAMES: Final = 16384  # chosen: more than a province has; what is kept longest goes first
LONGEST_S: Final = 5.0  # chosen: how long a look-up may take however much time the probe has
SHARE: Final = 0.5  # chosen: of a probe's time-out, so that the other half is left for the target
PORT: Final = 53

_TYPES: Final = {IpFamily.ANY: ("A", "AAAA"), IpFamily.IP4: ("A",), IpFamily.IP6: ("AAAA",)}
_FAMILY_WORD: Final = {IpFamily.ANY: "", IpFamily.IP4: " (IPv4)", IpFamily.IP6: " (IPv6)"}
_LONGEST_TTL_S: Final = 2**31 - 1  # RFC 2181 section 8
_LOOPBACK: Final = ("127.0.0.1", "::1")  # localhost, whatever the files say: RFC 6761


class _Kept(NamedTuple):
    ips: tuple[str, ...]
    until_s: float


class Resolver:
    """The one resolver of a daemon; `close` it at the end. Of one event loop."""

    def __init__(self, watch: FileWatch | None = None, *, port: int = PORT) -> None:
        """Args: watch: the files that say how names are found. port: that of every name server."""
        self._watch = watch or FileWatch()
        self._port = port
        self._files: NameFiles | None = None
        self._servers: list[NameServer] = []
        self._kept: dict[tuple[str, IpFamily], _Kept] = {}
        self._under_way: dict[tuple[str, IpFamily], asyncio.Task[tuple[str, ...]]] = {}
        self._turn = 0
        self._witness = Witness()

    def known(self, host: str, family: IpFamily = IpFamily.ANY) -> Sequence[str]:
        """Return the addresses found a moment ago; nothing when there are none or they are too old."""
        kept = self._kept.get((host, family))
        if kept is None or kept.until_s < asyncio.get_running_loop().time():
            return ()
        return kept.ips

    async def lookup(self, host: str, family: IpFamily = IpFamily.ANY, *, timeout_s: float = 10.0) -> Sequence[str]:
        """Return the addresses of a name in the order to use them (RFC 6724); never empty.

        Cancelling gives up waiting; the look-up itself goes on for others.

        Args:
            host: the name; an address is not one.
            family: which addresses.
            timeout_s: of the whole probe; a share of it is ours.

        Raises:
            ProbeError: NAME when the name does not exist or has no address; LOCAL when no name server gave an answer.
        """
        key = (host, family)
        task = self._under_way.get(key)
        if task is None:
            within_s = min(timeout_s * SHARE, LONGEST_S)
            task = asyncio.get_running_loop().create_task(self._find(host, family, within_s), name="look-up")
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    def _forget(self, key: tuple[str, IpFamily], done: asyncio.Task[tuple[str, ...]]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()  # seen, also when everybody has given up waiting

    async def _find(self, host: str, family: IpFamily, within_s: float) -> tuple[str, ...]:
        deadline_s = asyncio.get_running_loop().time() + within_s
        files = await self._read_files()
        name = host.rstrip(".").lower()
        if ips := _from_hosts(files.hosts, name, family):
            self._keep((host, family), ips, KEPT_S)
            return ips
        lookup = _Lookup(files.conf, self._in_turn(files.conf), deadline_s, within_s)
        outcome = await lookup.run(host, family)
        now_s = asyncio.get_running_loop().time()
        if not isinstance(outcome, Found):
            own = any(f.servfail for f in outcome) and self._witness.failed(name, now_s)
            raise _failure(host, outcome, own=own)
        self._witness.answered(name, outcome.ttl_s, now_s, authoritative=outcome.authoritative)
        ips = tuple(ordered(outcome.ips))
        self._keep((host, family), ips, outcome.ttl_s)
        return ips

    async def _read_files(self) -> NameFiles:
        files = await self._watch.files()
        if files is not self._files:
            self._kept.clear()
            if self._files is None or files.conf != self._files.conf:
                self._servers = [NameServer(ip, self._port) for ip in files.conf.servers]
            self._files = files
        return files

    def _in_turn(self, conf: ResolvConf) -> Sequence[NameServer]:
        if not conf.rotate:
            return self._servers
        self._turn = (self._turn + 1) % len(self._servers)
        return [*self._servers[self._turn :], *self._servers[: self._turn]]

    def _keep(self, key: tuple[str, IpFamily], ips: tuple[str, ...], ttl_s: float) -> None:
        if ttl_s <= 0:
            return
        self._kept.pop(key, None)
        if len(self._kept) >= KEPT_NAMES:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = _Kept(ips, asyncio.get_running_loop().time() + min(ttl_s, KEPT_S))

    def close(self) -> None:
        """Look no more at the files; look-ups under way end by themselves."""
        self._watch.close()
        self._kept.clear()


def _from_hosts(hosts: Hosts, name: str, family: IpFamily) -> tuple[str, ...]:
    ips = hosts.get(name, ())
    if not ips and (name == "localhost" or name.endswith(".localhost")):
        ips = _LOOPBACK
    return tuple(ip for ip in ips if family == IpFamily.ANY or (":" in ip) == (family == IpFamily.IP6))


class _Lookup:
    """One name through the search list, and through its aliases."""

    def __init__(self, conf: ResolvConf, servers: Sequence[NameServer], deadline_s: float, within_s: float) -> None:
        self._conf = conf
        turns = len(servers) * conf.attempts
        self._manner = Manner(servers, min(conf.timeout_s, TRY_S, within_s / turns), conf.attempts, deadline_s)

    async def run(self, host: str, family: IpFamily) -> Found | list[Failed]:
        """Return what was found, or why it could not be found out.

        Raises:
            ProbeError: NAME when there is no such name, or no address of it.
        """
        failures: list[Failed] = []
        for name in _candidates(host, self._conf):
            answer = await self._follow(host, name, family)
            if isinstance(answer, Found):
                return answer
            if isinstance(answer, list):
                failures += answer
                if asyncio.get_running_loop().time() >= self._manner.deadline_s:
                    break
        if failures:
            return failures
        raise ProbeError(Fault.NAME, f"the name {host} does not exist or has no address{_FAMILY_WORD[family]}")

    async def _follow(self, host: str, name: str, family: IpFamily) -> Found | Missing | list[Failed]:
        """Ask for a name, and for what it is an alias of where the server does not do that itself."""
        ttl_s = _LONGEST_TTL_S
        for _ in range(ALIASES):
            known, failures = await Asking(_questions(host, name, family), self._manner).run()
            found = [o for o in known.values() if isinstance(o, Found)]
            if found:
                ips = tuple(dict.fromkeys(ip for o in found for ip in o.ips))
                least_s = min([ttl_s, *(o.ttl_s for o in found)])
                return Found(ips, least_s, all(o.authoritative for o in found))
            alias = next((o for o in known.values() if isinstance(o, Alias)), None)
            if alias is None:
                return Missing(exists=True) if _settled(known, family) else failures
            name, ttl_s = alias.name, min(ttl_s, alias.ttl_s)
        raise ProbeError(Fault.NAME, f"the aliases of {host} go in a circle")


def _candidates(host: str, conf: ResolvConf) -> Iterator[str]:
    """Yield the full names to try, in the order of resolv.conf(5)."""
    name = host.rstrip(".")
    if host.endswith(".") or not conf.search:
        yield name
        return
    as_it_is_first = name.count(".") >= conf.ndots
    if as_it_is_first:
        yield name
    for domain in conf.search:
        yield f"{name}.{domain}"
    if not as_it_is_first:
        yield name


def _questions(host: str, name: str, family: IpFamily) -> list[Question]:
    """Return what to ask.

    Raises:
        ProbeError: NAME when it cannot be a name.
    """
    try:
        return [dns_message.question(name, kind) for kind in _TYPES[family]]
    except ValueError as exc:
        raise ProbeError(Fault.NAME, f"{host} is not a valid host name") from exc


def _settled(known: Mapping[Question, Found | Missing | Alias], family: IpFamily) -> bool:
    """Whether it is sure that there is no address: every family said so, or that of A that there is no such name."""
    nameless = any(isinstance(o, Missing) and not o.exists for q, o in known.items() if q.type == A)
    return nameless or len(known) == len(_TYPES[family])


def _failure(host: str, failures: Sequence[Failed], *, own: bool) -> ProbeError:
    """Put into words that nothing could be found out; `own` means by the name's own fault."""
    why = ", ".join(dict.fromkeys(f.why for f in failures))
    if own:
        return ProbeError(Fault.NAME, f"{host} cannot be resolved, other names can: {why}")
    return ProbeError(Fault.LOCAL, f"our resolver gave no answer for {host}: {why or 'no time was left to ask it'}")
