"""SNMP version 3 with its user-based security: keys from passwords, signed and encrypted messages. Pure.

Source: RFC 3412 section 6 (message), RFC 3414 (security model: parameters, keys, time window), RFC 7860 (SHA-2),
RFC 3826 (AES).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from probes.snmp_ber import OCTETS, BerError, Name, Reader, integer, octets, sequence
from probes.snmp_message import REPORT, Pdu, encode_request, read_pdu

try:  # where newer releases keep modes that nothing new should use; SNMP cannot choose
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:  # pragma: no cover  older releases
    from cryptography.hazmat.primitives.ciphers.modes import CFB

ENGINE_LIMIT: Final = range(5, 33)  # bytes of an engine's id (RFC 3411, SnmpEngineID)
_EXPANDED: Final = 1 << 20  # bytes that a password is repeated to (RFC 3414 appendix A.2)
_AUTH, _PRIV, _REPORTABLE = 1, 2, 4
_LARGEST: Final = 65507

NOT_IN_TIME: Final = (1, 3, 6, 1, 6, 3, 15, 1, 1, 2)
UNKNOWN_ENGINE: Final = (1, 3, 6, 1, 6, 3, 15, 1, 1, 4)
REPORTS: Final[dict[Name, str]] = {
    (1, 3, 6, 1, 6, 3, 15, 1, 1, 1): "the agent does not grant this user the wanted security level",
    NOT_IN_TIME: "the agent finds our messages out of time",
    (1, 3, 6, 1, 6, 3, 15, 1, 1, 3): "the agent does not know this user",
    UNKNOWN_ENGINE: "the agent does not take us for a partner of its engine",
    (1, 3, 6, 1, 6, 3, 15, 1, 1, 5): "the agent finds our authentication wrong: another password or algorithm",
    (1, 3, 6, 1, 6, 3, 15, 1, 1, 6): "the agent cannot decrypt what we send: another privacy password or algorithm",
}


class Auth(StrEnum):
    """How messages are signed."""

    NONE = "none"
    SHA = "sha"
    SHA224 = "sha224"
    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"


# The hash and how many bytes of its HMAC are sent: RFC 3414 section 6, RFC 7860 section 4.
_HASHES: Final = {
    Auth.SHA: ("sha1", 12),
    Auth.SHA224: ("sha224", 16),
    Auth.SHA256: ("sha256", 24),
    Auth.SHA384: ("sha384", 32),
    Auth.SHA512: ("sha512", 48),
}


@dataclass(frozen=True, slots=True)
class Engine:
    """An agent's engine and its time, as it said last."""

    id: bytes = b""
    boots: int = 0
    time: int = 0


@dataclass(frozen=True, slots=True)
class User:
    """Who asks; a password that is None turns that protection off."""

    name: bytes
    auth: Auth = Auth.NONE
    auth_password: bytes | None = None
    priv_password: bytes | None = None

    @property
    def flags(self) -> int:
        """The security level as message flags."""
        return (_AUTH if self.auth_password is not None else 0) | (_PRIV if self.priv_password is not None else 0)

    def auth_key(self, engine: Engine) -> bytes:
        """The key that signs messages to and from an engine."""
        assert self.auth_password is not None
        return localised_key(self.auth, self.auth_password, engine.id)

    def priv_key(self, engine: Engine) -> bytes:
        """The key of AES-128 for an engine (RFC 3826 section 1.2)."""
        assert self.priv_password is not None
        return localised_key(self.auth, self.priv_password, engine.id)[:16]


@lru_cache(maxsize=4096)  # a million bytes are hashed for each; one entry an agent and password
def localised_key(auth: Auth, password: bytes, engine_id: bytes) -> bytes:
    """Return the key that a password makes for one engine (RFC 3414 appendix A.2.2)."""
    name, _ = _HASHES[auth]
    repeated = (password * (_EXPANDED // len(password) + 1))[:_EXPANDED]
    key = hashlib.new(name, repeated).digest()
    return hashlib.new(name, key + engine_id + key).digest()


def encode_v3(pdu: Pdu, ident: int, user: User, engine: Engine, salt: bytes) -> bytes:
    """Return a whole message of version 3. Args: salt: 8 bytes, never twice with one key."""
    scoped = sequence(octets(engine.id), octets(b""), encode_request(pdu))
    private = b""
    if user.priv_password is not None:
        private = salt
        encryptor = Cipher(AES(user.priv_key(engine)), CFB(_iv(engine, salt))).encryptor()
        scoped = octets(encryptor.update(scoped) + encryptor.finalize())
    signed = user.auth_password is not None
    blank = bytes(_HASHES[user.auth][1]) if signed else b""
    wire = _assemble(ident, user, engine, (blank, private), scoped)
    if not signed:
        return wire
    return _assemble(ident, user, engine, (_signature(user, engine, wire), private), scoped)


def encode_discovery(pdu: Pdu, ident: int) -> bytes:
    """Return a message that an agent answers with its engine's id and time (RFC 3414 section 4)."""
    nobody = Engine()
    scoped = sequence(octets(b""), octets(b""), encode_request(replace(pdu, bindings=())))
    return _assemble(ident, User(b""), nobody, (b"", b""), scoped)


def _assemble(ident: int, user: User, engine: Engine, params: tuple[bytes, bytes], scoped: bytes) -> bytes:
    head = sequence(integer(ident), integer(_LARGEST), octets(bytes((user.flags | _REPORTABLE,))), integer(3))
    security = sequence(
        octets(engine.id), integer(engine.boots), integer(engine.time), octets(user.name), *map(octets, params)
    )
    return sequence(integer(3), head, octets(security), scoped)


def _iv(engine: Engine, salt: bytes) -> bytes:
    return engine.boots.to_bytes(4, "big") + engine.time.to_bytes(4, "big") + salt


def _signature(user: User, engine: Engine, wire: bytes) -> bytes:
    name, size = _HASHES[user.auth]
    return hmac.digest(user.auth_key(engine), wire, name)[:size]


@dataclass(frozen=True, slots=True)
class Reply:
    """A message from an agent, checked as far as its own level of security goes."""

    ident: int
    engine: Engine
    pdu: Pdu
    signed: bool


def read_v3(wire: bytes, user: User) -> Reply:
    """Read a message of version 3 to this user.

    A response must have at least the user's own level of security; a report may have less, and says so.

    Raises:
        BerError: it is none, its signature is wrong, or it cannot be decrypted.
    """
    message = Reader(wire).inside()
    if message.number() != 3:
        raise BerError("another version")
    head = message.inside()
    ident, _, flags, model = head.number(), head.number(), head.expect(OCTETS), head.number()
    security = Reader(message.expect(OCTETS)).inside()
    if model != 3 or len(flags) != 1:
        raise BerError("another security model")
    engine = Engine(security.expect(OCTETS), security.number(), security.number())
    name, signature, salt = (security.expect(OCTETS) for _ in range(3))
    if len(engine.id) not in ENGINE_LIMIT or not (0 <= engine.boots < 2**31 and 0 <= engine.time < 2**31):
        raise BerError("an engine that cannot be")
    signed = bool(flags[0] & _AUTH)
    if signed:
        _check_signature(wire, user, engine, name, signature)
    scoped = _decrypted(message, user, engine, salt) if flags[0] & _PRIV else message.inside()
    scoped.expect(OCTETS)
    scoped.expect(OCTETS)
    pdu = read_pdu(scoped)
    if pdu.kind != REPORT and flags[0] & user.flags != user.flags:
        raise BerError("a response below the user's level of security")
    return Reply(ident, engine, pdu, signed)


def _check_signature(wire: bytes, user: User, engine: Engine, name: bytes, signature: bytes) -> None:
    if user.auth_password is None or name != user.name or len(signature) != _HASHES[user.auth][1]:
        raise BerError("signed for somebody else")
    if wire.count(signature) != 1:
        raise BerError("a signature that cannot be told from the message")
    blank = wire.replace(signature, bytes(len(signature)))
    if not hmac.compare_digest(_signature(user, engine, blank), signature):
        raise BerError("a wrong signature")


def _decrypted(message: Reader, user: User, engine: Engine, salt: bytes) -> Reader:
    if user.priv_password is None or len(salt) != 8:
        raise BerError("encrypted for somebody else")
    decryptor = Cipher(AES(user.priv_key(engine)), CFB(_iv(engine, salt))).decryptor()
    plain = decryptor.update(message.expect(OCTETS)) + decryptor.finalize()
    return Reader(plain).inside()
