"""The commands `thongsuot maintenance` and `thongsuot correct`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from config import loader
from config.loader import ConfigError
from config.plan import Language, Plan
from monitor.journal import JournalError
from probes.base import utc_now
from thongsuot import records
from thongsuot.reports import UsageError

T = TypeVar("T")
WRONG_USE, OWN_FAULT, REFUSED = 2, 70, 78

maintenance_app = typer.Typer(no_args_is_help=True, help="Announced work: no alarm from it, and no down time.")
correct_app = typer.Typer(no_args_is_help=True, help="Corrections of figures, which a second person approves.")

ConfigArg = Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration, a YAML file.")]
SubjectArg = Annotated[str, typer.Argument(metavar="SERVICE[.CHECK]", help="A service, or one of its checks.")]
NumberArg = Annotated[int, typer.Argument(metavar="ID", help="Its number, as `list` gives it.")]
FromOption = Annotated[str, typer.Option("--from", help="Local date or time.")]
ToOption = Annotated[str, typer.Option("--to", help="Local date (to its end) or time.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why.")]
ByOption = Annotated[str, typer.Option("--by", metavar="NAME", help="Who says so.")]
StateDirOption = Annotated[Path | None, typer.Option("--state-dir", help="Instead of store.dir.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Figures for machines on standard output.")]


def _plan(config: Path, state_dir: Path | None) -> Plan:
    try:
        plan = loader.load(config)
    except ConfigError as exc:
        _say(str(exc))
        raise typer.Exit(REFUSED) from exc
    return replace(plan, state_dir=state_dir) if state_dir is not None else plan


def _say(text: str) -> None:
    if text:
        typer.echo(text, err=True)


def _done(work: Callable[[], T]) -> T:
    """Do it, or end with what was wrong."""
    try:
        return work()
    except UsageError as exc:
        _say(str(exc))
        raise typer.Exit(WRONG_USE) from exc
    except JournalError as exc:
        _say(str(exc))
        raise typer.Exit(OWN_FAULT) from exc
    except OSError as exc:
        _say(f"{exc.filename}: {exc.strerror}")
        raise typer.Exit(OWN_FAULT) from exc


def _lang(ctx: typer.Context, plan: Plan) -> Language:
    return ctx.obj or plan.site.language


def _print(found: object) -> None:
    typer.echo(json.dumps(found, ensure_ascii=False))


@maintenance_app.command("add")
def maintenance_add(  # noqa: PLR0913, PLR0917  the command line's own options
    ctx: typer.Context,
    config: ConfigArg,
    subject: SubjectArg,
    start: FromOption,
    end: ToOption,
    reason: ReasonOption,
    by: ByOption,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Announce work before it starts; a running daemon takes it up within seconds."""
    plan, now = _plan(config, state_dir), utc_now()
    asked = records.Asked(subject, start, end, reason, by)
    made, warning = _done(lambda: records.add_work(plan, asked, now))
    if as_json:
        _print(records.work_json(made, now))
    _say(records.said(plan, "announced", made, _lang(ctx, plan)))
    _say(warning)


@maintenance_app.command("cancel")
def maintenance_cancel(  # noqa: PLR0913, PLR0917  the command line's own options
    ctx: typer.Context,
    config: ConfigArg,
    number: NumberArg,
    reason: ReasonOption,
    by: ByOption,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """End announced work now, or before it begins; what has passed of it stays on record."""
    plan, now = _plan(config, state_dir), utc_now()
    ended = _done(lambda: records.cancel_work(plan, number, reason, by, now))
    if as_json:
        _print(records.work_json(ended, now))
    _say(records.said(plan, "cancelled", ended, _lang(ctx, plan)))


@maintenance_app.command("list")
def maintenance_list(
    ctx: typer.Context, config: ConfigArg, state_dir: StateDirOption = None, as_json: JsonOption = False
) -> None:
    """List announced work: to come, under way, over, cancelled."""
    plan, now = _plan(config, state_dir), utc_now()
    found = _done(lambda: records.list_work(plan))
    if as_json:
        _print([records.work_json(a, now) for a in found])
    else:
        typer.echo("\n".join(records.work_lines(plan, found, now, _lang(ctx, plan))))


@correct_app.command("propose")
def correct_propose(  # noqa: PLR0913, PLR0917  the command line's own options
    ctx: typer.Context,
    config: ConfigArg,
    subject: SubjectArg,
    start: FromOption,
    end: ToOption,
    state: Annotated[str, typer.Option("--state", help="maintenance, up, degraded, congested, down or unknown.")],
    reason: ReasonOption,
    by: ByOption,
    evidence: Annotated[Path | None, typer.Option("--evidence", help="A file that shows it; its hash is kept.")] = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose that a span of the past was something else; it counts when a second person approves it."""
    plan, now = _plan(config, state_dir), utc_now()
    asked = records.Asked(subject, start, end, reason, by)
    made = _done(lambda: records.propose(plan, asked, state, evidence, now))
    if as_json:
        _print(records.correction_json(made))
    _say(records.said(plan, "proposed", made, _lang(ctx, plan)))


@correct_app.command("approve")
def correct_approve(  # noqa: PLR0913, PLR0917  the command line's own options
    ctx: typer.Context,
    config: ConfigArg,
    number: NumberArg,
    by: ByOption,
    reason: ReasonOption = "",
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve a correction by somebody else: reports give the corrected figures beside the measured ones."""
    _decide(ctx, _plan(config, state_dir), (number, reason, by), as_json=as_json, approved=True)


@correct_app.command("reject")
def correct_reject(  # noqa: PLR0913, PLR0917  the command line's own options
    ctx: typer.Context,
    config: ConfigArg,
    number: NumberArg,
    by: ByOption,
    reason: ReasonOption,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject a correction, or withdraw one's own."""
    _decide(ctx, _plan(config, state_dir), (number, reason, by), as_json=as_json, approved=False)


def _decide(ctx: typer.Context, plan: Plan, what: tuple[int, str, str], *, as_json: bool, approved: bool) -> None:
    found = _done(lambda: records.decide(plan, *what, utc_now(), approved=approved))
    if as_json:
        _print(records.correction_json(found))
    _say(records.said(plan, "approved" if approved else "rejected", found, _lang(ctx, plan)))


@correct_app.command("list")
def correct_list(
    ctx: typer.Context, config: ConfigArg, state_dir: StateDirOption = None, as_json: JsonOption = False
) -> None:
    """List corrections with what was decided on them."""
    plan = _plan(config, state_dir)
    found = _done(lambda: records.list_corrections(plan))
    if as_json:
        _print([records.correction_json(c) for c in found])
    else:
        typer.echo("\n".join(records.correction_lines(plan, found, _lang(ctx, plan))))
