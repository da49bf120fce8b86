"""What `make install` puts on a machine: it runs by itself, and the unit asks for no more than it needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.system.daemon import Daemon
from tests.system.machine import Machine, MachineError
from tests.system.namespaces import Network
from tests.system.servers import wait_until

REPO = Path(__file__).parents[2]
UNIT = REPO / "systemd" / "thongsuot.service"
ROOMS = ("thongsuot", "config", "probes", "monitor", "exporters")
PROGRAM = "opt/thongsuot/venv/bin/thongsuot"
NOBODY_KNOWN = 61234  # a user and group id without a name, a home or a file
INSTALL_LIMIT_S = 400  # fetches forty packages where none is kept

# The machine's own Python: what runs the tests may live in the home of root, where a service may not look.
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or "python3"

CONFIG = """
site: {id: tinh, name: Tỉnh Mẫu}
paths: {lo: {interface: lo}}
defaults: {every: 2s, timeout: 1s}
references:
  ip4: {probe: icmp, host: 127.0.0.1}
  ip6: {probe: icmp, host: "::1"}
services:
  line:
    checks:
      ping: {probe: icmp, host: 127.0.0.1, count: 3, gap: 50ms}
      bound: {probe: icmp, host: 127.0.0.1, path: lo}
      name: {probe: icmp, host: localhost}
"""


def make(
    goal: str, destdir: Path | str, *, prefix: Sequence[str] = (), **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run `make install` or `make uninstall` into a folder."""
    words = [f"{name}={value}" for name, value in {"DESTDIR": str(destdir), "PYTHON": PYTHON, **settings}.items()]
    return subprocess.run(
        [*prefix, "make", "--no-print-directory", goal, *words],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=INSTALL_LIMIT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def staged() -> Iterator[Path]:
    """A folder with everything that `make install` puts on a machine."""
    folder = Path(tempfile.mkdtemp(prefix="thongsuot-staged-"))
    folder.chmod(0o755)  # the service's user is nobody special
    try:
        done = make("install", folder)
        assert done.returncode == 0, done.stderr
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def machine(staged: Path) -> Iterator[Machine]:
    """A machine of its own on which `make install` has been run."""
    with Machine(REPO, staged) as made:
        provide(made, staged)
        yield made


def provide(machine: Machine, staged: Path) -> None:
    """Install in a machine without a network: over a copy of the program, which brings the packages."""
    machine.run("cp", "-a", str(staged / "opt/thongsuot"), "/opt/thongsuot")
    install(machine)


def install(machine: Machine) -> str:
    """Run the installation inside and return what it printed."""
    return machine.run("make", "--no-print-directory", "install", f"PYTHON={PYTHON}", cwd=str(REPO), timeout_s=100)


pytestmark = pytest.mark.timeout(INSTALL_LIMIT_S + 60)


def test_the_installed_program_reads_its_sample_wherever_one_stands(staged: Path, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "__init__.py").write_text("raise RuntimeError('not ours')")

    done = subprocess.run(
        [staged / PROGRAM, "check", staged / "etc/thongsuot/province.yaml", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"ok": True, "problems": [], "warnings": []}


def test_the_names_of_the_rooms_are_those_of_the_installed_program(staged: Path, tmp_path: Path) -> None:
    code = f"import {', '.join(ROOMS)}; print({', '.join(f'{room}.__file__' for room in ROOMS)}, sep='\\n')"

    done = subprocess.run(
        [staged / "opt/thongsuot/venv/bin/python", "-I", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    venv = staged / "opt/thongsuot/venv/lib"
    assert [Path(line).is_relative_to(venv) for line in done.stdout.splitlines()] == [True] * len(ROOMS)


def test_every_file_of_the_rooms_travels(staged: Path) -> None:
    site = next((staged / "opt/thongsuot/venv/lib").glob("python3.*/site-packages"))

    def files(top: Path) -> set[str]:
        found = {f.relative_to(top) for room in ROOMS for f in (top / room).rglob("*") if f.is_file()}
        return {str(f) for f in found if "__pycache__" not in f.parts}

    assert files(site) == files(REPO)


def test_nobody_but_the_service_may_read_the_configuration(staged: Path) -> None:
    assert (staged / "etc/thongsuot/province.yaml").stat().st_mode & 0o777 == 0o640
    assert (staged / "etc/systemd/system/thongsuot.service").read_text("utf-8") == UNIT.read_text("utf-8")
    assert (staged / "usr/local/bin/thongsuot").readlink() == Path("/", PROGRAM)


def test_installing_again_needs_no_network_and_keeps_the_configuration(staged: Path) -> None:
    file = staged / "etc/thongsuot/province.yaml"
    before = file.read_text("utf-8")
    file.write_text(f"{before}# ours\n", encoding="utf-8")

    done = make("install", staged, prefix=("unshare", "--net"))

    assert done.returncode == 0, done.stderr
    assert file.read_text("utf-8") == f"{before}# ours\n"
    file.write_text(before, encoding="utf-8")


def test_another_prefix_stands_in_every_file_that_names_it(staged: Path, tmp_path: Path) -> None:
    # The packages of the other installation save fetching them again.
    shutil.copytree(staged / "opt/thongsuot", tmp_path / "srv/do", symlinks=True)

    done = make("install", tmp_path, PREFIX="/srv/do", BINDIR="/srv/bin")

    assert done.returncode == 0, done.stderr
    unit = (tmp_path / "etc/systemd/system/thongsuot.service").read_text("utf-8")
    assert "ExecStart=/srv/do/venv/bin/thongsuot run" in unit
    assert "/opt/thongsuot" not in unit + (tmp_path / "etc/thongsuot/province.yaml").read_text("utf-8")
    assert (tmp_path / "srv/bin/thongsuot").readlink() == Path("/srv/do/venv/bin/thongsuot")


def test_uninstalling_leaves_what_is_the_owners(staged: Path, tmp_path: Path) -> None:
    shutil.copytree(staged, tmp_path, symlinks=True, dirs_exist_ok=True)
    (tmp_path / "var/lib/thongsuot").mkdir(parents=True)
    (tmp_path / "var/lib/thongsuot/journal.db").write_text("measured")

    done = make("uninstall", tmp_path)

    assert done.returncode == 0, done.stderr
    left = {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if not f.is_dir()}
    assert left == {"etc/thongsuot/province.yaml", "var/lib/thongsuot/journal.db"}


@pytest.mark.parametrize("goal", ["install", "uninstall"])
def test_a_folder_of_somebody_else_is_not_touched(goal: str, tmp_path: Path) -> None:
    theirs = tmp_path / "usr/share/theirs"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("x")

    done = make(goal, tmp_path, PREFIX="/usr")

    assert done.returncode != 0
    assert "was not made by this installation" in done.stderr
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == [theirs]


def test_a_prefix_that_is_no_absolute_path_is_refused(tmp_path: Path) -> None:
    done = make("install", tmp_path, PREFIX="thongsuot")

    assert done.returncode != 0
    assert "PREFIX has to be an absolute path" in done.stderr


def test_the_unit_is_exposed_at_most_by_two_of_ten() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=True,
    )

    found = re.search(r"Overall exposure level for thongsuot\.service: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) <= 2.0


def test_systemd_finds_nothing_wrong_in_the_unit(staged: Path, tmp_path: Path) -> None:
    unit = tmp_path / "thongsuot.service"
    unit.write_text(UNIT.read_text("utf-8").replace("=/opt/", f"={staged}/opt/"), encoding="utf-8")

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Unprivileged(Daemon):
    """The installed program as a user without a name, with the one capability of the unit or none."""

    def __init__(self, staged: Path, *capabilities: str) -> None:
        super().__init__(CONFIG)
        self._staged = staged
        self._capabilities = "".join(f",+{name}" for name in capabilities)

    def prepare(self) -> None:
        super().prepare()
        self.state_dir.mkdir()
        os.chown(self.state_dir, NOBODY_KNOWN, NOBODY_KNOWN)

    def command(self) -> Sequence[str]:
        only = f"-all{self._capabilities}"
        who = (f"--reuid={NOBODY_KNOWN}", f"--regid={NOBODY_KNOWN}", "--clear-groups", "--no-new-privs")
        kept = (f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}")
        program, *rest = super().command()
        del program
        return ["setpriv", *who, *kept, str(self._staged / PROGRAM), *rest[rest.index("run") :]]


def test_one_capability_is_all_that_echoes_need(staged: Path) -> None:
    with Unprivileged(staged, "net_raw") as daemon:
        daemon.wait_for("line", "up", within_s=15)
        states = daemon.states()
        journal = daemon.state_dir / "journal.db"
        owner = journal.stat().st_uid

    assert {states[f"line.{check}"] for check in ("ping", "bound", "name")} == {"up"}
    assert owner == NOBODY_KNOWN


def test_without_the_capability_the_fix_is_named_and_nothing_is_called_down(staged: Path) -> None:
    # A network of its own has the kernel's default: no user may send echoes without it.
    with Network() as network:
        daemon = Unprivileged(staged)
        daemon.namespace = network.monitor.name
        with daemon:
            daemon.wait_ready()
            status = daemon.status()

    check = status["services"][0]["checks"][0]
    assert check["state"] == "unknown"
    assert "AmbientCapabilities=CAP_NET_RAW" in check["detail"]


def start(machine: Machine, config: str = CONFIG, *, drop_in: str = "") -> None:
    """Start the service in the machine with a configuration and lines of a drop-in."""
    machine.write("/etc/thongsuot/province.yaml", config, mode=0o640)
    machine.write("/etc/systemd/system/thongsuot.service.d/test.conf", f"[Service]\n{drop_in}\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed")
    machine.run("systemctl", "restart", "thongsuot")


def states(machine: Machine) -> dict[str, str]:
    """Return the states of the checks in the machine."""
    page = machine.run("curl", "--silent", "--show-error", "--fail", "http://127.0.0.1:8480/api/v1/status")
    return {c["id"]: c["state"] for s in json.loads(page)["services"] for c in s["checks"]}


def test_the_installation_makes_a_user_without_a_login_and_starts_nothing(machine: Machine) -> None:
    assert "/var/lib/thongsuot:/usr/sbin/nologin" in machine.run("getent", "passwd", "thongsuot")
    assert machine.run("stat", "-c", "%a %U:%G", "/etc/thongsuot").strip() == "750 root:thongsuot"
    assert machine.run("stat", "-c", "%a %U:%G", "/etc/thongsuot/province.yaml").strip() == "640 root:thongsuot"
    assert machine.run("stat", "-c", "%a %U:%G", "/etc/thongsuot/secrets").strip() == "700 root:root"
    assert machine.show("thongsuot", "LoadState") == "loaded"
    assert machine.ask("systemctl", "is-enabled", "thongsuot").stdout.strip() == "disabled"
    assert machine.ask("systemctl", "is-active", "thongsuot").stdout.strip() == "inactive"


def test_under_systemd_every_kind_of_echo_works_and_nothing_else_is_allowed(machine: Machine) -> None:
    start(machine)
    wait_until(lambda: set(states(machine).values()) == {"up"}, within_s=15, every_s=0.2)

    status = machine.run("cat", f"/proc/{machine.show('thongsuot', 'MainPID')}/status")
    held = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {held[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {f"{1 << 13:016x}"}
    assert held["NoNewPrivs"] == "1"
    assert held["Seccomp"] == "2"
    assert machine.show("thongsuot", "StatusText") == "watching 5 checks"
    assert machine.run("stat", "-c", "%a %U", "/var/lib/thongsuot/journal.db").strip() == "600 thongsuot"


# Loads every module of the program with all it stands on, and lets the compiled ones work.
EXERCISE = """
import importlib, pkgutil, sqlite3
for room in ("thongsuot", "config", "probes", "monitor", "exporters"):
    for found in pkgutil.walk_packages(importlib.import_module(room).__path__, room + "."):
        try:
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
        except ModuleNotFoundError as exc:
            if exc.name != "grafana_foundation_sdk":  # what makes the dashboards stays with the developers
                raise
import re2, ssl, uvloop, asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
assert re2.search("n[gh]+i", "nghi")
assert ssl.create_default_context().get_ca_certs()
Ed25519PrivateKey.generate().sign(b"x")
async def both():
    reader = await asyncio.create_subprocess_exec("/bin/true")
    await reader.wait()
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)
uvloop.run(both())
import os, pyarrow, pyarrow.parquet
os.nice(19)
pyarrow.parquet.write_table(pyarrow.table({"x": [1, 2]}), "/var/lib/thongsuot/trial.parquet", compression="zstd")
assert pyarrow.parquet.read_table("/var/lib/thongsuot/trial.parquet").num_rows == 2
sqlite3.connect("/var/lib/thongsuot/trial.db").execute("PRAGMA journal_mode=WAL")
open("/var/lib/thongsuot/trial", "w").close()
for closed in ("/etc/thongsuot/trial", "/opt/thongsuot/trial", "/home/trial"):
    try:
        open(closed, "w")
    except OSError:
        continue
    raise SystemExit(closed + " could be written")
print("all of it works")
"""


def test_every_library_works_inside_the_fence_and_nothing_outside_can_be_written(machine: Machine) -> None:
    machine.write("/srv/exercise.py", EXERCISE)
    program = "ExecStart=/opt/thongsuot/venv/bin/python -P /srv/exercise.py"

    start(machine, drop_in=f"Type=oneshot\nRestart=no\nWatchdogSec=0\nExecStart=\n{program}")

    assert "all of it works" in machine.log("thongsuot")


def test_a_reload_takes_a_good_configuration_and_keeps_the_old_for_a_bad_one(machine: Machine) -> None:
    start(machine)
    before = machine.show("thongsuot", "MainPID")
    machine.write("/etc/thongsuot/province.yaml", CONFIG.replace("line:", "way:"), mode=0o640)
    machine.run("systemctl", "reload", "thongsuot")
    taken = states(machine)
    machine.write("/etc/thongsuot/province.yaml", CONFIG.replace("host:", "hots:"), mode=0o640)
    machine.run("systemctl", "reload", "thongsuot")

    assert {name.split(".")[0] for name in taken} == {"way"}
    assert states(machine).keys() == taken.keys()
    assert machine.show("thongsuot", "MainPID") == before
    assert machine.show("thongsuot", "StatusText") == "the new configuration was refused; the old one stays"
    assert "hots" in machine.log("thongsuot")


def test_a_secret_reaches_the_service_as_a_credential_and_no_other_way(machine: Machine) -> None:
    secret = "không ai biết"
    credential = "/run/credentials/thongsuot.service/relay"
    relay = f"{{host: 127.0.0.1, port: 25, username: giam-sat, password_file: {credential}, plaintext_login: true}}"
    config = f"{CONFIG}alerts: {{mail: {{from: a@example.vn, to: [b@example.vn], relays: [{relay}]}}}}\n"
    machine.write("/etc/thongsuot/secrets/relay", f"{secret}\n", mode=0o600)

    with pytest.raises(MachineError):
        start(machine, config)
    refused = machine.show("thongsuot", "ExecMainStatus")
    start(machine, config, drop_in="LoadCredential=relay:/etc/thongsuot/secrets/relay")

    assert refused == "78"
    assert machine.show("thongsuot", "ActiveState") == "active"
    assert secret not in machine.log("thongsuot")


def test_a_refused_configuration_is_not_tried_again(machine: Machine) -> None:
    with pytest.raises(MachineError):
        start(machine, CONFIG.replace("host:", "hots:"), drop_in="RestartSec=10ms")

    assert machine.show("thongsuot", "ActiveState") == "failed"
    assert machine.show("thongsuot", "NRestarts") == "0"
    assert machine.show("thongsuot", "ExecMainStatus") == "78"


@pytest.mark.parametrize("blow", ["KILL", "STOP"], ids=["killed", "hung"])
def test_a_daemon_that_is_killed_or_hangs_is_started_again(machine: Machine, blow: str) -> None:
    start(machine, drop_in="RestartSec=10ms\nWatchdogSec=2s\nTimeoutAbortSec=1s")
    before = machine.show("thongsuot", "MainPID")

    machine.run("kill", f"-{blow}", before)

    wait_until(lambda: machine.show("thongsuot", "NRestarts") == "1", within_s=15, every_s=0.1)
    wait_until(lambda: machine.show("thongsuot", "ActiveState") == "active", within_s=15, every_s=0.1)
    assert machine.show("thongsuot", "MainPID") != before


def test_an_upgrade_says_what_to_do_and_leaves_the_old_one_running(machine: Machine) -> None:
    start(machine)
    before = machine.show("thongsuot", "MainPID")
    machine.write("/etc/thongsuot/province.yaml", CONFIG.replace("host:", "hots:"), mode=0o640)

    said = install(machine)

    assert "systemctl restart thongsuot" in said
    assert "This version refuses the configuration that is there" in said
    assert "unknown key" in said
    assert machine.show("thongsuot", "MainPID") == before
    assert "hots" in machine.read("/etc/thongsuot/province.yaml")


def test_a_python_in_the_home_of_root_is_refused_before_anything_is_made(machine: Machine) -> None:
    machine.write("/tmp/python3", "#!/bin/sh\ncase $2 in *base_prefix*) echo /root/.python;; esac\n", mode=0o755)

    done = machine.ask("make", "install", "PYTHON=/tmp/python3", "PREFIX=/opt/other", cwd=str(REPO))

    assert done.returncode != 0
    assert "make install PYTHON=/usr/bin/python3" in done.stderr
    assert machine.ask("test", "-e", "/opt/other").returncode == 1


def test_uninstalling_stops_the_service_and_keeps_configuration_and_journal(machine: Machine, staged: Path) -> None:
    start(machine)
    machine.run("systemctl", "enable", "thongsuot")

    machine.run("make", "uninstall", cwd=str(REPO))

    assert machine.ask("pgrep", "-u", "thongsuot").returncode == 1
    assert machine.show("thongsuot", "LoadState") == "not-found"
    machine.run("test", "-s", "/var/lib/thongsuot/journal.db", "-a", "-s", "/etc/thongsuot/province.yaml")
    for gone in ("/opt/thongsuot", "/usr/local/bin/thongsuot", "/etc/systemd/system/thongsuot.service"):
        assert machine.ask("test", "-e", gone).returncode == 1
    provide(machine, staged)
    start(machine)
