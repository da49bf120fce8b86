"""One conversation with a mail relay: connect, encrypt, log in, hand over, within the relay's time-out.

Sources: RFC 5321 (dialogue and reply codes), RFC 3207 (STARTTLS), RFC 8314 (TLS from the first byte),
RFC 7435 (opportunistic security).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiosmtplib

from config.plan import Relay
from probes.base import ProbeError, one_line, read_secret

GOODBYE_S: Final = 1.0  # how long a relay that has accepted may take to say goodbye
_GOODBYES: Final[set[asyncio.Task[None]]] = set()  # under way; the loop itself holds tasks only weakly


class DeliveryError(Exception):
    """A relay did not take a message."""

    def __init__(self, message: str, permanent: bool, *, relay_down: bool = False) -> None:
        """Args: permanent: a 5xx answer to this very message. relay_down: no other message would pass either."""
        super().__init__(message)
        self.permanent = permanent
        self.relay_down = relay_down


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is handed over: the written message, from whom and to whom it is to go."""

    sender: str
    to: tuple[str, ...]
    message: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """A relay's acceptance: its reply, and the recipients it would not serve."""

    reply: str
    refused: Mapping[str, tuple[int, str]]


async def hand_over(relay: Relay, envelope: Envelope) -> Taken:
    """Hand one message to one relay within its time-out.

    Raises:
        DeliveryError: it was not accepted; says whether for good, and whether the relay itself is at fault.
    """
    secret = ""
    try:
        async with asyncio.timeout(relay.timeout_s):
            if relay.username is not None:
                secret = (await read_secret(relay.password_file, relay.password_env)).get_secret_value()
            try:
                return await _converse(relay, secret, envelope, encrypt=True)
            except _HandshakeFailedError:
                return await _converse(relay, secret, envelope, encrypt=False)
    except (aiosmtplib.SMTPException, OSError, ProbeError, ValueError) as exc:
        raise _delivery_error(exc, relay, secret) from None  # the chain could hold the login command


class _HandshakeFailedError(Exception):
    """Optional STARTTLS was offered and failed; the connection is lost and a plain one may be tried."""


async def _converse(relay: Relay, secret: str, envelope: Envelope, *, encrypt: bool) -> Taken:
    context = (
        await asyncio.to_thread(_tls_context, relay) if relay.tls or (encrypt and relay.starttls != "never") else None
    )
    client = aiosmtplib.SMTP(
        hostname=relay.host,
        port=relay.port,
        use_tls=relay.tls,
        start_tls=False,
        tls_context=context,
        local_hostname=_own_name(),
        timeout=relay.timeout_s,
    )
    try:
        await client.connect()
        encrypted = relay.tls or (encrypt and await _start_tls(client, relay))
        await _log_in(client, relay, secret, encrypted=encrypted)
        refused, reply = await client.sendmail(envelope.sender, list(envelope.to), envelope.message)
    except BaseException:
        client.close()
        raise
    # Accepted: from here on nothing is waited for, so that neither the time-out nor a stop can make a failure of it,
    # and a second copy.
    goodbye = asyncio.create_task(_say_goodbye(client), name="goodbye")
    _GOODBYES.add(goodbye)
    goodbye.add_done_callback(_GOODBYES.discard)
    return Taken(one_line(reply), {a: (r.code, one_line(r.message)) for a, r in refused.items()})


async def _say_goodbye(client: aiosmtplib.SMTP) -> None:
    try:
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):
            await client.quit(timeout=GOODBYE_S)
    finally:
        client.close()


async def _start_tls(client: aiosmtplib.SMTP, relay: Relay) -> bool:
    if relay.starttls == "never":
        return False
    await client.ehlo()
    if not client.supports_extension("starttls"):
        if relay.starttls == "required":
            raise aiosmtplib.SMTPNotSupported("STARTTLS is required and not offered")
        return False
    try:
        await client.starttls()
    except (aiosmtplib.SMTPException, OSError) as exc:
        if relay.starttls == "optional" and (relay.username is None or relay.plaintext_login):
            raise _HandshakeFailedError from exc
        raise
    return True


async def _log_in(client: aiosmtplib.SMTP, relay: Relay, secret: str, *, encrypted: bool) -> None:
    if relay.username is None:
        return
    if not encrypted and not relay.plaintext_login:
        raise aiosmtplib.SMTPNotSupported("login refused by us: the connection is not encrypted")
    await client.login(relay.username, secret)


def _tls_context(relay: Relay) -> ssl.SSLContext:
    """Make the context for a relay; reads certificate files, so it is called in a thread.

    Optional STARTTLS takes any certificate, as mail servers do among themselves (RFC 7435): reading is made harder,
    nothing is proven. Where a password would be sent the certificate is always verified, unless the configuration
    allows the login in plain text anyway.
    """
    context = ssl.create_default_context(cafile=str(relay.ca_file) if relay.ca_file else None)
    password_at_stake = relay.username is not None and not relay.plaintext_login
    if not relay.tls and relay.starttls == "optional" and not password_at_stake:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _own_name() -> str:
    """Return the name for EHLO: the host's, or an address literal when that is not a name (RFC 5321, 4.1.3)."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9.-]+", name) else "[127.0.0.1]"


def _delivery_error(exc: Exception, relay: Relay, secret: str) -> DeliveryError:
    """Sort what went wrong: the message (by its reply code) or the relay."""
    if isinstance(exc, aiosmtplib.SMTPRecipientsRefused):
        answers = {r.recipient: (r.code, r.message) for r in exc.recipients}
        permanent = all(code >= 500 for code, _ in answers.values())
        return DeliveryError(_scrubbed("; ".join(refusal_notes(answers)), secret), permanent)
    if isinstance(exc, aiosmtplib.SMTPSenderRefused | aiosmtplib.SMTPDataError) and exc.code != 421:
        return DeliveryError(_scrubbed(f"{exc.code} {exc.message}", secret), exc.code >= 500)
    if isinstance(exc, aiosmtplib.SMTPAuthenticationError):
        text = f"login as {relay.username} refused: {exc.code} {exc.message}"
    elif isinstance(exc, aiosmtplib.SMTPResponseException):
        text = f"{exc.code} {exc.message}"
    elif isinstance(exc, TimeoutError):
        text = f"no answer within {relay.timeout_s:g} s"
    else:
        text = str(exc) or type(exc).__name__
    return DeliveryError(_scrubbed(text, secret), permanent=False, relay_down=True)


def _scrubbed(text: str, secret: str) -> str:
    """Flatten, and take out the password should a server have echoed it."""
    return one_line(text.replace(secret, "***") if secret else text)


def refusal_notes(refused: Mapping[str, tuple[int, str]]) -> list[str]:
    """Return one line for each recipient a relay refused."""
    return [f"{address} refused: {code} {one_line(reply)}" for address, (code, reply) in refused.items()]


def relay_name(relay: Relay) -> str:
    """Return host:port, as logs and details name a relay."""
    return f"{relay.host}:{relay.port}"
