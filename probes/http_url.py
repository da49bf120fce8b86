"""Addresses of the web: read, check, join. Pure: text in, values out.

Source: RFC 3986 sections 3 and 5, RFC 9110 section 4.2, RFC 5890 (names beyond ASCII).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from probes.letters import overloaded

URL_LIMIT: Final = 8000  # characters; what RFC 9110 section 4.1 asks servers to take
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# What may stand in a path or query as it is; anything else is sent percent-encoded. `%` keeps earlier encodings.
_KEPT: Final = "!#$%&'()*+,/:;=?@[]~"
_PARAMETERS: Final = re.compile(r";[^/]+")  # of a path segment: `;jsessionid=…`
_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


@dataclass(frozen=True, slots=True)
class Url:
    """An address, ready to connect to and to ask for."""

    scheme: str  # http or https
    host: str  # ASCII, lower case, without brackets
    port: int
    target: str  # path and query, percent-encoded; never empty

    @property
    def authority(self) -> str:
        """What the Host header says: the port only where it is not the scheme's own."""
        name = f"[{self.host.split('%', 1)[0]}]" if ":" in self.host else self.host
        return name if self.port == DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def shown(self) -> str:
        """The address for people and logs; parameters and a query may hold a session's secret and are left out."""
        path, query, _ = self.target.partition("?")
        return f"{self.scheme}://{self.authority}{_PARAMETERS.sub(';…', path)}{query and '?…'}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    def trusts(self, other: Url) -> bool:
        """Whether what is secret here may be sent to `other`: the same origin, or its https at the usual port."""
        if self.host != other.host:
            return False
        same = (self.scheme, self.port) == (other.scheme, other.port)
        return same or (self.scheme, self.port, other.scheme, other.port) == ("http", 80, "https", 443)

    def join(self, location: str) -> Url:
        """Return where a Location header of this address leads; a login in it is dropped.

        Raises:
            ValueError: it leads to nothing that could be asked.
        """
        return _read(urljoin(str(self), _bounded("".join(location.split()))))


@lru_cache(maxsize=4096)
def parse_url(text: str) -> Url:
    """Read an address as it stands in a configuration.

    Raises:
        ValueError: not an http address, or one with a login in it.
    """
    if any(c.isspace() or not c.isprintable() for c in text):
        raise ValueError("a URL holds no blanks or control characters")
    if "@" in urlsplit(_bounded(text)).netloc:
        raise ValueError("no login in a URL: use username and password_file or password_env")
    return _read(text)


def _bounded(text: str) -> str:
    """Return what can be read in bounded time: the library normalises names beyond ASCII, whoever wrote them."""
    if len(text) > URL_LIMIT:
        raise ValueError(f"a URL has at most {URL_LIMIT} characters")
    if overloaded(text):
        raise ValueError("a URL has no letter with so many marks")
    return text


def _read(text: str) -> Url:
    parts = urlsplit(_bounded(text))
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("a URL begins with http:// or https://")
    port = parts.port if parts.port is not None else DEFAULT_PORTS[parts.scheme]
    if port == 0:
        raise ValueError("port 0 cannot be connected to")
    path = quote(parts.path or "/", safe=_KEPT, errors="replace")
    query = f"?{quote(parts.query, safe=_KEPT, errors='replace')}" if parts.query else ""
    return Url(parts.scheme, _host(parts.hostname or ""), port, path + query)


def _host(name: str) -> str:
    if ":" in name:
        return str(ipaddress.IPv6Address(name.replace("%25", "%", 1)))
    try:
        # IDNA 2003 as Python has it: the same as IDNA 2008 for every letter of Vietnamese.
        ascii_name = name.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError as exc:
        raise ValueError(f"{name!r} is not a host name") from exc
    if not _NAME.fullmatch(ascii_name) or len(ascii_name) > 253:
        raise ValueError(f"{name!r} is not a host name")
    return ascii_name
