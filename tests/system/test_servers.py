"""The real servers do what the system tests take for granted, and leave nothing behind."""

from __future__ import annotations

import base64
import imaplib
import poplib
import smtplib
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import psutil
import pytest

from tests.servers import LOOPBACK, Certificates
from tests.system.conftest import PACKAGES
from tests.system.namespaces import Network
from tests.system.servers import (
    SBIN,
    Server,
    ServerError,
    child_process,
    free_port,
    http_get,
    running_servers,
    wait_until,
)
from tests.system.servers_dns import Unbound
from tests.system.servers_mail import Dovecot, Postfix
from tests.system.servers_metrics import BlackboxExporter, Prometheus, promtool
from tests.system.servers_web import Nginx


def refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK, port)) != 0


def descendants(server: Server) -> list[psutil.Process]:
    root = psutil.Process(server.pid)
    return [root, *root.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[int]:
    return [p.pid for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


class TestAnyServer:
    def test_a_start_that_fails_shows_the_log_and_leaves_nothing(self) -> None:
        class Broken(Unbound):
            def prepare(self) -> None:
                super().prepare()
                with (self.folder / "unbound.conf").open("a") as config:
                    config.write("no-such-option: yes\n")

        server = Broken()
        with pytest.raises(ServerError, match="no-such-option"), server:
            pass
        assert not server.folder.exists()
        assert server not in running_servers()

    def test_a_start_that_never_answers_ends_in_time(self) -> None:
        class Mute(Server):
            name = "mute"
            start_limit_s = 0.1

            def prepare(self) -> None:
                pass

            def command(self) -> list[str]:
                return ["sleep", "60"]

            def answers(self) -> bool:
                return False

        with pytest.raises(ServerError, match=r"gave no answer within 0.1 s"), Mute():
            pass

    def test_a_child_in_a_session_of_its_own_is_ended_too(self, tmp_path: Path) -> None:
        with child_process(["sh", "-c", "setsid sleep 60 & wait"], log=tmp_path / "child.log") as process:
            root = psutil.Process(process.pid)
            children = wait_until(lambda: root.children(recursive=True), within_s=2)
        assert alive([root, *children]) == []

    def test_a_child_deaf_to_sigterm_is_killed(self, tmp_path: Path) -> None:
        script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
        log = tmp_path / "deaf.log"
        with child_process(["python3", "-c", script], log=log, end_s=0.1) as process:
            wait_until(log.read_text, within_s=5)
        assert process.returncode == -9

    def test_ports_are_never_given_twice_and_lie_below_those_of_clients(self) -> None:
        ports = [free_port() for _ in range(50)]
        assert len(set(ports)) == 50
        assert max(ports) < int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


class TestNginx:
    @pytest.mark.parametrize(
        ("path", "status", "words"),
        [
            ("/", 200, "Đăng nhập"),
            ("/503", 503, "bảo trì"),
            ("/redirect", 302, ""),
            ("/redirect-loop", 302, ""),
            ("/status.json", 200, "một cửa"),
            ("/auth/", 401, ""),
            ("/absent", 404, ""),
        ],
    )
    def test_pages_are_as_promised(self, shared_nginx: Nginx, path: str, status: int, words: str) -> None:
        found, body = http_get(LOOPBACK, shared_nginx.port, path)
        assert found == status
        assert words in body

    def test_the_right_password_opens_the_inner_page(self, shared_nginx: Nginx) -> None:
        token = base64.b64encode(f"{shared_nginx.username}:{shared_nginx.password}".encode()).decode()
        request = urllib.request.Request(shared_nginx.url("/auth/"), headers={"Authorization": f"Basic {token}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert "Đăng nhập" in answer.read().decode()

    def test_a_hanging_page_says_nothing(self, shared_nginx: Nginx) -> None:
        with pytest.raises(TimeoutError):
            http_get(LOOPBACK, shared_nginx.port, "/hang", timeout_s=0.1)

    def test_a_slow_page_comes_but_not_at_once(self, shared_nginx: Nginx) -> None:
        with socket.create_connection((LOOPBACK, shared_nginx.port), timeout=5) as client:
            client.sendall(b"GET /slow.txt HTTP/1.0\r\n\r\n")
            assert "chậm".encode() in client.recv(65536)
            client.settimeout(0.05)
            with pytest.raises(TimeoutError):
                list(iter(lambda: client.recv(65536), b""))

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("good", None),
            ("expired", "certificate has expired"),
            ("not_yet_valid", "not yet valid"),
            ("wrong_name", "IP address mismatch"),
            ("unknown_ca", "unable to get local issuer"),
            ("self_signed", "self-signed certificate|self signed certificate"),
        ],
    )
    def test_each_certificate_is_shown_on_its_port(
        self, shared_nginx: Nginx, certificates: Certificates, kind: str, reason: str | None
    ) -> None:
        def visit() -> int:
            url = shared_nginx.https_url(certificate=kind)
            with urllib.request.urlopen(url, timeout=5, context=certificates.client_context()) as answer:
                return int(answer.status)

        if reason is None:
            assert visit() == 200
        else:
            with pytest.raises(urllib.error.URLError, match=reason):
                visit()

    def test_maintenance_comes_and_goes_and_a_kill_is_a_kill(self, certificates: Certificates) -> None:
        with Nginx(certificates) as server:
            server.maintenance(True)
            assert http_get(LOOPBACK, server.port, "/")[0] == 503
            server.maintenance(False)
            assert http_get(LOOPBACK, server.port, "/")[0] == 200
            assert any('"GET / ' in line for line in server.requests())
            family = descendants(server)
            assert len(family) >= 2
            server.kill()
            assert alive(family) == []
            assert refused(server.port)
            server.start()
            assert http_get(LOOPBACK, server.port, "/")[0] == 200
        assert refused(server.port)


class TestUnbound:
    @pytest.mark.parametrize(
        ("name", "kind", "rcode", "words"),
        [
            ("tinh.example.vn", "A", "NOERROR", "192.0.2.10"),
            ("tinh.example.vn", "AAAA", "NOERROR", "2001:db8::10"),
            ("tinh.example.vn", "MX", "NOERROR", "10 mail.tinh.example.vn."),
            ("tinh.example.vn", "TXT", "NOERROR", '"v=spf1 mx -all"'),
            ("tinh.example.vn", "SOA", "NOERROR", "2027020601"),
            ("www.tinh.example.vn", "CNAME", "NOERROR", "tinh.example.vn."),
            ("khong-co.tinh.example.vn", "A", "NXDOMAIN", ""),
            ("elsewhere.example.org", "A", "NXDOMAIN", ""),
            ("refused.example.vn", "A", "REFUSED", ""),
        ],
    )
    @pytest.mark.parametrize("transport", ["udp", "tcp"])
    def test_answers_are_as_promised(
        self, shared_unbound: Unbound, name: str, kind: str, rcode: str, words: str, transport: str
    ) -> None:
        ask = dns.query.udp if transport == "udp" else dns.query.tcp
        answer = ask(dns.message.make_query(name, kind), LOOPBACK, port=shared_unbound.port, timeout=2)
        assert dns.rcode.to_text(answer.rcode()) == rcode
        assert words in "\n".join(rrset.to_text() for rrset in answer.answer)

    def test_a_silent_zone_is_silent(self, shared_unbound: Unbound) -> None:
        question = dns.message.make_query("silent.example.vn", "A")
        with pytest.raises(dns.exception.Timeout):
            dns.query.udp(question, LOOPBACK, port=shared_unbound.port, timeout=0.1)

    def test_records_change_while_it_runs(self) -> None:
        with Unbound("cu.tinh.example.vn. 60 IN A 192.0.2.1") as server:

            def rcode(name: str) -> int:
                question = dns.message.make_query(name, "A")
                return dns.query.udp(question, LOOPBACK, port=server.port, timeout=2).rcode()

            assert rcode("cu.tinh.example.vn") == dns.rcode.NOERROR
            server.remove_name("cu.tinh.example.vn")
            assert rcode("cu.tinh.example.vn") == dns.rcode.NXDOMAIN
            server.set_record("moi.tinh.example.vn. 60 IN A 192.0.2.2")
            assert rcode("moi.tinh.example.vn") == dns.rcode.NOERROR


def send(port: int, subject: str, *, to: str = "truc@tinh.example.vn") -> None:
    with smtplib.SMTP(LOOPBACK, port, local_hostname="thu.example.vn", timeout=5) as client:
        text = f"From: giam-sat@example.vn\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nThử.\r\n"
        client.sendmail("giam-sat@example.vn", [to], text.encode())


class TestPostfix:
    def test_mail_is_delivered_to_the_maildir(self, shared_postfix: Postfix) -> None:
        shared_postfix.forget_mails()
        send(shared_postfix.port, "một")
        send(shared_postfix.port, "hai")
        assert [m["Subject"] for m in shared_postfix.wait_for_mails(2)] == ["một", "hai"]

    def test_starttls_and_tls_show_the_certificate(self, shared_postfix: Postfix, certificates: Certificates) -> None:
        context = certificates.client_context()
        with smtplib.SMTP("localhost", shared_postfix.port, local_hostname="thu.example.vn") as client:
            assert client.starttls(context=context)[0] == 220
        with smtplib.SMTP_SSL(
            LOOPBACK, shared_postfix.tls_port, local_hostname="thu.example.vn", context=context
        ) as client:
            assert client.noop()[0] == 250

    def test_strangers_and_foreign_domains_are_refused(self, shared_postfix: Postfix) -> None:
        with smtplib.SMTP(LOOPBACK, shared_postfix.port, local_hostname="thu.example.vn") as client:
            client.ehlo()
            client.mail("giam-sat@example.vn")
            assert client.rcpt("la@tinh.example.vn")[0] == 550
            assert client.rcpt("ai@ngoai.example.vn")[0] == 550

    def test_dovecots_users_may_log_in(
        self, shared_postfix: Postfix, shared_dovecot: Dovecot, certificates: Certificates
    ) -> None:
        def log_in(password: str) -> int:
            with smtplib.SMTP("localhost", shared_postfix.port, local_hostname="thu.example.vn") as client:
                client.starttls(context=certificates.client_context())
                token = base64.b64encode(f"\0{shared_dovecot.username}\0{password}".encode()).decode()
                return client.docmd("AUTH", f"PLAIN {token}")[0]

        assert log_in(shared_dovecot.password) == 235
        assert log_in("sai") == 535

    def test_a_kill_takes_the_whole_house_and_it_starts_again_on_the_same_port(
        self, certificates: Certificates
    ) -> None:
        with Postfix(certificates.good) as server:
            with socket.create_connection((LOOPBACK, server.port), timeout=5) as client:
                assert client.recv(512).startswith(b"220 ")
                family = descendants(server)
                assert any(p.name() == "smtpd" for p in family)
                server.kill()
                assert alive(family) == []
                client.settimeout(2)
                assert client.recv(512) == b""
            assert refused(server.port)
            server.start()
            send(server.port, "lại chạy")
            assert [m["Subject"] for m in server.wait_for_mails(1)] == ["lại chạy"]
            server.stop()
            assert refused(server.port)

    def test_a_second_relay_passes_mail_on_and_keeps_it_while_the_first_is_down(
        self, certificates: Certificates
    ) -> None:
        with (
            Postfix(certificates.good) as first,
            Postfix(
                certificates.good,
                users=["ai@khac.example.vn"],
                hostname="relay.khac.example.vn",
                relayhost=(LOOPBACK, first.port),
            ) as second,
        ):
            send(second.port, "qua hai chặng")
            passed = first.wait_for_mails(1)[0]
            assert "relay.khac.example.vn" in str(passed["Received"])
            first.kill()
            send(second.port, "đợi trong hàng")
            wait_until(lambda: "deferred" in second.logs(), within_s=5)
            assert second.queued() == 1
            first.start()
            assert [m["Subject"] for m in first.wait_for_mails(2)] == ["qua hai chặng", "đợi trong hàng"]

    def test_nothing_of_the_system_is_touched(self, shared_postfix: Postfix) -> None:
        send(shared_postfix.port, "dấu vết")
        touched = [p.cwd() for p in descendants(shared_postfix) if p.name() in {"master", "qmgr", "smtpd"}]
        assert touched
        assert all(Path(folder).is_relative_to(shared_postfix.folder) for folder in touched)


class TestDovecot:
    def test_a_mail_through_postfix_is_read_over_imap_and_pop3(self, certificates: Certificates) -> None:
        with Postfix(certificates.good) as postfix, Dovecot(certificates.good, maildirs=postfix.maildirs) as dovecot:
            send(postfix.port, "đọc được")
            postfix.wait_for_mails(1)
            context = certificates.client_context()
            with imaplib.IMAP4("localhost", dovecot.imap_port) as imap:
                imap.starttls(context)
                imap.authenticate("PLAIN", lambda _: f"\0{dovecot.username}\0{dovecot.password}".encode())
                assert imap.select("INBOX", readonly=True) == ("OK", [b"1"])
            pop3 = poplib.POP3_SSL("localhost", dovecot.pop3s_port, context=context)
            pop3.encoding = "utf-8"
            pop3.user(dovecot.username)
            pop3.pass_(dovecot.password)
            assert pop3.stat()[0] == 1
            pop3.quit()

    def test_tls_from_the_first_byte_works_and_a_wrong_password_does_not(
        self, shared_dovecot: Dovecot, certificates: Certificates
    ) -> None:
        context = certificates.client_context()
        with (
            imaplib.IMAP4_SSL("localhost", shared_dovecot.imaps_port, ssl_context=context) as imap,
            pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"),
        ):
            imap.login(shared_dovecot.username, "sai")

    def test_without_tls_no_login_where_tls_is_asked_for(self, certificates: Certificates) -> None:
        with (
            Dovecot(certificates.good, tls_only=True, host="127.0.0.2") as server,
            imaplib.IMAP4(server.host, server.imap_port) as imap,
        ):
            assert "LOGINDISABLED" in imap.capabilities

    def test_a_kill_takes_the_whole_house_and_it_starts_again(self, certificates: Certificates) -> None:
        with Dovecot(certificates.good) as server:
            family = descendants(server)
            server.kill()
            assert alive(family) == []
            assert refused(server.imap_port)
            server.start()
            assert not refused(server.pop3_port)


_RULES = """
groups:
  - name: thu
    rules:
      - record: thu:up
        expr: up * 2
"""

_MODULES = """
modules:
  tcp_connect: {prober: tcp, timeout: 2s}
  http_2xx: {prober: http, timeout: 2s, http: {preferred_ip_protocol: ip4}}
"""


@pytest.fixture(scope="module")
def blackbox() -> Iterator[BlackboxExporter]:
    with BlackboxExporter(_MODULES) as server:
        yield server


class TestPrometheus:
    def test_it_scrapes_and_evaluates_rules(self, blackbox: BlackboxExporter) -> None:
        target = f"{blackbox.host}:{blackbox.port}"
        with Prometheus({"blackbox": target}, rules={"thu.yml": _RULES}, every="200ms") as server:
            assert server.wait_for("thu:up")[0]["metric"]["job"] == "blackbox"
            assert server.value("thu:up") == 2
            assert server.value("1 + 1") == 2
            with pytest.raises(ServerError, match="parse error"):
                server.query("sum(")
            with pytest.raises(TimeoutError, match="never_there gave nothing"):
                server.wait_for("never_there", within_s=0.1)

    def test_blackbox_exporter_probes(self, blackbox: BlackboxExporter, shared_nginx: Nginx) -> None:
        assert "probe_success 1" in blackbox.probe("http_2xx", shared_nginx.url("/"))
        assert "probe_success 0" in blackbox.probe("http_2xx", shared_nginx.url("/503"))
        with pytest.raises(ServerError, match="Unknown module"):
            blackbox.probe("none", "x")

    def test_promtool_judges_rules_and_metrics(self, tmp_path: Path) -> None:
        rules = tmp_path / "rules.yml"
        rules.write_text(_RULES)
        assert "SUCCESS: 1 rules found" in promtool("check", "rules", str(rules))
        promtool("check", "metrics", text="# HELP a_total x\n# TYPE a_total counter\na_total 1\n")
        with pytest.raises(ServerError, match="counter metrics should have"):
            promtool("check", "metrics", text="# HELP a x\n# TYPE a counter\na 1\n")


class TestServersInANetwork:
    def test_each_runs_at_its_place_and_is_reached_over_the_router(
        self, network: Network, certificates: Certificates
    ) -> None:
        place = network.target
        host, namespace = place.address4, place.namespace.name
        with (
            Nginx(certificates, port=80, host=host, namespace=namespace) as nginx,
            Unbound(port=53, host=host, namespace=namespace) as unbound,
            Postfix(certificates.good, port=25, host=host, namespace=namespace) as postfix,
            Dovecot(certificates.good, host=host, namespace=namespace) as dovecot,
        ):

            def reached(port: int) -> bool:
                with socket.create_connection((place.address4, port), timeout=0.3):
                    return True

            ports = [nginx.port, unbound.port, postfix.port, dovecot.imap_port, *nginx.tls_ports.values()]
            for port in ports:
                assert network.monitor.call(lambda port=port: reached(port))  # type: ignore[misc]
                assert refused(port)
            network.cut_uplink()
            with pytest.raises(OSError, match=r"timed out|No route"):
                network.monitor.call(lambda: reached(25))

    def test_a_server_listens_on_ipv6(self, network: Network, certificates: Certificates) -> None:
        place = network.target
        with Nginx(certificates, host=place.address6, namespace=place.namespace.name, port=80) as nginx:
            assert nginx.url() == f"http://[{place.address6}]:80/"
            assert network.monitor.call(lambda: http_get(place.address6, 80, "/")[0]) == 200


class TestPackages:
    def run(self, path: str) -> subprocess.CompletedProcess[str]:
        argv = ["/bin/bash", str(PACKAGES), "test", "--only-say"]
        return subprocess.run(argv, capture_output=True, text=True, env={"PATH": path}, check=False)

    def test_nothing_is_said_when_all_is_here(self) -> None:
        done = self.run(f"/usr/bin:/bin:{SBIN}")
        assert (done.returncode, done.stderr) == (0, "")

    def test_what_is_missing_stands_in_one_line(self, tmp_path: Path) -> None:
        script = PACKAGES.read_text().replace("need unbound unbound", "need unbound no-such-program")
        altered = tmp_path / "install-packages.sh"
        altered.write_text(script.replace("need fping fping", "need fping /no/such/file"))
        argv = ["/bin/bash", str(altered), "test", "--only-say"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        lines = [line.strip() for line in done.stderr.splitlines() if "apt-get" in line]
        assert lines == ["sudo apt-get install -y --no-install-recommends unbound fping"]


def test_tls_contexts_of_the_tests_trust_nothing_else(certificates: Certificates) -> None:
    assert certificates.client_context().verify_mode is ssl.CERT_REQUIRED
    assert len(certificates.client_context().get_ca_certs()) == 1
