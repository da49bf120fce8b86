"""The command line's contract: exit codes, JSON alone on standard output, messages for people on standard error."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.servers import LOOPBACK, refused_port
from thongsuot.cli import app

HEAD = "site: {id: tinh, name: Tỉnh Mẫu}\ndefaults: {every: 5s, timeout: 2s}\n"
SECRET = "rất-bí-mật-8f3a"
COMMANDS = ["run", "check", "once", "probe", "report", "alerts", "alerts test", "demo"]


def call(*words: str | Path) -> Result:
    """Call the program in this process."""
    return CliRunner().invoke(app, [str(w) for w in words], prog_name="thongsuot")


def program(
    *words: str | Path, env: dict[str, str] | None = None, within_s: float = 15.0
) -> subprocess.CompletedProcess[bytes]:
    """Call the program as a process of its own, as a shell would."""
    argv = [sys.executable, "-m", "thongsuot", *map(str, words)]
    return subprocess.run(argv, capture_output=True, timeout=within_s, check=False, env={**os.environ, **(env or {})})


def tcp(port: int, name: str = "cong") -> str:
    return f"{name}: {{probe: tcp, host: {LOOPBACK}, port: {port}}}"


def services(**checks: int) -> str:
    """One service for each name, with one check of a port."""
    lines = [f"  {s}: {{name: Dịch vụ {s}, kind: service, checks: {{{tcp(p)}}}}}" for s, p in checks.items()]
    return HEAD + "services:\n" + "\n".join(lines) + "\n"


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """A port on which the kernel accepts."""
    with socket.create_server((LOOPBACK, 0), backlog=50) as server:
        yield server.getsockname()[1]


@pytest.fixture
def good(tmp_path: Path) -> Iterator[Path]:
    """A configuration whose only service is up."""
    with listening() as port:
        file = tmp_path / "tot.yaml"
        file.write_text(services(mail=port), encoding="utf-8")
        yield file


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[Path]:
    """A configuration in which mail is up and the portal down."""
    with listening() as port, refused_port() as refused:
        file = tmp_path / "lan.yaml"
        file.write_text(services(mail=port, portal=refused.port), encoding="utf-8")
        yield file


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A configuration with three mistakes, one of which holds a secret."""
    file = tmp_path / "sai.yaml"
    checks = f"smtp: {{probe: smtp, host: a.vn, prot: 25, username: u, password: {SECRET}}}"
    file.write_text(f"{HEAD}services:\n  mail: {{kind: mial, checks: {{{checks}}}}}\n", encoding="utf-8")
    return file


def all_of(result: Result) -> str:
    return result.stdout + result.stderr


# Help and wrong use.


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_a_help_that_says_what_it_does(command: str) -> None:
    result = call(*command.split(), "--help")

    assert result.exit_code == 0
    assert f"Usage: thongsuot {command}".strip() in result.stdout
    assert len(result.stdout.split()) > 20


def test_the_help_names_the_exit_codes_and_every_command() -> None:
    text = " ".join(call("--help").stdout.split())

    assert all(word in text for word in ("0 well", "2 wrong use", "70 our own fault", "78 configuration refused"))
    assert all(f" {c.split()[0]} " in text for c in COMMANDS)


@pytest.mark.parametrize(
    "words",
    [
        ["bogus"],
        ["check"],
        ["check", "a.yaml", "b.yaml"],
        ["once", "a.yaml", "--lang", "fr"],
        ["run", "a.yaml", "--log-level", "loud"],
        ["report", "a.yaml"],
        ["probe"],
        ["--nonsense"],
    ],
)
def test_wrong_use_is_2_with_a_message_and_without_a_trace(words: list[str]) -> None:
    result = call(*words)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage" in result.stderr
    assert "Traceback" not in result.stderr


# check


def test_check_accepts_a_good_configuration_and_says_so_to_people(good: Path) -> None:
    result = call("check", good)

    assert result.exit_code == 0
    assert result.stdout == ""
    assert "1 services, 1 checks" in result.stderr
    assert "warning" in result.stderr  # nobody would be told


def test_check_as_json_is_json_and_nothing_else(good: Path) -> None:
    result = call("check", good, "--json")

    said = json.loads(result.stdout)
    assert (result.exit_code, said["ok"], said["problems"]) == (0, True, [])
    assert said["warnings"]


def test_check_refuses_with_every_mistake_at_its_place_and_without_secrets(wrong: Path) -> None:
    result = call("check", wrong)

    assert result.exit_code == 78
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{wrong}:4:") for line in lines)
    assert "did you mean 'port'" in result.stderr
    assert SECRET not in all_of(result)


def test_check_as_json_lists_the_same_mistakes(wrong: Path) -> None:
    result = call("check", wrong, "--json")

    said = json.loads(result.stdout)
    assert (result.exit_code, said["ok"], len(said["problems"])) == (78, False, 3)
    assert set(said["problems"][0]) == {"file", "line", "column", "path", "message"}
    assert SECRET not in all_of(result)


@pytest.mark.parametrize("command", [["check"], ["once"], ["run"], ["alerts", "test"]])
def test_every_command_refuses_a_wrong_configuration_with_78(command: list[str], wrong: Path, tmp_path: Path) -> None:
    result = call(*command, wrong)

    assert result.exit_code == 78
    assert len(result.stderr.splitlines()) == 3
    assert not (tmp_path / "journal.db").exists()


@pytest.mark.parametrize("name", ["khong-co.yaml", "."])
def test_a_configuration_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    result = call("check", tmp_path / name)

    assert result.exit_code == 78
    assert "cannot be read" in result.stderr
    assert "Traceback" not in result.stderr


# once


def test_once_is_0_when_all_are_up_and_prints_a_table_in_vietnamese(good: Path) -> None:
    result = call("once", good)

    assert result.exit_code == 0
    assert "Dịch vụ" in result.stdout
    assert "thông suốt" in result.stdout
    assert result.stderr == ""


def test_once_is_1_when_one_is_not(mixed: Path) -> None:
    result = call("once", mixed)

    assert result.exit_code == 1
    assert "gián đoạn" in result.stdout


@pytest.mark.parametrize("words", [["--lang", "en", "once"], ["once", "--lang", "en"]])
def test_once_speaks_english_when_asked(words: list[str], mixed: Path) -> None:
    result = call(*words, mixed)

    assert "Service" in result.stdout
    assert "down" in result.stdout
    assert "gián đoạn" not in result.stdout


def test_once_speaks_the_language_of_the_site(mixed: Path) -> None:
    mixed.write_text(mixed.read_text("utf-8").replace("name: Tỉnh Mẫu", "name: Tỉnh Mẫu, language: en"), "utf-8")

    assert "Service" in call("once", mixed).stdout
    assert "Dịch vụ  " in call("once", mixed, "--lang", "vi").stdout


def test_once_as_json_names_every_check_with_its_state(mixed: Path) -> None:
    result = call("once", mixed, "--json")

    said = json.loads(result.stdout)
    assert (result.exit_code, said["ok"]) == (1, False)
    assert {(c["service"], c["check"]): (c["state"], c["fault"]) for c in said["checks"]} == {
        ("mail", "cong"): ("up", None),
        ("portal", "cong"): ("down", "refused"),
    }
    assert result.stderr == ""


@pytest.mark.parametrize(("only", "code", "count"), [("mail", 0, 1), ("mail.cong", 0, 1), ("portal", 1, 1)])
def test_once_runs_only_what_is_named(only: str, code: int, count: int, mixed: Path) -> None:
    result = call("once", mixed, "--only", only, "--json")

    assert result.exit_code == code
    assert len(json.loads(result.stdout)["checks"]) == count


@pytest.mark.parametrize("only", ["nobody", "mail.nothing", "cong", ""])
def test_once_for_something_that_is_not_there_is_wrong_use_and_names_what_is(only: str, mixed: Path) -> None:
    result = call("once", mixed, "--only", only, "--json")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "services: mail, portal" in result.stderr


# probe


def test_probe_needs_no_configuration() -> None:
    with listening() as port:
        result = call("probe", "tcp", f"host={LOOPBACK}", f"port={port}")
        spoken = call("probe", "tcp", f"host={LOOPBACK}", f"port={port}", "--lang", "en")
        figures = call("probe", "tcp", f"host={LOOPBACK}", f"port={port}", "timeout=500ms", "--json")

    assert (result.exit_code, spoken.exit_code, figures.exit_code) == (0, 0, 0)
    assert "thông suốt" in result.stdout
    assert "up" in spoken.stdout
    said = json.loads(figures.stdout)
    assert (said["ok"], said["kind"], said["fault"]) == (True, "tcp", None)
    assert said["phases"]["connect"] > 0
    assert result.stderr == spoken.stderr == figures.stderr == ""


def test_probe_is_1_when_the_target_is_not_well() -> None:
    with refused_port() as address:
        result = call("probe", "tcp", f"host={LOOPBACK}", f"port={address.port}", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["fault"] == "refused"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nokind"], "there are: "),
        (["tcp", "host=a.vn"], "port: missing"),
        (["tcp", "host=a.vn", "port=99999"], "port: "),
        (["tcp", "host=a.vn", "port=x"], "port: "),
        (["tcp", "host=a.vn", "port=.inf"], "port: "),
        (["tcp", "host=a.vn", "port=[1"], "is no YAML"),
        (["tcp", "host=a.vn", "port=*x"], "is no YAML"),
        (["tcp", "host"], "expected KEY=VALUE"),
        (["tcp", "=x"], "expected KEY=VALUE"),
        (["tcp", "host=a.vn", "port=1", "port=2"], "port is given twice"),
        (["tcp", "host=a.vn", "port=1", "prot=2"], "prot: unknown key; tcp knows "),
        (["tcp", "host=a.vn", "port=1", "host.x=2"], "host already has a value"),
        (["tcp", "host=a.vn", "port=1", "timeout=5"], "with its unit"),
        (["tcp", "host=a.vn", "port=1", "timeout=0s"], "more than 0s"),
        (["tcp", "host=a.vn", "port=1", "timeout=9d"], "at most 3600s"),
        (["tcp", "host=a.vn", "port=1", "source=here"], "address of this machine"),
    ],
)
def test_probe_refuses_wrong_keys_with_2_and_says_why(words: list[str], message: str) -> None:
    result = call("probe", *words, "--json")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["smtp", "host=a.vn", "username=u", f"password={SECRET}"],
        ["http", f"url=http://u:{SECRET}@a.vn/"],
        ["imap", "host=a.vn", f"password_env=[{SECRET}]"],
    ],
)
def test_probe_never_repeats_a_secret_that_stands_in_the_wrong_place(words: list[str]) -> None:
    result = call("probe", *words)

    assert result.exit_code == 2
    assert SECRET not in all_of(result)


def test_probe_reads_a_secret_from_the_environment_and_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THU_MAT_KHAU", SECRET)
    with refused_port() as address:
        words = [f"host={LOOPBACK}", f"port={address.port}", "username=u", "password_env=THU_MAT_KHAU"]
        result = call("probe", "imap", *words, "--json")

    assert result.exit_code == 1
    assert SECRET not in all_of(result)


def test_an_uplink_that_is_not_there_is_our_own_trouble_and_no_outage() -> None:
    with listening() as port:
        result = call("probe", "tcp", f"host={LOOPBACK}", f"port={port}", "interface=khong0", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["fault"] == "local"


# report


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--event", "tet", "--from", "2027-02-01"],
        ["--from", "2027-02-01"],
        ["--event", "khong-co"],
        ["--from", "hôm qua", "--to", "2027-02-01"],
        ["--from", "2020-02-03", "--to", "2020-02-01"],
        ["--from", "2990-01-01", "--to", "2990-01-02"],
        ["--from", "2020-01-01", "--to", "2020-01-02", "--format", "doc"],
    ],
)
def test_report_on_an_impossible_period_is_wrong_use(words: list[str], good: Path, tmp_path: Path) -> None:
    result = call("report", good, "--out", tmp_path / "ra", "--state-dir", tmp_path / "state", *words)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr) > 20
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "ra").exists()


def test_report_without_a_journal_is_our_own_fault(good: Path, tmp_path: Path) -> None:
    period = ["--from", "2020-01-01", "--to", "2020-01-02"]
    result = call("report", good, "--out", tmp_path / "ra", "--state-dir", tmp_path / "state", *period)

    assert result.exit_code == 70
    assert "no journal" in result.stderr


# alerts test


def test_alerts_test_without_anybody_to_tell_is_refused(good: Path) -> None:
    result = call("alerts", "test", good)

    assert result.exit_code == 78
    assert "nobody would be told" in result.stderr


def test_alerts_test_is_1_when_no_relay_takes_the_message(good: Path) -> None:
    with refused_port() as relay:
        alerts = f"from: a@b.vn, to: [c@d.vn], relays: [{{host: {LOOPBACK}, port: {relay.port}}}]"
        good.write_text(good.read_text("utf-8") + f"alerts: {{mail: {{{alerts}}}}}\n", encoding="utf-8")
        result = call("alerts", "test", good)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert "FAIL" in result.stderr


# run, as far as it goes without running


def test_run_with_a_port_that_is_taken_is_70_and_says_which(good: Path, tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        listen = f"{LOOPBACK}:{taken.getsockname()[1]}"
        done = program("run", good, "--state-dir", tmp_path / "state", "--listen", listen)

    assert done.returncode == 70
    assert done.stdout == b""
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith(f"cannot listen on {listen}: ")
    assert b"Traceback" not in done.stderr


def test_run_with_a_state_directory_that_cannot_be_used_is_70_and_says_which(good: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = program("run", good, "--state-dir", tmp_path / "file" / "state", "--listen", f"{LOOPBACK}:0")

    assert done.returncode == 70
    assert f"{tmp_path / 'file' / 'state'} cannot be used" in done.stderr.decode().splitlines()[-1]
    assert b"Traceback" not in done.stderr


def test_run_with_a_damaged_journal_is_70_and_leaves_it_as_it_is(good: Path, tmp_path: Path) -> None:
    journal = tmp_path / "state" / "journal.db"
    journal.parent.mkdir()
    journal.write_bytes(b"nothing that SQLite knows" * 100)
    done = program("run", good, "--state-dir", journal.parent, "--listen", f"{LOOPBACK}:0")

    assert done.returncode == 70
    assert str(journal) in done.stderr.decode().splitlines()[-1]
    assert b"Traceback" not in done.stderr
    assert journal.read_bytes() == b"nothing that SQLite knows" * 100


@pytest.mark.parametrize("listen", ["x", "127.0.0.1", "127.0.0.1:99999", ":80:80"])
def test_run_with_an_impossible_address_is_wrong_use(listen: str, good: Path) -> None:
    result = call("run", good, "--listen", listen)

    assert result.exit_code == 2
    assert f"--listen {listen}" in result.stderr


def test_run_without_a_secret_it_needs_is_refused_and_names_its_source(good: Path, tmp_path: Path) -> None:
    relay = f"{{host: {LOOPBACK}, port: 25, starttls: required, username: u, password_file: {tmp_path / 'khong-co'}}}"
    alerts = f"alerts: {{mail: {{from: a@b.vn, to: [c@d.vn], relays: [{relay}]}}}}\n"
    good.write_text(good.read_text("utf-8") + alerts, encoding="utf-8")

    result = call("run", good, "--state-dir", tmp_path / "state")

    assert result.exit_code == 78
    assert str(tmp_path / "khong-co") in result.stderr


# The end of the line.


def test_a_bug_is_70_with_its_trace_and_never_1(tmp_path: Path) -> None:
    code = (
        "import sys; from thongsuot import cli, __main__\n"
        "def broken(*_, **__): raise ZeroDivisionError('a bug')\n"
        "cli.loader.load = broken\n"
        "sys.argv = ['thongsuot', 'check', 'x.yaml']\n"
        "__main__.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=15)

    assert done.returncode == 70
    assert b"ZeroDivisionError: a bug" in done.stderr
    assert done.stdout == b""


def test_json_is_utf_8_whatever_the_locale(mixed: Path) -> None:
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = program("once", mixed, "--json", env=env)
    table = program("once", mixed, env=env)

    said: dict[str, Any] = json.loads(done.stdout.decode("utf-8"))
    assert done.returncode == table.returncode == 1
    assert len(said["checks"]) == 2
    assert "Dịch vụ" in table.stdout.decode("utf-8")
