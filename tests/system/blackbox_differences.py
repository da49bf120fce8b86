"""Every difference between our `/probe` and Debian's blackbox_exporter 0.23 that is meant: one table.

The differential run allows these and nothing else, and fails when one no longer shows; docs/blackbox.md holds the same
rows, word for word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Side(StrEnum):
    """What a difference looks like."""

    OURS = "only ours"
    THEIRS = "only theirs"
    LABEL = "a label more"
    VALUE = "another value"
    VERDICT = "another verdict"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference and its reason."""

    side: Side
    what: str  # family, family{label}, or for a verdict the family probe_success; `*` stands for any rest
    where: str  # the cases in which it shows, a pattern for their names; for people: see `when`
    when: str
    why: str

    def concerns(self, case: str, family: str, labels: str = "") -> bool:
        """Whether it is about this family in this case."""
        wanted = f"{family}{labels}" if "{" in self.what else family
        plain = re.escape(self.what).replace(r"\*", ".*")
        return re.fullmatch(plain, wanted) is not None and re.fullmatch(self.where, case) is not None

    @property
    def row(self) -> str:
        """The line of the table in the documentation."""
        return f"| `{self.what}` | {self.side} | {self.when} | {self.why} |"


DIFFERENCES: Final = (
    Difference(
        Side.OURS,
        "probe_timeout_seconds",
        r".*",
        "always",
        "newer than 0.23; 0.28 has it",
    ),
    Difference(
        Side.LABEL,
        "probe_ssl_last_chain_info{serialnumber}",
        r".*",
        "TLS",
        "newer than 0.23; 0.28 has it",
    ),
    Difference(
        Side.OURS,
        "probe_tls_cipher_info",
        r"http: .*",
        "http over TLS",
        "newer than 0.23; 0.28 has it",
    ),
    Difference(
        Side.OURS,
        "probe_failed_due_to_bytes",
        r"tcp: .*",
        "tcp, once connected",
        "newer than 0.23; 0.28 has it",
    ),
    Difference(
        Side.THEIRS,
        "probe_failed_due_to_regex",
        r"tcp: .*(refused|no port|unresolvable|expired|wrong name).*",
        "tcp, when no connection was made",
        "0.28 leaves it out until the connection, with its TLS, stands; so do we",
    ),
    Difference(
        Side.OURS,
        "probe_grpc_*",
        r"grpc: without a section.*",
        "a grpc module without a section `grpc`",
        "0.23 forgets its defaults there and looks for IPv6 alone; we fall back to IPv4 as documented",
    ),
    Difference(
        Side.VALUE,
        "probe_*",
        r"grpc: without a section.*",
        "a grpc module without a section `grpc`",
        "as above: the address is found, and the call made",
    ),
    Difference(
        Side.VERDICT,
        "probe_success",
        r"grpc: without a section.*",
        "a grpc module without a section `grpc`",
        "as above",
    ),
    Difference(
        Side.VERDICT,
        "probe_success",
        r"http: redirect to a host that is not allowed",
        "a redirect to a host outside the allow-list",
        "an allowed server must not send us where we may not look",
    ),
    Difference(
        Side.VALUE,
        "probe_http_*",
        r"http: redirect to a host that is not allowed",
        "a redirect to a host outside the allow-list",
        "as above: the probe ends there",
    ),
    Difference(
        Side.VERDICT,
        "probe_success",
        r"http: a login at another origin",
        "a redirect to another port or host, with basic_auth",
        "0.23 sends the login wherever it is sent to; we send it to its own origin alone",
    ),
    Difference(
        Side.VALUE,
        "probe_http_*",
        r"http: a login at another origin",
        "a redirect to another port or host, with basic_auth",
        "as above: the other origin answers 401",
    ),
)
