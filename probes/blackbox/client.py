"""What goes out with a request of the http and websocket probers: headers, logins, files. Nothing is judged here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path as FilePath
from typing import Final

from pydantic import SecretStr

from probes.base import Fault, ProbeError
from probes.blackbox.modules import Authorization, BasicAuth, HeaderValues, HttpClient
from probes.http_wire import basic_login

FILE_LIMIT: Final = 1 << 20  # bytes of a file with a secret or a body

Headers = list[tuple[str, str]]


async def read_file(file: FilePath) -> bytes:
    """Read a file that a module names, now, so that a change is honoured at once.

    Raises:
        ProbeError: LOCAL when it cannot be read.
    """

    def read() -> bytes:
        with file.open("rb") as opened:
            return opened.read(FILE_LIMIT)

    try:
        return await asyncio.to_thread(read)
    except OSError as exc:
        raise ProbeError(Fault.LOCAL, f"{file} cannot be read: {exc.strerror}") from exc


async def _text(text: str | SecretStr | None, file: FilePath | None) -> str:
    if file is not None:
        return (await read_file(file)).decode("utf-8", "replace").strip()
    return text.get_secret_value() if isinstance(text, SecretStr) else text or ""


async def login(client: HttpClient) -> str:
    """Return the Authorization header, or nothing.

    Raises:
        ProbeError: LOCAL when a file cannot be read, or holds what a header cannot.
    """
    if client.basic_auth is not None:
        word = await _basic(client.basic_auth)
    elif client.authorization is not None:
        word = await _token(client.authorization)
    else:
        token = await _text(client.bearer_token, client.bearer_token_file)
        word = f"Bearer {token}" if token else ""
    if any(c in word for c in "\r\n\0"):
        raise ProbeError(Fault.LOCAL, "the login holds a line end, which a header cannot")
    return word


async def _basic(auth: BasicAuth) -> str:
    return basic_login(await _text(auth.username, auth.username_file), await _text(auth.password, auth.password_file))


async def _token(authorization: Authorization) -> str:
    credentials = await _text(authorization.credentials, authorization.credentials_file)
    return f"{authorization.type} {credentials}" if credentials else ""


async def many_headers(given: Iterable[tuple[str, HeaderValues]]) -> Headers:
    """Return every value of headers that may have several, secrets and files included.

    Raises:
        ProbeError: LOCAL when a file cannot be read.
    """
    found: Headers = []
    for name, values in given:
        found += [(name, value) for value in values.values]
        found += [(name, secret.get_secret_value()) for secret in values.secrets]
        found += [(name, await _text(None, file)) for file in values.files]
    return found


def joined(headers: Headers) -> dict[str, str]:
    """Return headers with each name once, several values joined by commas (RFC 9110 section 5.3)."""
    one: dict[str, str] = {}
    names: dict[str, str] = {}
    for name, value in headers:
        known = names.setdefault(name.lower(), name)
        one[known] = f"{one[known]}, {value}" if known in one else value
    return one
