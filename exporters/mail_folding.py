"""Folding of Vietnamese header lines, so that no blank between two words is lost on the way to the reader.

The `email` package cuts a long header at a blank and leaves the blank between two encoded words, where RFC 2047
section 6.2 tells readers to drop it: "Thư điện tử" arrives as "Thưđiện tử". The older `email.header.Header` puts
the blank inside the encoded word.
"""

from __future__ import annotations

from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Final

_LINE_LIMIT: Final = 76  # characters; RFC 2047 section 2


def _encoded(text: str, *, used: int) -> str:
    if text.isascii():
        return Header(text, "us-ascii", maxlinelen=_LINE_LIMIT, header_name="x" * used).encode(linesep="\r\n")
    return Header(text, "utf-8", maxlinelen=_LINE_LIMIT, header_name="x" * used).encode(linesep="\r\n")


class VietnamesePolicy(EmailPolicy):
    """A policy of the `email` package that folds the two headers of free text, Subject and From, by itself."""

    def fold(self, name: str, value: str) -> str:
        """Return a header's lines; see the module's text for why."""
        match name.lower():
            case "subject":
                return f"{name}: {_encoded(str(value), used=len(name))}\r\n"
            case "from":
                return f"{name}: {_sender(value, used=len(name))}\r\n"
        folded: str = super().fold(name, value)
        return folded

    def fold_binary(self, name: str, value: str) -> bytes:
        """Return a header's lines as bytes."""
        if name.lower() in ("subject", "from"):
            return self.fold(name, value).encode("ascii")
        folded: bytes = super().fold_binary(name, value)
        return folded


def _sender(value: object, *, used: int) -> str:
    addresses: tuple[Address, ...] = getattr(value, "addresses", ())
    if len(addresses) != 1 or addresses[0].display_name.isascii():
        return str(value)
    one = addresses[0]
    return f"{_encoded(one.display_name, used=used)}\r\n <{one.addr_spec}>"


MAIL_POLICY: Final = VietnamesePolicy(message_factory=EmailMessage, linesep="\r\n", cte_type="7bit")
