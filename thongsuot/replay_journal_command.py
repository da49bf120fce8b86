"""The command `thongsuot replay journal`: what would have been told with other settings."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from config import loader
from config.loader import ConfigError
from config.plan import Language, Plan
from monitor.journal import JournalBusyError, JournalError
from probes.base import parse_duration, utc_now
from thongsuot.replay import ReplayError, parse_settings

NOT_WELL, WRONG_USE, OWN_FAULT, REFUSED = 1, 2, 70, 78

HELP = """What would have been told with other settings?

Recorded results (journal and sealed evidence) go once more through the daemon's own judges with the configuration
given, and what would have been told is set beside what was. Nothing is measured, nothing is sent, and the state
directory is only read.

Limits: an answer that was never asked for cannot be judged. Intervals, time-outs and peaks are those of the
configuration that ran. More rounds or shorter rechecks may want fast rechecks that did not happen; they are counted,
and words that hang on them are marked: they might have come sooner, or not at all. What a probe itself held against
an answer (a status, a text, a share of loss) stays as it was. Checks are known by SERVICE.CHECK; one that was called
otherwise then has no results. Where the clock was set, that time counts as not observed.
"""


def _end(code: int, message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _load(config: Path, state_dir: Path | None) -> Plan:
    try:
        plan = loader.load(config)
    except ConfigError as exc:
        _end(REFUSED, str(exc))
    return replace(plan, state_dir=state_dir) if state_dir is not None else plan


def replay_journal_command(  # noqa: PLR0913, PLR0917  the command line's own options
    ctx: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration to judge by, a YAML file.")],
    start: Annotated[str | None, typer.Option("--from", help="Local date or time; with --to.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Local date (to its end) or time.")] = None,
    event: Annotated[str | None, typer.Option("--event", help="An event of the configuration.")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="[SERVICE[.CHECK].]KEY=VALUE",
            help="bad_rounds, good_rounds, recheck_after, slow_over: of all checks, a service's, or one.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Of the judge of congestion, such as rise=9ms."),
    ] = None,
    warm_up: Annotated[
        str, typer.Option("--warm-up", help="How much before the period is gone through, for states and floors.")
    ] = "1d",
    state_dir: Annotated[Path | None, typer.Option("--state-dir", help="Instead of store.dir.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Figures for machines on standard output.")] = False,
    lang: Annotated[Language | None, typer.Option("--lang", help="Language for people: vi or en.")] = None,
) -> None:
    """Judge a recorded period again, and print what would have been told beside what was."""
    from thongsuot import replay_journal, replay_page, reports  # the libraries behind them are large

    plan = _load(config, state_dir)
    try:
        window, _ = reports.choose_period(plan, event, start, end, utc_now())
        overrides = replay_journal.Overrides(
            replay_journal.parse_policies(policy or [], plan),
            parse_settings(settings) if settings else None,
            timedelta(seconds=_seconds(warm_up)),
        )
        outcome = asyncio.run(replay_journal.replay(plan, overrides, window, config))
    except (reports.UsageError, ReplayError) as exc:
        _end(WRONG_USE, str(exc))
    except (JournalError, JournalBusyError, OSError) as exc:
        _end(OWN_FAULT, str(exc))
    if as_json:
        _print_json(replay_page.as_json(outcome))
    else:
        replay_page.show(outcome, lang or ctx.obj or plan.site.language)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as exc:
        raise ReplayError(f"--warm-up {text}: {exc}") from exc


def _print_json(figures: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(figures, ensure_ascii=False) + "\n")
