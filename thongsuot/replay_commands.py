"""The commands that judge recorded and simulated figures; their output is for machines, one JSON object."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from probes.base import parse_duration
from thongsuot import replay, replay_outage, simulate
from thongsuot.replay import ReplayError
from thongsuot.replay_journal_command import HELP as JOURNAL_HELP
from thongsuot.replay_journal_command import replay_journal_command

WRONG_USE = 2

replay_app = typer.Typer(no_args_is_help=True, help="Recorded figures through the daemon's own judges.")
simulate_app = typer.Typer(no_args_is_help=True, help="The daemon's own code in simulated time.")

JsonOption = Annotated[bool, typer.Option("--json", help="Figures for machines (they are printed in any case).")]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option("--policy", metavar="KEY=VALUE", help="bad_rounds, good_rounds, recheck_after, packets, every."),
]


def _print(work: Callable[[], dict[str, Any]]) -> None:
    try:
        figures = work()
    except ReplayError as exc:
        typer.echo(str(exc), err=True)
        raise typer.Exit(WRONG_USE) from exc
    typer.echo(json.dumps(figures, ensure_ascii=False))


@replay_app.command("outage")
def replay_outage_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Lines epoch_seconds,ok: 1, 0 or -.")],
    policy: PolicyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge recorded results as the daemon would have: outages, and availability with its bounds."""
    _print(
        lambda: replay_outage.outage_json(replay_outage.read_results(file), replay_outage.parse_policy(policy or []))
    )


@replay_app.command("congestion")
def replay_congestion_command(
    rtt: Annotated[Path, typer.Option("--rtt", metavar="FILE", help="Lines epoch_seconds,rtt_ms.")],
    reference: Annotated[Path | None, typer.Option(metavar="FILE", help="The same, of our own side.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Other settings, such as rise=9ms.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge recorded round-trip times as the daemon would have: queues, changes of route, the detection limit."""
    _print(
        lambda: replay.congestion_json(
            replay.read_packets(rtt),
            replay.read_packets(reference) if reference else (),
            replay.parse_settings(settings or []),
        )
    )


replay_app.command("journal", help=JOURNAL_HELP)(replay_journal_command)


@simulate_app.command("outage")
def simulate_outage_command(  # noqa: PLR0913, PLR0917  the command line's own options
    truth: Annotated[Path, typer.Option("--truth", metavar="FILE", help="Lines start,end: down between them.")],
    every: Annotated[str, typer.Option("--every", help="Interval between rounds, such as 60s.")],
    loss: Annotated[float, typer.Option(help="Share of packets lost while the target is well.")] = 0.0,
    burst: Annotated[str, typer.Option(help="Mean length of a burst of loss; 0s loses each packet by itself.")] = "0s",
    seed: Annotated[int, typer.Option(help="The same seed loses the same packets.")] = 1,
    policy: PolicyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Probe a known truth in simulated time and print what `replay outage` prints."""

    def work() -> dict[str, Any]:
        try:
            every_s, burst_s = parse_duration(every), parse_duration(burst)
        except ValueError as exc:
            raise ReplayError(f"--every {every}, --burst {burst}: {exc}") from exc
        if every_s <= 0 or not 0 <= loss < 1:
            raise ReplayError("--every must be more than 0s, --loss from 0 to under 1")
        asked = replay_outage.parse_policy(policy or [])
        chance = simulate.Loss(loss, burst_s)
        return simulate.simulate_outage(simulate.read_truth(truth), every_s, asked, chance, seed)

    _print(work)
