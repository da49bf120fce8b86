"""Why a probe failed: a closed list, and what each error of the system means in it. No protocol lives here."""

from __future__ import annotations

import errno
import socket
import ssl
from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """Why a probe failed. A closed list; LOCAL and INTERNAL say nothing about the target."""

    NAME = "name"  # the name does not exist or has no address
    UNREACHABLE = "unreachable"  # the network answered that the host or port cannot be reached
    REFUSED = "refused"  # the host answered: nothing listens there, or it hung up before a word
    TIMEOUT = "timeout"  # no answer within the time-out
    TLS = "tls"  # the handshake or the certificate failed
    PROTOCOL = "protocol"  # an answer came, and it was not the protocol's
    CONTENT = "content"  # the protocol worked; what it said is not what was expected
    LOCAL = "local"  # we could not measure; never makes a target down
    INTERNAL = "internal"  # a bug of ours; never makes a target down

    __hash__ = str.__hash__  # an enum's own hash is a call of Python's, several times a probe


BLIND_FAULTS: Final = frozenset({Fault.LOCAL, Fault.INTERNAL})  # faults that leave the target unobserved


# Errors of our own host: no route out, no such source address or interface, tables full, not permitted, too big for
# the link. Those that the network can cause as well are told apart by when they come (`probes.net.connect_error`).
_LOCAL_ERRNOS: Final = frozenset(
    {
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,
        errno.EADDRINUSE,
        errno.ENODEV,
        errno.ENXIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EAGAIN,  # connect(2): no free local port
        errno.EPERM,
        errno.EACCES,
        errno.EAFNOSUPPORT,
        errno.EPROTONOSUPPORT,
        errno.EINVAL,  # an address without its scope, a source of another family
        errno.EMSGSIZE,
    }
)
_UNREACHABLE_ERRNOS: Final = frozenset({errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENONET, errno.ENOPROTOOPT})
_REFUSED_ERRNOS: Final = frozenset(
    {
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EPIPE,
        errno.ECONNABORTED,
        errno.ENETRESET,
        errno.ESHUTDOWN,
        errno.ENOTCONN,
    }
)
# A socket used wrongly: whatever the target does, it cannot cause these.
_OUR_BUGS: Final = frozenset(
    {
        errno.EBADF,
        errno.EFAULT,
        errno.ENOTSOCK,
        errno.EISCONN,
        errno.EALREADY,
        errno.EDESTADDRREQ,
        errno.EPROTOTYPE,
    }
)


def fault_of(exc: OSError) -> Fault:  # noqa: PLR0911  one line a rule, in order
    """Map a system error to the closed list.

    Order matters: gaierror, SSLError and TimeoutError are all kinds of OSError.
    """
    if isinstance(exc, socket.gaierror):
        return Fault.LOCAL if exc.errno in (socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM) else Fault.NAME
    if isinstance(exc, ssl.SSLError):
        return Fault.TLS
    if isinstance(exc, TimeoutError) or exc.errno == errno.ETIMEDOUT:
        return Fault.TIMEOUT
    if exc.errno in _LOCAL_ERRNOS:
        return Fault.LOCAL
    if exc.errno in _UNREACHABLE_ERRNOS:
        return Fault.UNREACHABLE
    if exc.errno in _REFUSED_ERRNOS or isinstance(exc, ConnectionError):
        return Fault.REFUSED
    return Fault.INTERNAL if exc.errno in _OUR_BUGS else Fault.PROTOCOL
