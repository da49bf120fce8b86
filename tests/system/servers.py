"""Real servers of Debian as child processes: nginx and unbound, and what every other one is built on.

Each runs in the foreground in a temporary folder on ports of its own, and is ended with all its children when the
block ends. Nothing under /etc or /var is touched and no system service is started. The servers that give up root
need root to begin with.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, TypeVar

import psutil

from tests.servers import LOOPBACK, Certificates
from tests.system.namespaces import call_in

S = TypeVar("S", bound="Server")
T = TypeVar("T")

SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"

# Below the kernel's range for outgoing connections: a port stays ours while its server is down for a moment.
_ports: Final = itertools.cycle(random.sample(range(20000, 32000), 12000))
_running: Final[list[Server]] = []


class ServerError(Exception):
    """A server did not start or did not answer; the message holds the end of its logs."""


def free_port(host: str = LOOPBACK) -> int:
    """Return a port on which nothing listens, never the same twice in a run."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in _ports:
        with socket.socket(family) as trial, contextlib.suppress(OSError):
            trial.bind((host, port))
            return port
    raise AssertionError("unreachable: the cycle has no end")


def wait_until(what: Callable[[], T], *, within_s: float, every_s: float = 0.02, why: str = "") -> T:
    """Ask until the answer is true, and return it; a refused or broken connection is a no.

    Raises:
        TimeoutError: it never was within the time; the message is `why`.
    """
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(OSError, EOFError):
            if answer := what():
                return answer
        if time.monotonic() > deadline:
            raise TimeoutError(why or f"nothing came within {within_s:g} s")
        time.sleep(every_s)


def running_servers() -> tuple[Server, ...]:
    """Return the servers that are up now, for the report of a failed test."""
    return tuple(_running)


class Server:
    """One server program; use as a context manager.

    A subclass writes its files in `prepare`, names its words in `command` and says in `answers` when it is ready.
    """

    name: ClassVar[str]
    start_limit_s: ClassVar[float] = 15.0  # chosen: the slowest start seen on a busy machine took three
    stop_limit_s: ClassVar[float] = 3.0  # after SIGTERM; then SIGKILL

    def __init__(self, *, host: str = LOOPBACK, namespace: str | None = None) -> None:
        """Args: host: address to listen on. namespace: network namespace to stand in; None is the host's own."""
        self.host = host
        self.namespace = namespace
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Write the files that the program reads; called once, before the first start."""
        raise NotImplementedError

    def command(self) -> Sequence[str]:
        """Return the program and its arguments, for the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Say whether the server works; called inside its namespace, OSError is a no."""
        raise NotImplementedError

    def __enter__(self: S) -> S:
        self.folder = Path(tempfile.mkdtemp(prefix=f"thongsuot-{self.name}-"))
        self.folder.chmod(0o755)  # servers that gave up root must reach what is theirs
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Process id of the program; only while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the program and wait until it answers; also again after `stop` or `kill`, on the same ports.

        Raises:
            ServerError: it ended by itself or did not answer in time; with its logs.
        """
        assert self._process is None, f"{self.name} runs already"
        prefix = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        with (self.folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*prefix, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{SBIN}"},
                start_new_session=True,
            )
        _running.append(self)
        try:
            self.inside(self._wait_until_it_answers)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the program and its children: SIGTERM, then SIGKILL for what is left. Nothing happens when it is down."""
        self._end([signal.SIGTERM, signal.SIGKILL])

    def kill(self) -> None:
        """End the program and its children with SIGKILL, as a power cut would."""
        self._end([signal.SIGKILL])

    def inside(self, function: Callable[[], T]) -> T:
        """Call a function inside this server's namespace."""
        return call_in(self.namespace, function) if self.namespace else function()

    def logs(self, lines: int = 40) -> str:
        """Return the last lines of every log in the folder, each file under its name."""
        parts = []
        for file in sorted(self.folder.glob("*.log")):
            last = file.read_text(errors="replace").splitlines()[-lines:]
            parts += [f"{file.name}:", *(f"  {line}" for line in last)]
        return "\n".join(parts)

    def write(self, name: str, text: str, *, mode: int = 0o644) -> Path:
        """Write a file into the folder and return its path."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def _wait_until_it_answers(self) -> None:
        process = self._process
        assert process is not None

        def ready() -> bool:
            if process.poll() is not None:
                raise ServerError(f"{self.name} ended by itself with status {process.returncode}\n{self.logs()}")
            return self.answers()

        try:
            wait_until(ready, within_s=self.start_limit_s)
        except TimeoutError:
            raise ServerError(f"{self.name} gave no answer within {self.start_limit_s:g} s\n{self.logs()}") from None

    def _end(self, signals: Sequence[signal.Signals]) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _running.remove(self)
        end_tree(process, signals, each_s=self.stop_limit_s)


def end_tree(process: subprocess.Popen[bytes], signals: Sequence[signal.Signals], *, each_s: float) -> None:
    """End a process started in a session of its own, with all that descends from it, by one signal after another.

    SIGTERM goes to the leaders of process groups alone, for a master knows best how to end its workers; SIGKILL
    goes to whole groups, because a master forks while we look. A group of a child's own is found by its descent.
    """
    tree = _with_descendants(process.pid)
    for number in signals:
        for member in filter(_alive, tree):
            with contextlib.suppress(ProcessLookupError):
                group = os.getpgid(member.pid)
                if number == signal.SIGKILL:
                    os.killpg(group, number)
                elif group == member.pid:
                    os.kill(group, number)
        deadline = time.monotonic() + each_s
        while any(_alive(p) for p in tree) and time.monotonic() < deadline:
            process.poll()  # takes the zombie away
            time.sleep(0.01)
    process.wait(timeout=each_s)
    left = [p.pid for p in tree if _alive(p)]
    assert not left, f"processes {left} outlived SIGKILL"


def _with_descendants(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def http_get(host: str, port: int, path: str, *, timeout_s: float = 2.0) -> tuple[int, str]:
    """Fetch a page over plain HTTP/1.0: status and body. Small, so that it works before anything else does."""
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    return (int(words[1]) if len(words) > 1 else 0), body.decode(errors="replace")


_NGINX: Final = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/tmp-body;
    proxy_temp_path {folder}/tmp-proxy;
    fastcgi_temp_path {folder}/tmp-fastcgi;
    uwsgi_temp_path {folder}/tmp-uwsgi;
    scgi_temp_path {folder}/tmp-scgi;
    types {{ text/html html; application/json json; text/plain txt; }}
    charset utf-8;
    root {folder}/pages;
    absolute_redirect off;
    server {{
        listen {address}:{port};
        include {folder}/locations.conf;
    }}
    {tls_servers}
}}
"""

_NGINX_TLS: Final = """
    server {{
        listen {address}:{port} ssl;
        ssl_certificate {certificate.chain_file};
        ssl_certificate_key {certificate.key_file};
        ssl_protocols {protocols};
        include {folder}/locations.conf;
    }}
"""

_LOCATIONS: Final = """
location / {{ if (-f {folder}/maintenance) {{ return 503 "Hệ thống đang bảo trì\\n"; }} }}
location = /503 {{ return 503 "Hệ thống đang bảo trì\\n"; }}
location = /redirect {{ return 302 /; }}
location = /redirect-loop {{ return 302 /redirect-loop; }}
location = /slow.txt {{ limit_rate 1k; }}
location = /hang {{ proxy_pass http://{silent}; }}
location /auth/ {{ auth_basic "Cổng nội bộ"; auth_basic_user_file {folder}/passwords; alias {folder}/pages/; }}
"""


class Nginx(Server):
    """nginx with a portal's pages over HTTP and, under each certificate of the tests' authority, over HTTPS.

    Paths: `/` (a login page), `/503`, `/redirect`, `/redirect-loop`, `/slow.txt` (4 KiB at 1 KiB/s), `/hang` (no
    byte ever comes), `/auth/` (basic), `/status.json`, `/big.txt` (3 MiB).
    """

    name = "nginx"
    username = "can-bo"
    password = "mật-khẩu 123"
    kinds: ClassVar = ("good", "expired", "not_yet_valid", "wrong_name", "unknown_ca", "self_signed")

    def __init__(
        self,
        certificates: Certificates,
        *,
        host: str = LOOPBACK,
        namespace: str | None = None,
        port: int | None = None,
        tls_protocols: str = "TLSv1.2 TLSv1.3",
    ) -> None:
        """Args: port: of plain HTTP. tls_protocols: as nginx names them. The rest as for every server."""
        super().__init__(host=host, namespace=namespace)
        self._certificates = certificates
        self._protocols = tls_protocols
        self.port = port or free_port()
        self.tls_ports = {kind: free_port() for kind in self.kinds}
        self._silent: socket.socket | None = None

    def url(self, path: str = "/") -> str:
        """Return the address of a page over HTTP."""
        return f"http://{self._address()}:{self.port}{path}"

    def https_url(self, path: str = "/", *, certificate: str = "good", name: str | None = None) -> str:
        """Return the address of a page over HTTPS under one of `kinds`; `name` stands in for the host."""
        return f"https://{name or self._address()}:{self.tls_ports[certificate]}{path}"

    def maintenance(self, on: bool) -> None:
        """Answer 503 on every plain page from now on, or end that."""
        file = self.folder / "maintenance"
        if on:
            file.touch()
        else:
            file.unlink(missing_ok=True)

    def requests(self) -> list[str]:
        """Return the lines of the access log so far."""
        return (self.folder / "access.log").read_text().splitlines()

    def prepare(self) -> None:
        pages = {
            "index.html": "<!doctype html><title>Cổng thông tin</title><h1>Đăng nhập</h1>\n",
            "status.json": '{"status": "ok", "services": [{"name": "một cửa", "up": true}]}\n',
            "slow.txt": "chậm.\n" * 512,
            "big.txt": "0123456789abcdef" * (3 * 65536),
        }
        for name, text in pages.items():
            self.write(f"pages/{name}", text)
        self._silent = self.inside(lambda: socket.create_server((LOOPBACK, 0)))
        silent = f"{LOOPBACK}:{self._silent.getsockname()[1]}"
        self.write("passwords", f"{self.username}:{{PLAIN}}{self.password}\n")
        self.write("locations.conf", _LOCATIONS.format(folder=self.folder, silent=silent))
        self.write("nginx.conf", self._config())

    def command(self) -> Sequence[str]:
        return ["nginx", "-p", f"{self.folder}", "-e", "error.log", "-c", "nginx.conf", "-g", "daemon off;"]

    def answers(self) -> bool:
        return http_get(self.host, self.port, "/")[0] in (200, 503)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        if self._silent is not None:
            self._silent.close()

    def _address(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def _config(self) -> str:
        common = {"folder": self.folder, "address": self._address()}
        tls = "".join(
            _NGINX_TLS.format(
                port=port, certificate=getattr(self._certificates, kind), protocols=self._protocols, **common
            )
            for kind, port in self.tls_ports.items()
        )
        return _NGINX.format(port=self.port, tls_servers=tls, **common)


_UNBOUND: Final = """
server:
    interface: {host}
    port: {port}
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    directory: "{folder}"
    pidfile: "{folder}/unbound.pid"
    chroot: ""
    username: ""
    use-syslog: no
    logfile: ""
    log-time-ascii: yes
    do-daemonize: no
    num-threads: 1
    module-config: "iterator"
    hide-version: yes
    # Nothing is asked of the world: what is not written here does not exist.
    local-zone: "." static
{zones}
remote-control:
    control-enable: yes
    control-interface: "{folder}/control"
    control-use-cert: no
"""


class Unbound(Server):
    """unbound that answers, over UDP and TCP, from data written here; every other name does not exist.

    `zone` has A, AAAA, MX, TXT, SOA and NS; `refused.example.vn` is REFUSED; `silent.example.vn` gets no answer.
    """

    name = "unbound"
    zone = "tinh.example.vn"
    records: ClassVar = (
        "tinh.example.vn. 300 IN SOA ns.tinh.example.vn. quan-tri.tinh.example.vn. 2027020601 3600 900 604800 300",
        "tinh.example.vn. 300 IN NS ns.tinh.example.vn.",
        "tinh.example.vn. 300 IN A 192.0.2.10",
        "tinh.example.vn. 300 IN AAAA 2001:db8::10",
        "tinh.example.vn. 300 IN MX 10 mail.tinh.example.vn.",
        'tinh.example.vn. 300 IN TXT "v=spf1 mx -all"',
        "ns.tinh.example.vn. 300 IN A 127.0.0.1",
        "mail.tinh.example.vn. 300 IN A 127.0.0.1",
        "mail.tinh.example.vn. 300 IN AAAA ::1",
        "www.tinh.example.vn. 300 IN CNAME tinh.example.vn.",
    )

    def __init__(
        self,
        *more_records: str,
        host: str = LOOPBACK,
        namespace: str | None = None,
        port: int | None = None,
        zones: Mapping[str, str] | None = None,
    ) -> None:
        """Args: more_records: in zone-file form. zones: more local zones, name to unbound's type. port: UDP and TCP."""
        super().__init__(host=host, namespace=namespace)
        self.port = port or free_port()
        self._records = (*self.records, *more_records)
        self._zones = {
            self.zone: "static",
            "refused.example.vn": "refuse",
            "silent.example.vn": "deny",
            **(zones or {}),
        }

    def set_record(self, record: str) -> None:
        """Add a record while it runs."""
        self._control("local_data", *record.split())

    def remove_name(self, name: str) -> None:
        """Take every record of a name away while it runs: it then does not exist."""
        self._control("local_data_remove", name)

    def prepare(self) -> None:
        lines = [f'    local-zone: "{name}." {kind}' for name, kind in self._zones.items()]
        lines += [f"    local-data: '{record}'" for record in self._records]
        text = _UNBOUND.format(host=self.host, port=self.port, folder=self.folder, zones="\n".join(lines))
        self.write("unbound.conf", text)

    def command(self) -> Sequence[str]:
        return ["unbound", "-d", "-c", f"{self.folder}/unbound.conf"]

    def answers(self) -> bool:
        with socket.create_connection((self.host, self.port), timeout=1):
            return True

    def _control(self, *words: str) -> None:
        argv = ["unbound-control", "-c", f"{self.folder}/unbound.conf", *words]
        env = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{SBIN}"}
        done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=10, check=False)
        if done.returncode:
            raise ServerError(f"unbound-control {words}: {done.stdout}{done.stderr}")


@contextlib.contextmanager
def child_process(
    argv: Sequence[str],
    *,
    log: Path,
    namespace: str | None = None,
    env: Mapping[str, str] | None = None,
    end_s: float = 5.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run any program, the daemon for one, in the background and end it with its children.

    Args:
        argv: program and arguments.
        log: file that its output is added to.
        namespace: network namespace to stand in.
        env: variables beside those of the tests.
        end_s: seconds from SIGTERM to SIGKILL.
    """
    prefix = ["ip", "netns", "exec", namespace] if namespace else []
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*prefix, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            end_tree(process, [signal.SIGTERM, signal.SIGKILL], each_s=end_s)
