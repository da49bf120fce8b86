"""Letters of a drill: as those of a real incident, and marked so plainly in every part that no reader can miss it.

Their ids are of their own: no letter of a drill ever joins the thread of a real incident, nor hides one that comes
later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape
from typing import Final

from config.plan import MailPlan, SitePlan
from exporters.mail import CHANNEL, write_message
from exporters.mail_folding import MAIL_POLICY
from exporters.mail_relay import DeliveryError, Envelope, hand_over, relay_name
from exporters.text import pick
from exporters.text_drill import MARK, NOTICE
from monitor.model import OutboxItem
from monitor.words import Told

HEADER: Final = "X-Thongsuot-Drill"
_KEPT: Final = ("From", "To", "Auto-Submitted", "X-Thongsuot-Event")
_BANNER: Final = "background:#000000;color:#ffff00;font-weight:bold;padding:12px;font-size:18px"


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one letter."""

    ok: bool
    detail: str  # of the server that took it, or of all that did not


def write_drill_message(word: Told, plan: MailPlan, site: SitePlan, at: datetime, run: str) -> bytes:
    """Write the letter of a word, marked as of a drill.

    Args:
        word: what would be told.
        plan: from whom and to whom.
        site: whose monitor this is.
        at: when it is written, for its date; the letter itself speaks of the drill's own time.
        run: a name of this drill, in the ids of its letters.
    """
    notice = replace(word.notice, retracted=tuple(replace(r, thread_id="") for r in word.notice.retracted))
    item = OutboxItem(0, CHANNEL, word.message_id, word.thread_id, notice, 0, word.created_at)
    real = message_from_bytes(write_message(item, plan, site, word.created_at), policy=MAIL_POLICY)
    assert isinstance(real, EmailMessage)  # as the policy makes them
    letter = EmailMessage(policy=MAIL_POLICY)
    for name in _KEPT:
        letter[name] = real[name]
    letter["Subject"] = f"{MARK} {real['Subject']}"
    letter["Date"] = format_datetime(at.astimezone(site.timezone))
    letter["Message-ID"] = _own(word.message_id, run)
    if word.thread_id != word.message_id:
        letter["In-Reply-To"] = letter["References"] = _own(word.thread_id, run)
    letter[HEADER] = "yes"
    warning = pick(NOTICE, site.language)
    text, html = real.get_body(("plain",)), real.get_body(("html",))
    assert text is not None and html is not None  # noqa: PT018  every letter of ours has both
    letter.set_content(f"{warning}\n\n{text.get_content()}\n{warning}\n", cte="quoted-printable")
    banner = f'<p style="{_BANNER}">{escape(warning)}</p>'
    marked = html.get_content().replace("<body", "\0<body", 1)
    before, _, body = marked.partition("\0")
    opening, _, rest = body.partition(">")
    whole = f"{before}{opening}>{banner}{rest}" if body else f"{banner}{marked}"
    letter.add_alternative(whole, subtype="html", cte="quoted-printable")
    return letter.as_bytes()


def _own(identity: str, run: str) -> str:
    return f"<drill-{run}-{identity.strip('<>')}>"


async def send_drill(letters: Sequence[bytes], plan: MailPlan) -> list[Sent]:
    """Hand the letters over, each to the first relay that takes it; nothing is tried again."""
    return [await _send(letter, plan) for letter in letters]


async def _send(letter: bytes, plan: MailPlan) -> Sent:
    notes = []
    for relay in plan.relays:
        try:
            taken = await hand_over(relay, Envelope(plan.sender, plan.to, letter))
        except DeliveryError as exc:
            notes.append(f"{relay_name(relay)}: {exc}")
            continue
        return Sent(True, f"{relay_name(relay)}: {taken.reply}")
    return Sent(False, "; ".join(notes))
