"""The command `thongsuot drill`: on the demo province, or with the duty team's own configuration in simulated time."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from config.plan import Language
from exporters import text, text_drill

WELL, NOT_WELL, WRONG_USE, OWN_FAULT, REFUSED = 0, 1, 2, 70, 78
FAULTS = ("mail", "portal", "names", "slow", "carrier", "centre", "uplink")

HELP = """Practise before it matters: inject faults, and see what is detected, when, and who is told.

Without CONFIG the demo province on loopback is broken part by part, for three minutes at most; --only chooses parts
(mail, portal, names, slow, carrier, centre, uplink). With CONFIG and --scenario the faults of a file happen to your
own configuration in simulated time, at once: nothing is measured, no service is touched, the state directory is
neither read nor written. Only --send sends anything: the letters of the drill, each marked [DIỄN TẬP].

Exit code 0 when everything was detected and told in time and nothing else was; else 1.
"""


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _end(code: int, message: str = "") -> NoReturn:
    if message:
        _say(message)
    raise typer.Exit(code)


def drill_command(  # noqa: PLR0913, PLR0917  the command line's own options
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="Your own; else the demo province.")] = None,
    scenario: Annotated[Path | None, typer.Option("--scenario", help="With CONFIG: what happens, a YAML file.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="Let the scenario begin at this local time instead.")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Without CONFIG: this fault alone; may be given several times.")
    ] = None,
    send: Annotated[
        bool, typer.Option("--send", help="With CONFIG: really send the letters, marked as a drill.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --send: do not ask; for scripts.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Other answers of the same scenario.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Figures for machines on standard output.")] = False,
    lang: Annotated[Language | None, typer.Option("--lang", help="Language for people: vi or en.")] = None,
) -> None:
    """Inject faults, and print what was detected, when, and who was told."""
    words = lang or ctx.obj
    if config is None:
        if scenario or at or send:
            _end(WRONG_USE, "--scenario, --at and --send need CONFIG")
        raise typer.Exit(_demo(only or [], words or Language.VI, as_json=as_json))
    if scenario is None or only:
        _end(WRONG_USE, "with CONFIG give --scenario FILE, and no --only")
    from thongsuot.drill_scenario_command import Asked, run

    asked = Asked(config, scenario, at, seed, send=send, yes=yes, as_json=as_json)
    raise typer.Exit(run(asked, words))


def _demo(only: list[str], lang: Language, *, as_json: bool) -> int:
    from thongsuot import drill_demo, drill_page
    from thongsuot.daemon import StartError

    if unknown := [name for name in only if name not in FAULTS]:
        _end(WRONG_USE, f"--only {' '.join(unknown)}: expected some of {', '.join(FAULTS)}")
    logging.basicConfig(stream=sys.stderr, level="ERROR", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        outcome = asyncio.run(drill_demo.drill_demo(only, _say, lang))
    except drill_demo.DrillError as exc:
        _end(NOT_WELL, str(exc))
    except (StartError, OSError) as exc:
        _end(OWN_FAULT, str(exc))
    if as_json:
        found = drill_page.findings_json(outcome.plan, outcome.findings, outcome.words)
        sys.stdout.write(json.dumps({**found, "untried": outcome.untried}, ensure_ascii=False) + "\n")
    else:
        drill_page.show(outcome.plan, outcome.findings, lang, drill_page.make_console())
        if outcome.untried:
            limit = text.duration_words(drill_demo.LIMIT_S, lang)
            _say(text_drill.label("cut-short", lang, limit=limit, count=outcome.untried))
    return WELL if outcome.findings and not outcome.untried and all(f.passed for f in outcome.findings) else NOT_WELL
