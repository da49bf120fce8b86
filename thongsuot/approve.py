"""`thongsuot approve`: a person looks at what changed on a watched page, and accepts it.

The page is fetched by the check's own probe, with its login, redirects and certificates. What is approved is the very
page whose changes were shown.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Final

from config.plan import Language, Plan, Target
from exporters.text import local_time, percent_words
from exporters.text_approve import YES, label
from probes import http
from probes.approved_pages import Approval, ApprovedPages
from probes.base import ProbeError, Tools, measure, one_line
from probes.http_url import parse_url
from probes.page_watch import Change, Snapshot, compare, snapshot

ENTRIES: Final = 40  # of each sort that are shown
ENTRY_LIMIT: Final = 160  # characters of one
BY_LIMIT: Final = 100


class UsageError(Exception):
    """The words of the command line do not fit; the message says which and why."""


class NotWellError(Exception):
    """The page cannot be approved as it is; the message says why."""


@dataclass(frozen=True, slots=True)
class Look:
    """A page as it is now, beside the last approval."""

    target: Target
    page: str
    url: str
    now: Snapshot
    before: Approval | None
    change: Change
    tz: tzinfo  # of the site, for people
    unreadable: str  # why the last approval could not be read; empty when it could

    @property
    def same(self) -> bool:
        """Whether there is nothing to approve."""
        return self.before is not None and not self.change.ratio and not self.change.hosts_added


def find(plan: Plan, name: str) -> Target:
    """Return the check that is to be approved.

    Raises:
        UsageError: there is none of that name, or its page is not watched.
    """
    watched = {t.id: t for t in plan.targets() if isinstance(t.settings, http.Settings) and t.settings.content.watch}
    if name not in watched:
        known = ", ".join(sorted(watched)) or "none"
        raise UsageError(f"no check {name!r} watches a page (content: {{watch: true}}); those that do: {known}")
    return watched[name]


async def look(target: Target, state_dir: Path, tz: tzinfo) -> Look:
    """Fetch a page and compare it with the last approval.

    Raises:
        NotWellError: it cannot be fetched, or fails a rule other than the watch.
    """
    assert isinstance(target.settings, http.Settings)
    tools = Tools()
    pages = ApprovedPages.of(state_dir, keep_seen=True)
    tools.put(pages)
    try:
        reading = await measure(
            target.probe,
            target.settings,
            timeout_s=target.timeout_s,
            path=target.path,
            tools=tools,
            check=target.id,
        )
    finally:
        tools.close()
    if target.id not in pages.seen:
        raise NotWellError(reading.detail)
    page, url = pages.seen[target.id]
    try:
        return await asyncio.to_thread(_beside, target, (page, url), pages, tz)
    except ProbeError as exc:
        raise NotWellError(exc.detail) from exc


def _beside(target: Target, seen: tuple[str, str], pages: ApprovedPages, tz: tzinfo) -> Look:
    assert isinstance(target.settings, http.Settings)
    rules, (page, url) = target.settings.content, seen
    before, unreadable = None, ""
    try:
        before = pages.last(target.id)
    except (OSError, ValueError) as exc:
        unreadable = str(getattr(exc, "strerror", None) or exc)
    now = snapshot(page, parse_url(url), rules.lens)
    old = snapshot(before.page, parse_url(before.url), rules.lens) if before else Snapshot((), (), frozenset())
    return Look(target, page, url, now, before, compare(old, now), tz, unreadable)


def shown(found: Look, lang: Language) -> Iterator[str]:
    """Give the lines that tell a person what changed."""
    if found.unreadable:
        yield label("unreadable", lang, reason=found.unreadable)
    elif found.before is None:
        yield label("first", lang)
    else:
        why = one_line(found.before.why) or label("no-reason", lang)
        yield label("since", lang, at=local_time(found.before.at, found.tz), by=one_line(found.before.by), why=why)
    now, change = found.now, found.change
    url = parse_url(found.url).shown
    yield label("page", lang, url=url, lines=len(now.lines), links=len(now.links), hosts=len(now.hosts))
    if found.same:
        yield label("same", lang)
        return
    if found.before is not None:
        ratios = {"text": change.text_ratio, "links": change.link_ratio}
        yield label("ratio", lang, **{key: percent_words(ratio, lang, 1) for key, ratio in ratios.items()})
    for key, sign, entries in (
        ("hosts", "!", change.hosts_added),
        ("lines-removed", "-", change.lines_removed),
        ("lines-added", "+", change.lines_added),
        ("links-removed", "-", change.links_removed),
        ("links-added", "+", change.links_added),
    ):
        yield from _entries(label(key, lang), sign, entries, lang)


def _entries(title: str, sign: str, entries: Sequence[str], lang: Language) -> Iterator[str]:
    if entries:
        yield title
        yield from (f"  {sign} {one_line(entry, ENTRY_LIMIT)}" for entry in entries[:ENTRIES])
        if len(entries) > ENTRIES:
            yield "  " + label("more", lang, count=len(entries) - ENTRIES)


def as_json(found: Look) -> dict[str, Any]:
    """Return what changed for machines; lists are cut as for people."""
    change = {
        key: [one_line(v, ENTRY_LIMIT) for v in value[:ENTRIES]] if isinstance(value, tuple) else value
        for key, value in asdict(found.change).items()
    }
    approved = found.before.at.isoformat() if found.before else None
    return {"check": found.target.id, "same": found.same, "approved_at": approved, "sha256": found.now.sha256} | change


def asked(question: str) -> bool:
    """Ask the person at the keyboard; anything but a yes, the end of input included, is a no."""
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = sys.stdin.readline()
    return unicodedata.normalize("NFC", answer).strip().lower() in YES


def accept(found: Look, state_dir: Path, at: datetime, by: str, why: str) -> tuple[Path, Approval]:
    """Write the approval of what was shown and return its file and itself.

    Raises:
        OSError: it cannot be written.
    """
    approval = Approval(at, one_line(by, BY_LIMIT), one_line(why), found.url, found.now.sha256, found.page)
    return ApprovedPages.of(state_dir).add(found.target.id, approval), approval


def done(found: Look, approval: Approval, file: Path, lang: Language) -> str:
    """Return the sentence that ends an approval."""
    return label("done", lang, at=local_time(approval.at, found.tz), by=approval.by, file=file)


def who() -> str:
    """Return who is at the keyboard, as the system knows; behind sudo, who that was."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):
        return "?"
