"""The main job on real servers: trouble is noticed, told by mail, and dated rightly; so is the recovery."""

from __future__ import annotations

import json
import os
import signal
from datetime import datetime, timedelta

import pytest

from probes.base import utc_now
from tests.servers import Certificates
from tests.system.daemon import Daemon
from tests.system.namespaces import Network
from tests.system.servers import free_port, wait_until
from tests.system.servers_mail import Postfix
from tests.system.servers_web import Nginx

DUTY = "truc@tinh.example.vn"
EVERY_S = 5


def local(moment: datetime) -> str:
    """Write a moment as the report's options want it."""
    return moment.isoformat()


def subject_of(mail: object) -> str:
    """Return a mail's subject."""
    return str(mail["Subject"])  # type: ignore[index]


@pytest.mark.timeout(120)
def test_a_killed_mail_server_is_told_through_the_second_relay_and_so_is_its_return(
    certificates: Certificates,
) -> None:
    with Postfix(certificates.good) as watched, Postfix(certificates.good, users=[DUTY]) as second:
        config = f"""
site: {{id: tinh, name: Sở Thông tin và Truyền thông tỉnh Mẫu}}
services:
  mail:
    name: Thư điện tử công vụ
    kind: mail
    checks:
      smtp: {{probe: smtp, host: 127.0.0.1, port: {watched.port}, every: {EVERY_S}s, timeout: 3s, starttls: required,
             ca_file: {certificates.ca_file}, server_name: mail.tinh.example.vn}}
alerts:
  mail:
    from: giam-sat@tinh.example.vn
    to: [{DUTY}]
    relays:
      - {{host: 127.0.0.1, port: {watched.port}, starttls: never}}
      - {{host: 127.0.0.1, port: {second.port}, starttls: never}}
"""
        with Daemon(config) as daemon:
            daemon.wait_for("mail", "up", within_s=15)
            killed_at = utc_now()
            watched.kill()
            opened = second.wait_for_mails(1, within_s=EVERY_S + 15)[0]
            told_after_s = (utc_now() - killed_at).total_seconds()
            restarted_at = utc_now()
            watched.start()
            daemon.wait_for("mail", "up", within_s=20)
            recovered = wait_until(lambda: [*second.mails()[1:], *watched.mails()], within_s=15)[0]
            incident = json.loads(daemon.get("/api/v1/incidents")[1])["recent"][0]

    began = datetime.fromisoformat(incident["began_at"])
    ended = datetime.fromisoformat(incident["ended_at"])
    assert told_after_s < EVERY_S + 15
    assert "GIÁN ĐOẠN" in subject_of(opened)
    assert "Thư điện tử công vụ" in subject_of(opened)
    assert killed_at <= began <= killed_at + timedelta(seconds=EVERY_S + 1)
    assert restarted_at <= ended <= restarted_at + timedelta(seconds=EVERY_S + 3)
    assert recovered["References"] == opened["Message-ID"]
    assert "ĐÃ THÔNG SUỐT" in subject_of(recovered)


@pytest.mark.timeout(150)
def test_a_cut_uplink_is_our_own_fault_and_calls_no_service_down(certificates: Certificates, network: Network) -> None:
    target = network.target
    with (
        Nginx(certificates, host=target.address4, namespace=target.namespace.name) as nginx,
        Postfix(certificates.good, users=[DUTY], namespace=network.monitor.name) as relay,
    ):
        config = f"""
site: {{id: tinh, name: Sở Thông tin và Truyền thông tỉnh Mẫu}}
defaults: {{every: 3s, timeout: 2s, recheck_after: 2s}}
references:
  gateway: {{probe: icmp, host: {network.uplink.gateway4}, count: 2}}
  far: {{probe: icmp, host: {target.address4}, count: 2}}
services:
  portal:
    name: Cổng thông tin điện tử
    kind: portal
    checks:
      web: {{probe: http, url: "{nginx.url()}"}}
      ping: {{probe: icmp, host: {target.address4}}}
alerts:
  mail:
    from: giam-sat@tinh.example.vn
    to: [{DUTY}]
    relays: [{{host: 127.0.0.1, port: {relay.port}, starttls: never}}]
"""
        with Daemon(config, namespace=network.monitor.name) as daemon:
            daemon.wait_for("portal", "up", within_s=15)
            cut_at = utc_now()
            network.cut_uplink()
            first = relay.wait_for_mails(1, within_s=25)[0]
            daemon.wait_for("portal", "unknown", within_s=10)
            during = daemon.status()
            network.restore_uplink()
            restored_at = utc_now()
            daemon.wait_for("portal", "up", within_s=20)
            mails = relay.wait_for_mails(2, within_s=15)
            ended_at = utc_now()
            daemon.stop()
            figures = daemon.figures(local(cut_at), local(ended_at))

    assert during["own_fault"]
    assert "trạm đo" in subject_of(first).lower()
    assert len(mails) == 2, [subject_of(m) for m in mails]
    portal = figures["services"][0]
    assert portal["seconds"]["down"] == 0
    assert portal["outages"] == []
    blind_s = (restored_at - cut_at).total_seconds()
    assert blind_s - 5 <= portal["seconds"]["unknown"] <= blind_s + 8


@pytest.mark.timeout(120)
def test_a_host_dropped_by_the_firewall_is_down_and_thirty_percent_loss_is_not(
    certificates: Certificates,
) -> None:
    with (
        Network(places=("target", "other")) as network,
        Postfix(certificates.good, users=[DUTY], namespace=network.monitor.name) as relay,
    ):
        target, other = network.places.values()
        config = f"""
site: {{id: tinh, name: Tỉnh Mẫu}}
defaults: {{every: 3s, timeout: 2s, recheck_after: 2s}}
references:
  gateway: {{probe: icmp, host: {network.uplink.gateway4}, count: 2}}
  far: {{probe: icmp, host: {other.address4}, count: 4}}
services:
  line:
    name: Đường truyền
    kind: carrier
    checks:
      ping: {{probe: icmp, host: {target.address4}, count: 5}}
alerts:
  mail: {{from: giam-sat@tinh.example.vn, to: [{DUTY}], relays: [{{host: 127.0.0.1, port: {relay.port}}}]}}
"""
        with Daemon(config, namespace=network.monitor.name) as daemon:
            daemon.wait_for("line", "up", within_s=15)
            network.loss(30)
            wait_until(lambda: network.lost_packets() >= 8, within_s=25, every_s=0.2)
            lossy = daemon.states()["line"]
            network.loss(0)
            dropped_at = utc_now()
            network.drop_host(target.address4)
            daemon.wait_for("line", "down", within_s=20)
            mail = relay.wait_for_mails(1, within_s=10)[0]
            network.allow_host(target.address4)
            daemon.wait_for("line", "up", within_s=20)
            daemon.stop()
            figures = daemon.figures(local(dropped_at), local(utc_now()))

    assert lossy == "up"
    assert "Đường truyền" in subject_of(mail)
    assert len(figures["services"][0]["outages"]) == 1


@pytest.mark.timeout(60)
def test_a_bad_reload_keeps_the_old_configuration_and_a_good_one_takes_over_without_a_gap() -> None:
    port = free_port()
    head = "site: {id: tinh, name: Tỉnh Mẫu}\ndefaults: {every: 2s, timeout: 1s}\n"
    config = (
        head + f"services: {{a: {{kind: service, checks: {{x: {{probe: tcp, host: 127.0.0.1, port: {port}}}}}}}}}\n"
    )

    with Daemon(config) as daemon:
        daemon.wait_ready()
        daemon.config.write_text(config.replace("port:", "prot:"))
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda: "prot" in daemon.logs(), within_s=5)
        kept = daemon.states()
        daemon.config.write_text(config.replace("{a:", "{b:"))
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait_for("b", "down", within_s=20)
        changed = daemon.states()
        metrics = daemon.get("/metrics")[1]

    assert "a" in kept
    assert "a" not in changed
    assert "thongsuot_config_reloads_refused_total" in metrics
