"""The figures of a period: exact numbers for a small journal made by hand, and the files they are written to."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.plan import Plan, ServiceKind
from exporters.report import files
from exporters.report.figures import as_json, gather, percentile
from monitor.history import open_history
from monitor.journal import Batch, Journal
from monitor.model import Result, SlotCount, State
from probes.base import Fault, Reading
from probes.base import Path as Uplink
from tests.monitor.builders import (
    SITE,
    at,
    bad,
    blind,
    change,
    check,
    gap,
    good,
    incident,
    plan,
    reference,
    result,
    service,
    span,
)

UP, DOWN, SLOW = State.UP, State.DOWN, State.DEGRADED
HOUR = span(0, 3600)

PROVINCE = plan(
    service("mail", "smtp", check("mail.imaps", every_s=60.0), name="Thư điện tử công vụ", kind=ServiceKind.MAIL),
    service(
        "carrier-vnpt",
        check("carrier-vnpt.ping", kind="icmp", path=Uplink("vnpt", "VNPT cáp quang"), every_s=10.0),
        check("carrier-vnpt.dns", kind="dns"),
        at_least=1,
        name="Mạng VNPT",
        kind=ServiceKind.CARRIER,
    ),
    references=[reference("gateway", near=True)],
)


def echoes(seconds: float, *rtts_ms: float | None) -> Result:
    rtts = tuple(None if r is None else r / 1000 for r in rtts_ms)
    return result("carrier-vnpt.ping", seconds, Reading(None, "", 2.0, rtts_s=rtts), path="vnpt")


# What a daemon wrote that ran from an hour before the period until ten minutes before its end.
RECORD = Batch(
    results=[
        good("mail.smtp", -1, took_s=9.0),
        *(good("mail.smtp", s, took_s=(s + 1) / 1000) for s in range(100)),
        bad("mail.smtp", 630, Fault.REFUSED, detail="connection refused"),
        blind("mail.smtp", 1500),
        echoes(5, 10, 12, 30),
        echoes(15, None, 20, 40),
        good("mail.smtp", 3600, took_s=9.0),
    ],
    changes=[
        change("mail.smtp", UP, -3600),
        change("mail.imaps", UP, -3600),
        change("carrier-vnpt.ping", UP, -3600),
        change("carrier-vnpt.dns", DOWN, -1800, earliest=-1830, fault="timeout", detail="no answer within 10 s"),
        change("references.gateway", UP, -3600),
        change("mail.smtp", DOWN, 600, earliest=570, fault="refused", detail="=cmd|'/c calc'!A1"),
        change("mail.smtp", UP, 900, earliest=890),
        change("mail.imaps", SLOW, 1800),
        change("carrier-vnpt.ping", DOWN, 2700.5, earliest=2690.25, fault="timeout", detail="3 of 3 echoes lost"),
        change("carrier-vnpt.ping", UP, 2760.75, earliest=2755.25),
    ],
    gaps=[gap("mail.smtp", 1440, 1800, "local"), gap("mail.imaps", 1440, 1620, "own-fault")],
    incidents={
        1: incident(1, "carrier-vnpt", -1800, ended=-60, state=DOWN),
        2: incident(2, "mail", 600, ended=900),
        3: incident(3, "own-fault", 1440, state=State.UNKNOWN, parent=None, told=False, detail="far"),
    },
    slots=[SlotCount("mail.smtp", at(0), done=118, late=1, skipped=2, lost=3)],
)


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")

    async def live() -> None:
        journal = await Journal.open(folder, SITE)
        await journal.begin_run(at(-3600), "d" * 64, "0.1.0", "site: {}\n")
        await journal.commit(RECORD, at(2900))
        await journal.end_run(at(3000))  # nothing is known after that
        await journal.close()

    asyncio.run(live())
    return folder


def document(state_dir: Path, of: Plan = PROVINCE) -> dict[str, Any]:
    with open_history(state_dir, SITE) as history:
        return as_json(gather(of, history, HOUR, "Giao thừa Đinh Mùi"))


@pytest.fixture(scope="module")
def figures(state_dir: Path) -> dict[str, Any]:
    return document(state_dir)


def test_the_head_says_whose_figures_of_which_period_by_which_configuration(figures: dict[str, Any]) -> None:
    assert {k: v for k, v in figures.items() if k not in ("services", "references", "incidents")} == {
        "site": {"id": "lang-son", "name": "Sở Thông tin và Truyền thông tỉnh Lạng Sơn"},
        "title": "Giao thừa Đinh Mùi",
        "from": "2027-02-06T00:00:00.000+07:00",
        "to": "2027-02-06T01:00:00.000+07:00",
        "seconds": 3600.0,
        "configuration": "d" * 64,
        "summed": [],
        "maintenance": [],
        "corrections": [],
        "corrections_until": None,
    }


def test_a_check_with_an_outage_a_gap_and_a_daemon_that_stopped(figures: dict[str, Any]) -> None:
    assert figures["services"][0]["checks"][0] == {
        "id": "mail.smtp",
        "name": "Phép kiểm tra smtp",
        "adjusted": None,
        "probe": "tcp",
        "path": "",
        # 600 s unknown after the daemon's end and 360 s in the gap; 300 s down; the rest up.
        "seconds": {
            "unknown": 960.0,
            "up": 2340.0,
            "degraded": 0.0,
            "congested": 0.0,
            "down": 300.0,
            "maintenance": 0.0,
        },
        "availability": {"value": 0.886364, "min": 0.604277, "max": 0.919444},
        "coverage": 0.733333,
        "enough": False,
        "resolution_s": 30.0,
        "longest_outage_s": 300.0,
        "outages": [
            {
                "begin": "2027-02-06T00:10:00.000+07:00",
                "end": "2027-02-06T00:15:00.000+07:00",
                "seconds": 300.0,
                "begin_earliest": "2027-02-06T00:09:30.000+07:00",
                "end_earliest": "2027-02-06T00:14:50.000+07:00",
                "begin_unseen": False,
                "end_unseen": False,
                "fault": "refused",
                "detail": "=cmd|'/c calc'!A1",
            }
        ],
        "slots": {"done": 118, "late": 1, "skipped": 2, "lost": 3},
        "results": {
            "good": 100,
            "bad": 1,
            "not_measured": 1,
            "response_s": {"p50": 0.05, "p90": 0.09, "p95": 0.095, "p99": 0.099, "max": 0.1},
            "echoes": {"sent": 0, "lost": 0},
        },
    }


def test_the_bounds_hold_the_unobserved_the_edges_of_outages_and_what_lies_between_looks(
    figures: dict[str, Any],
) -> None:
    smtp = figures["services"][0]["checks"][0]
    usable_s, unknown_s, before_s, after_s = 2340.0, 960.0, 30.0, 10.0
    hidden_s = 30.0 * 88 * (1 - 0.01 ** (1 / 88))  # 2640 s observed, a look each 30 s
    assert smtp["availability"]["min"] == round((usable_s - before_s - hidden_s) / 3600, 6)
    assert smtp["availability"]["max"] == round((usable_s + unknown_s + after_s) / 3600, 6)


def test_a_service_that_needs_all_its_checks(figures: dict[str, Any]) -> None:
    mail = {k: v for k, v in figures["services"][0].items() if k not in ("checks", "outages")}
    assert mail == {
        "id": "mail",
        "adjusted": None,
        "name": "Thư điện tử công vụ",
        "kind": "mail",
        # Either check unseen (1440 to 1800) or the daemon gone (from 3000) leaves it unknown.
        "seconds": {
            "unknown": 960.0,
            "up": 1140.0,
            "degraded": 1200.0,
            "congested": 0.0,
            "down": 300.0,
            "maintenance": 0.0,
        },
        "availability": {"value": 0.886364, "min": 0.568794, "max": 0.919444},
        "coverage": 0.733333,
        "enough": False,
        "resolution_s": 60.0,  # that of its slowest check
        "longest_outage_s": 300.0,
    }
    assert figures["services"][0]["outages"] == figures["services"][0]["checks"][0]["outages"]


def test_a_service_of_which_one_check_is_enough(figures: dict[str, Any]) -> None:
    carrier = figures["services"][1]
    assert carrier["seconds"] == {
        "unknown": 600.0,
        "up": 0.0,
        "degraded": 2939.75,
        "congested": 0.0,
        "down": 60.25,
        "maintenance": 0.0,
    }
    assert carrier["outages"] == [
        {
            "begin": "2027-02-06T00:45:00.500+07:00",
            "end": "2027-02-06T00:46:00.750+07:00",
            "seconds": 60.25,
            "begin_earliest": "2027-02-06T00:44:50.250+07:00",
            "end_earliest": "2027-02-06T00:45:55.250+07:00",
            "begin_unseen": False,
            "end_unseen": False,
            "fault": "timeout",
            "detail": "3 of 3 echoes lost",
        }
    ]


def test_a_check_down_from_before_the_period_to_the_end_of_the_record(figures: dict[str, Any]) -> None:
    dns = figures["services"][1]["checks"][1]
    assert dns["availability"] == {"value": 0.0, "min": 0.0, "max": 0.166667}
    (outage,) = dns["outages"]
    assert (outage["begin"], outage["begin_unseen"]) == ("2027-02-06T00:00:00.000+07:00", True)
    assert (outage["end"], outage["end_unseen"]) == ("2027-02-06T00:50:00.000+07:00", True)
    assert outage["detail"] == "no answer within 10 s"


def test_pings_are_told_by_their_median_echo_and_by_what_was_lost(figures: dict[str, Any]) -> None:
    ping = figures["services"][1]["checks"][0]
    assert ping["path"] == "vnpt"
    assert ping["results"] == {
        "good": 2,
        "bad": 0,
        "not_measured": 0,
        "response_s": {"p50": 0.012, "p90": 0.02, "p95": 0.02, "p99": 0.02, "max": 0.02},
        "echoes": {"sent": 6, "lost": 1},
    }


def test_a_check_without_results_has_no_response_times(figures: dict[str, Any]) -> None:
    (gateway,) = figures["references"]
    assert gateway["id"] == "references.gateway"
    assert gateway["results"]["response_s"] == {"p50": None, "p90": None, "p95": None, "p99": None, "max": None}
    assert gateway["slots"] == {"done": 0, "late": 0, "skipped": 0, "lost": 0}
    assert gateway["seconds"]["up"] == 3000.0


def test_incidents_are_those_of_the_period(figures: dict[str, Any]) -> None:
    assert figures["incidents"] == [
        {
            "id": 2,
            "subject": "mail",
            "name": "Thư điện tử công vụ",
            "worst": "down",
            "begin": "2027-02-06T00:10:00.000+07:00",
            "confirmed": "2027-02-06T00:10:10.000+07:00",
            "end": "2027-02-06T00:15:00.000+07:00",
            "follows_from": None,
            "told": True,
            "withdrawn": False,
            "cause": None,
            "cause_subject": None,
            "certainty": None,
            "members": [],
        },
        {
            "id": 3,
            "subject": "own-fault",
            "name": "Trạm đo (đường truyền Internet)",
            "worst": "unknown",
            "begin": "2027-02-06T00:24:00.000+07:00",
            "confirmed": "2027-02-06T00:24:10.000+07:00",
            "end": None,
            "follows_from": None,
            "told": False,
            "withdrawn": False,
            "cause": None,
            "cause_subject": None,
            "certainty": None,
            "members": [],
        },
    ]


def test_the_seconds_of_every_line_sum_to_the_period(figures: dict[str, Any]) -> None:
    lines = [*figures["services"], *(c for s in figures["services"] for c in s["checks"]), *figures["references"]]
    assert len(lines) == 7
    assert all(sum(line["seconds"].values()) == figures["seconds"] for line in lines)


def test_a_journal_without_any_run_leaves_all_unknown(tmp_path: Path) -> None:
    async def make() -> None:
        await (await Journal.open(tmp_path, SITE)).close()

    asyncio.run(make())
    for line in document(tmp_path)["services"]:
        assert line["seconds"]["unknown"] == 3600.0
        assert line["availability"] == {"value": None, "min": 0.0, "max": 1.0}
        assert (line["coverage"], line["outages"]) == (0.0, [])


def test_a_check_new_in_the_configuration_is_unknown_in_the_past(state_dir: Path) -> None:
    later = plan(service("portal", "home"))
    (portal,) = document(state_dir, later)["services"]
    assert portal["seconds"]["unknown"] == 3600.0


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, None),
        ([7.0], 0.5, 7.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        ([float(i) for i in range(1, 11)], 0.9, 9.0),
        ([float(i) for i in range(1, 11)], 0.95, 10.0),
        ([float(i) for i in range(1, 1001)], 0.99, 990.0),
    ],
)
def test_a_percentile_is_one_of_the_values(values: list[float], share: float, expected: float | None) -> None:
    assert percentile(values, share) == expected


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_a_percentile_is_the_least_value_that_its_share_does_not_exceed(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in values
    assert sum(v <= found for v in values) / len(values) >= share - 1e-12
    assert sum(v < found for v in values) / len(values) < share


# Files.


@pytest.fixture
def written(state_dir: Path, tmp_path: Path) -> dict[str, bytes]:
    return write(state_dir, tmp_path / "out")


def write(state_dir: Path, folder: Path, *formats: str) -> dict[str, bytes]:
    with open_history(state_dir, SITE) as history:
        found = gather(PROVINCE, history, HOUR, "Giao thừa Đinh Mùi")
    paths = files.write(found, folder, formats or ("csv", "json"))
    assert paths == sorted(folder.iterdir())
    return {p.name: p.read_bytes() for p in paths}


def table(content: bytes) -> list[dict[str, str]]:
    """Read a table as a spreadsheet does."""
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_every_format_writes_its_files_and_nothing_else(written: dict[str, bytes]) -> None:
    assert sorted(written) == ["checks.csv", "figures.json", "incidents.csv", "outages.csv", "services.csv"]


def test_a_format_alone_writes_only_its_own(state_dir: Path, tmp_path: Path) -> None:
    assert list(write(state_dir, tmp_path / "out", "json")) == ["figures.json"]


def test_the_document_is_the_figures_in_readable_utf_8(written: dict[str, bytes], figures: dict[str, Any]) -> None:
    assert json.loads(written["figures.json"]) == figures
    assert "Thư điện tử công vụ" in written["figures.json"].decode()
    assert written["figures.json"].endswith(b"}\n")


def test_tables_begin_with_the_mark_of_utf_8_and_their_lines_end_as_rfc_4180_says(written: dict[str, bytes]) -> None:
    for name, content in written.items():
        if name.endswith(".csv"):
            assert content.startswith(b"\xef\xbb\xbf")
            assert not content.startswith(b"\xef\xbb\xbf\xef\xbb\xbf")
            assert content.count(b"\n") == content.count(b"\r\n") == len(table(content)) + 1


def test_the_table_of_services(written: dict[str, bytes]) -> None:
    assert table(written["services.csv"])[0] == {
        "id": "mail",
        "name": "Thư điện tử công vụ",
        "kind": "mail",
        "unknown_s": "960.0",
        "up_s": "1140.0",
        "degraded_s": "1200.0",
        "congested_s": "0.0",
        "down_s": "300.0",
        "maintenance_s": "0.0",
        "availability": "0.886364",
        "availability_min": "0.568794",
        "availability_max": "0.919444",
        "coverage": "0.733333",
        "enough": "False",
        "resolution_s": "60.0",
        "outages": "1",
        "longest_outage_s": "300.0",
    }


def test_the_table_of_checks_holds_every_check_and_reference(written: dict[str, bytes]) -> None:
    checks = {row["id"]: row for row in table(written["checks.csv"])}
    assert list(checks) == [
        "mail.smtp",
        "mail.imaps",
        "carrier-vnpt.ping",
        "carrier-vnpt.dns",
        "references.gateway",
    ]
    assert checks["mail.smtp"]["response_p95_s"] == "0.095"
    assert checks["mail.smtp"]["slots_skipped"] == "2"
    assert checks["mail.imaps"]["response_p95_s"] == ""
    assert checks["carrier-vnpt.ping"]["echoes_lost"] == "1"
    assert checks["carrier-vnpt.ping"]["path"] == "vnpt"


def test_words_from_the_network_are_no_formulas(written: dict[str, bytes]) -> None:
    first = table(written["outages.csv"])[0]
    assert (first["id"], first["begin"]) == ("mail", "2027-02-06T00:10:00.000+07:00")
    assert first["detail"] == "'=cmd|'/c calc'!A1"


@pytest.mark.parametrize("text", ["=1+1", "+84", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1"])
def test_a_text_that_begins_like_a_formula_is_quoted(text: str) -> None:
    assert files._safe(text) == f"'{text}"


@pytest.mark.parametrize("value", ["", "Thư", "1=1", " =", -1.5, 0, None, True])
def test_other_values_stay_as_they_are(value: object) -> None:
    assert files._safe(value) is value


def test_the_table_of_incidents(written: dict[str, bytes]) -> None:
    assert [(r["id"], r["name"], r["end"], r["told"]) for r in table(written["incidents.csv"])] == [
        ("2", "Thư điện tử công vụ", "2027-02-06T00:15:00.000+07:00", "True"),
        ("3", "Trạm đo (đường truyền Internet)", "", "False"),
    ]


def test_a_period_without_outages_still_has_its_tables_heads(tmp_path: Path) -> None:
    async def make() -> None:
        await (await Journal.open(tmp_path / "state", SITE)).close()

    asyncio.run(make())
    found = write(tmp_path / "state", tmp_path / "out")
    assert found["outages.csv"].decode("utf-8-sig") == (
        "id,name,begin,end,seconds,begin_earliest,end_earliest,begin_unseen,end_unseen,fault,detail\r\n"
    )
    assert table(found["incidents.csv"]) == []


def test_the_same_journal_gives_the_same_files_to_the_byte(state_dir: Path, tmp_path: Path) -> None:
    first = write(state_dir, tmp_path / "one")
    assert write(state_dir, tmp_path / "two") == first
    assert write(state_dir, tmp_path / "one") == first  # written over, nothing left lying about


def test_a_folder_that_cannot_be_made_is_told(state_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(FileExistsError):
        write(state_dir, tmp_path / "out")
