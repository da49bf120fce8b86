"""One run of checks: every probe once, many at a time, with the state that one run can prove."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from config.plan import Language, Target
from monitor.model import State
from probes.base import Fault, Measurement, ProbeError, Reading, Run
from tests.monitor.builders import check, plan, reference, service
from tests.servers import LOOPBACK
from thongsuot import once
from thongsuot.once import AT_ONCE, Outcome, UsageError, choose, parse_probe, run_once

PLAN = plan(service("mail", "smtp", "imap"), service("portal", "web"), references=[reference("gateway", near=True)])


def reading(fault: Fault | None, detail: str = "") -> Reading:
    return Reading(fault, detail, 0.01)


@pytest.mark.parametrize(
    ("only", "found"),
    [
        (None, ["references.gateway", "mail.smtp", "mail.imap", "portal.web"]),
        ("mail", ["mail.smtp", "mail.imap"]),
        ("mail.imap", ["mail.imap"]),
        ("references", ["references.gateway"]),
    ],
)
def test_only_names_a_service_or_a_check(only: str | None, found: list[str]) -> None:
    assert [t.id for t in choose(PLAN, only)] == found


@pytest.mark.parametrize("only", ["", "smtp", "mail.", "mail.pop3", "Mail"])
def test_only_what_is_not_there_is_refused_with_the_names_that_are(only: str) -> None:
    with pytest.raises(UsageError, match="mail, portal, references"):
        choose(PLAN, only)


@pytest.mark.parametrize(
    ("fault", "state"),
    [(None, State.UP), (Fault.LOCAL, State.UNKNOWN), (Fault.INTERNAL, State.UNKNOWN)]
    + [(f, State.DOWN) for f in Fault if f not in (Fault.LOCAL, Fault.INTERNAL)],
)
def test_what_we_could_not_measure_is_unknown_and_not_down(fault: Fault | None, state: State) -> None:
    assert Outcome(check("mail.smtp"), reading(fault)).state is state


def counting(most: list[int]) -> Run:
    running = 0

    async def run(_: object, __: Measurement) -> None:
        nonlocal running
        running += 1
        most.append(running)
        await asyncio.sleep(0.002)
        running -= 1

    return run


async def test_many_run_together_but_not_all_and_outcomes_keep_the_order() -> None:
    most: list[int] = []
    run = counting(most)
    targets: list[Target] = [check(f"portal.page{n}", run=run) for n in range(AT_ONCE * 3)]

    outcomes = await run_once(targets)

    assert [o.target for o in outcomes] == targets
    assert max(most) == AT_ONCE
    assert {o.state for o in outcomes} == {State.UP}


async def test_a_failing_probe_is_an_outcome_like_any_other() -> None:
    async def fail(_: object, __: Measurement) -> None:
        raise ProbeError(Fault.CONTENT, "status 503, expected 200")

    async def hang(_: object, __: Measurement) -> None:
        await asyncio.sleep(60)

    targets = [check("portal.a", run=fail), check("portal.b", run=hang, timeout_s=0.02)]
    outcomes = await run_once(targets)

    assert [o.reading.fault for o in outcomes] == [Fault.CONTENT, Fault.TIMEOUT]
    assert once.as_json(outcomes[0])["detail"] == "status 503, expected 200"


def test_the_keys_of_a_probe_are_those_of_a_check_with_its_uplink_and_time_out() -> None:
    words = [f"host={LOOPBACK}", "port=25", "timeout=500ms", "source=192.0.2.1", "interface=eth9"]
    found, settings, timeout_s, path = parse_probe("tcp", words)

    assert (found.kind, timeout_s) == ("tcp", 0.5)
    assert settings.endpoint() == LOOPBACK
    assert path is not None
    assert (path.source, path.interface) == ("192.0.2.1", "eth9")


def test_a_dot_reaches_inside_and_lists_and_texts_are_yaml() -> None:
    words = ["url=http://a.vn/", "expect.status=[200, 204]", "expect.body='Đăng nhập'", "method=GET"]
    _, settings, _, path = parse_probe("http", words)

    assert settings.model_dump()["expect"]["status"] == ("200", "204")
    assert path is None


def test_a_name_in_brackets_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(once, "Console", lambda: Console(file=shown, width=200))
    outcome = Outcome(check("mail.smtp"), reading(Fault.CONTENT, "got [bold]x[/bold] [/red]"))

    once.print_table([outcome], {"mail": "[red]Thư[/red]"}, Language.VI)
    once.print_reading(outcome.reading, Language.EN)

    assert "[red]Thư[/red]" in shown.getvalue()
    assert shown.getvalue().count("[bold]x[/bold] [/red]") == 2


def test_times_are_written_as_the_language_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for lang, time in ((Language.VI, "12,5 ms"), (Language.EN, "12.5 ms")):
        shown = io.StringIO()
        monkeypatch.setattr(once, "Console", lambda shown=shown: Console(file=shown, width=200))
        once.print_table([Outcome(check("mail.smtp"), Reading(None, "", 0.0125))], {}, lang)
        assert time in shown.getvalue()


def test_of_echoes_the_way_there_and_back_is_shown_and_not_how_long_the_round_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(once, "Console", lambda: Console(file=shown, width=200))
    echoes = Reading(None, "", 0.2013, rtts_s=(0.004, None, 0.008))
    once.print_table([Outcome(check("references.gateway"), echoes)], {}, Language.VI)
    assert "6,0 ms" in shown.getvalue()
    assert "Mốc tham chiếu" in shown.getvalue()


def test_a_narrow_screen_cuts_off_nothing_of_what_the_server_said(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(once, "Console", lambda: Console(file=shown, width=60))
    once.print_table([Outcome(check("mail.imap"), reading(Fault.CONTENT, "[AUTHENTICATIONFAILED]"))], {}, Language.VI)
    assert "…" not in shown.getvalue()


def test_the_usual_time_out_is_one_in_which_a_run_with_these_settings_can_end() -> None:
    keys = ["send.host=a", "find.host=a", "find.username=u", "find.password_env=P", "sender=a@b.vn", "recipient=a@b.vn"]
    assert parse_probe("mailflow", keys)[2] == 60
    assert parse_probe("mailflow", [*keys, "within=2m"])[2] == 130
    assert parse_probe("mailflow", [*keys, "within=2m", "timeout=5s"])[2] == 5
