"""A real time-stamp authority, `openssl ts`, behind an HTTP server in the test's own loop; with its certificates."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CONFIG = """
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
certs = {folder}/ca.pem
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: str, key: rsa.RSAPrivateKey, issuer: str, signer: rsa.RSAPrivateKey, *, ca: bool
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)  # noqa: TID251  certificates are for the time at which openssl runs
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority, critical=False)
    )
    if not ca:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(signer, hashes.SHA256())


def set_up(folder: Path) -> None:
    """Make the authority's keys, certificates and settings."""
    folder.mkdir(parents=True, exist_ok=True)
    root, own = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    for name, certificate in (
        ("ca.pem", _certificate("Test root", root, "Test root", root, ca=True)),
        ("tsa.pem", _certificate("Test authority", own, "Test root", root, ca=False)),
    ):
        (folder / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tsa.key").write_bytes(pem)
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(_CONFIG.format(folder=folder))


def reply_to(folder: Path, query: bytes) -> bytes:
    """Answer a TimeStampReq as the authority does."""
    question, answer = folder / "query.tsq", folder / "reply.tsr"
    question.write_bytes(query)
    command = ["openssl", "ts", "-reply", "-config", str(folder / "tsa.cnf")]
    command += ["-queryfile", str(question), "-out", str(answer)]
    subprocess.run(command, check=True, capture_output=True)
    return answer.read_bytes()


@dataclass
class Manners:
    """How the authority behaves."""

    status: int = 200
    body: bytes | None = None  # instead of an answer
    replay: bytes | None = None  # an answer to another question
    asked: int = 0


@contextlib.asynccontextmanager
async def authority(folder: Path, manners: Manners) -> AsyncIterator[str]:
    """Run it on a free port; yields its address."""

    async def answer(request: web.Request) -> web.Response:
        manners.asked += 1
        assert request.content_type == "application/timestamp-query"
        body = manners.body or manners.replay or await asyncio.to_thread(reply_to, folder, await request.read())
        return web.Response(body=body, status=manners.status, content_type="application/timestamp-reply")

    app = web.Application()
    app.router.add_post("/tsa", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/tsa"
    finally:
        await runner.cleanup()
