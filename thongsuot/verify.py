"""`thongsuot verify`: proves the evidence whole, or names what is missing or changed.

Needs nothing but the folder: files, chain and public key. A witness from outside makes it stronger: a key that was kept
elsewhere (`--key`), the head of the chain from a mail (`--head`), or the journal beside the evidence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from config.plan import Language
from monitor import sealed, segments, summaries, timestamps
from monitor.chain import (
    CHAIN_FILE,
    GENESIS,
    PUBLIC_KEY_FILE,
    ChainError,
    Link,
    fingerprint,
    load_public_key,
    parse_line,
    signature_fits,
)
from monitor.journal import FILE_NAME, JournalError
from monitor.rows import from_ms
from thongsuot.verify_lines import reached, when, whole
from thongsuot.verify_words import TEXTS

RECORD_S: Final = 60.0  # between the moment a record names and its writing: the journal may be busy
SETTLE_S: Final = 2.0  # a clock that is set back by less than this is being corrected, not turned back
HOUR: Final = timedelta(hours=1)
STAMP_SETTLE: Final = timedelta(minutes=5)  # a clock of ours that is ahead by less is no sign of anything
LOCAL: Final = ZoneInfo("Asia/Ho_Chi_Minh")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: its code, what it is about, and the values of its text."""

    code: str
    values: Mapping[str, Any]

    def text(self, language: Language) -> str:
        """Say it."""
        shown = {k: show_time(v, language) if k in ("at", "start", "end") else v for k, v in self.values.items()}
        return TEXTS[self.code][language is not Language.VI].format(**shown)


def show_time(text: str, language: Language) -> str:
    """Write a time of the chain as people read it: in Việt Nam by the clock there."""
    if language is not Language.VI:
        return text
    return datetime.fromisoformat(text).astimezone(LOCAL).strftime("%d/%m/%Y %H:%M:%S")


@dataclass(slots=True)
class Account:
    """What was found out about one site's evidence."""

    folder: Path
    site: str = ""
    key: str = ""
    lines: int = 0
    segments: int = 0
    deleted: int = 0
    summaries: int = 0
    rows: int = 0
    results: int = 0
    first: str = ""
    last: str = ""
    head: str = ""
    problems: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)

    def wrong(self, code: str, **values: Any) -> None:
        """Add a problem."""
        self.problems.append(Finding(code, values))

    def note(self, code: str, **values: Any) -> None:
        """Add what does not make the evidence less whole."""
        self.notes.append(Finding(code, values))

    def as_json(self) -> dict[str, Any]:
        """Return it for machines; texts in English."""
        names = ("site", "key", "lines", "segments", "deleted", "summaries", "rows", "results", "first", "last", "head")
        lists = {"problems": self.problems, "notes": self.notes}
        return {
            "ok": not self.problems,
            "folder": str(self.folder),
            **{name: getattr(self, name) for name in names},
            **{
                k: [{"code": f.code, "message": f.text(Language.EN), **_plain(f.values)} for f in v]
                for k, v in lists.items()
            },
        }


def verify(folder: Path, key: Path | None = None, head: str = "", tsa_ca: Path | None = None) -> list[Account]:
    """Examine all evidence in a folder: a state directory, its `evidence`, or one site's part of it.

    Args:
        folder: where to look.
        key: a public key kept elsewhere; without one, the key beside the evidence is believed.
        head: `number:sha256` (or the hash alone) of a line of the chain, as a mail told it.
        tsa_ca: certificates that time stamps must lead to; without them, who signed is not checked.

    Raises:
        ChainError: the key or the certificates that were given cannot be read.
    """
    given = load_public_key(key) if key else None
    try:
        roots = timestamps.load_roots(tsa_ca) if tsa_ca else None
    except timestamps.StampError as exc:
        raise ChainError(str(exc)) from exc
    places = list(_places(folder))
    if not places:
        account = Account(folder)
        account.wrong("no-evidence", file=str(folder))
        return [account]
    return [_Examiner(place, given, head if len(places) == 1 else "", roots).examine() for place in places]


def _places(folder: Path) -> Iterator[Path]:
    if (folder / CHAIN_FILE).exists() or (folder / PUBLIC_KEY_FILE).exists():
        yield folder
        return
    for parent in (folder / "evidence", folder):
        found = [p for p in sorted(parent.iterdir()) if _is_place(p)] if parent.is_dir() else []
        if found:
            yield from found
            return


def _is_place(folder: Path) -> bool:
    return folder.is_dir() and (
        (folder / CHAIN_FILE).exists()
        or (folder / PUBLIC_KEY_FILE).exists()
        or any(folder.glob("[0-9]*/[0-9]*/[0-9]*/*.parquet"))
    )


class _Examiner:
    def __init__(
        self, folder: Path, given: Ed25519PublicKey | None, head: str, roots: Sequence[x509.Certificate] | None
    ) -> None:
        self.roots = roots
        self.account = Account(folder)
        self.folder = folder
        self.given = given
        self.witness = head
        self.links: dict[int, Link] = {}  # by line number of the file
        self.known: set[str] = set()  # files that the chain names
        self.gone: set[int] = set()  # numbers of segments that were deleted
        self.sealed: dict[str, tuple[datetime, Mapping[str, int]]] = {}  # by journal: when last, through which rows

    def examine(self) -> Account:
        account = self.account
        key = self._key()
        self._lines(key)
        self._deletions()
        for line, link in self.links.items():
            if link.is_segment:
                self._segment(line, link)
            elif link.is_summary:
                self._summary(line, link)
        self._times()
        self._stamps()
        self._strangers()
        self._witnesses()
        if self.links:
            account.head = self.links[max(self.links)].head
        return account

    # The chain.

    def _key(self) -> Ed25519PublicKey | None:
        file, account = self.folder / PUBLIC_KEY_FILE, self.account
        beside: Ed25519PublicKey | None = None
        try:
            beside = load_public_key(file)
        except ChainError as exc:
            account.wrong("no-key", why=str(exc))
        if beside is not None:
            pem = beside.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            if file.read_bytes() != pem:
                account.wrong("key-changed", file=PUBLIC_KEY_FILE)
            if self.given is not None and fingerprint(beside) != fingerprint(self.given):
                found, expected = fingerprint(beside), fingerprint(self.given)
                account.wrong("other-key", file=PUBLIC_KEY_FILE, found=found, expected=expected)
        key = self.given or beside
        account.key = fingerprint(key) if key else ""
        return key

    def _lines(self, key: Ed25519PublicKey | None) -> None:
        account = self.account
        try:
            raw = (self.folder / CHAIN_FILE).read_bytes().split(b"\n")
        except OSError:
            account.wrong("no-chain", file=CHAIN_FILE)
            return
        if raw.pop():
            account.wrong("line-unfinished")
        account.lines = len(raw)
        previous, expected = GENESIS, 1
        for line, data in enumerate(raw, 1):
            try:
                link = whole(parse_line(data.decode()))
            except (ChainError, UnicodeDecodeError) as exc:
                account.wrong("line-broken", line=line, why=str(exc))
                previous, expected = hashlib.sha256(data + b"\n").hexdigest(), expected + 1
                continue
            self.links[line] = link
            self._place_in_chain(line, link, previous, expected)
            self._signature(line, link, key)
            account.site = account.site or str(link.fields["site"])
            if link.fields["site"] != account.site:
                account.wrong("other-site", line=line, found=link.fields["site"])
            previous, expected = link.digest, link.number + 1

    def _place_in_chain(self, line: int, link: Link, previous: str, expected: int) -> None:
        if link.number > expected:
            self.account.wrong("lines-missing", first=expected, last=link.number - 1)
        elif link.number < expected:
            self.account.wrong("line-moved", line=line, number=link.number, expected=expected)
        if link.fields["previous"] != previous:
            self.account.wrong("link-broken", line=line)

    def _signature(self, line: int, link: Link, key: Ed25519PublicKey | None) -> None:
        if key is None or signature_fits(link.text, key):
            return
        if link.fields["key"] != fingerprint(key):
            self.account.wrong("other-signer", line=line, found=link.fields["key"])
        else:
            self.account.wrong("signature-wrong", line=line)

    # The files.

    def _segment(self, line: int, link: Link) -> None:
        account, name = self.account, str(link.fields["file"])
        self.known.add(name)
        account.segments += 1
        account.rows += int(link.fields["rows"])
        account.results += int(link.fields["results"])
        before = self.sealed.get(str(link.fields["journal"]))
        self.sealed[str(link.fields["journal"])] = (when(str(link.fields["sealed"])), reached(link))
        if link.number in self.gone:
            account.deleted += 1
            if (self.folder / name).exists():
                account.note("not-deleted", file=name)
            return
        if not self._is_unchanged(line, link):
            return
        self._content(line, link, self.folder / name)
        if before is not None:
            self._records(line, link, *before)

    def _is_unchanged(self, line: int, link: Link) -> bool:
        """Whether a file is there, and is the one that its line names."""
        account, name = self.account, str(link.fields["file"])
        if not Path(name).name.endswith(f"-{link.fields['sha256'][:12]}.parquet"):
            account.wrong("file-name", file=name, line=line)
        try:
            with (self.folder / name).open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            account.wrong("file-missing", file=name, line=line)
            return False
        if digest != link.fields["sha256"]:
            account.wrong("file-changed", file=name, line=line)
            return False
        return True

    def _records(self, line: int, link: Link, sealed_at: datetime, through: Mapping[str, int]) -> None:
        """Find what people put on record and dated back: an earlier segment would have it, had it been there then."""
        tables = {"announcement": "announcements", "correction": "corrections"}
        new = {k for k, table in tables.items() if reached(link).get(table, 0) > through.get(table, 0)}
        if not new:
            return
        with suppress(OSError):  # said of its content
            for kind, row in segments.read_records(self.folder / str(link.fields["file"]), new):
                if from_ms(row["at_ms"]) < sealed_at - timedelta(seconds=RECORD_S):
                    at = from_ms(row["at_ms"]).isoformat(timespec="milliseconds")
                    self.account.wrong("record-dated-back", kind=kind, id=row["id"], at=at, line=line)

    def _summary(self, line: int, link: Link) -> None:
        """Examine what stands for deleted segments: the file, and that it sums up those that its line names."""
        fields, account = link.fields, self.account
        self.known.add(str(fields["file"]))
        account.summaries += 1
        by_number = {n.number: n for n in self.links.values() if n.is_segment}
        for number, digest in fields["of"]:
            meant = by_number.get(number)
            if meant is None or meant.fields["sha256"] != digest or number >= link.number:
                account.wrong("summary-wrong", line=line, number=number)
        if not self._is_unchanged(line, link):
            return
        try:
            found = summaries.look(self.folder / str(fields["file"]))
        except OSError as exc:
            account.wrong("content", file=fields["file"], line=line, why=str(exc))
            return
        if (found.rows, found.of) != (fields["rows"], fields["of"]):
            account.wrong("content", file=fields["file"], line=line, why=f"{found}")

    def _deletions(self) -> None:
        by_number = {link.number: link for link in self.links.values()}
        bare = 0
        for line, link in self.links.items():
            summary = by_number.get(link.fields.get("summary", 0))
            summed = dict(summary.fields["of"]) if summary is not None and summary.is_summary else {}
            if "summary" in link.fields and not (summed and link.fields["summary"] < link.number):
                self.account.wrong("deletion-unsummed", line=line, number=link.fields["summary"])
            for entry in link.deleted:
                number, digest = entry["number"], entry["sha256"]
                meant = by_number.get(number)
                if meant is None or not meant.is_segment or meant.fields["sha256"] != digest or number >= link.number:
                    self.account.wrong("deletion-wrong", line=line, number=number)
                    continue
                self.gone.add(number)
                if summed and summed.get(number) != digest:
                    self.account.wrong("deletion-unsummed", line=line, number=number)
                bare += "summary" not in link.fields
        if bare:
            self.account.note("no-summary", count=bare)

    def _content(self, line: int, link: Link, file: Path) -> None:
        fields, account = link.fields, self.account
        try:
            found = segments.summary(file)
        except OSError as exc:
            account.wrong("content", file=fields["file"], line=line, why=str(exc))
            return
        said = (fields["rows"], fields["results"], fields["first"], fields["last"])
        if (found.rows, found.results, found.first, found.last) != said:
            account.wrong("content", file=fields["file"], line=line, why=f"{found}")
        for at, step_ms in found.clock_steps:
            if step_ms <= -1000 * SETTLE_S:
                account.wrong("clock-back", seconds=-step_ms / 1000, at=at, line=line)

    # Time.

    def _times(self) -> None:
        account = self.account
        sealed_at, until = "", ""
        holes: list[tuple[str, str]] = []
        for line, link in self.links.items():
            now = str(link.fields["sealed"])
            if sealed_at and when(now) < when(sealed_at) - timedelta(seconds=SETTLE_S):
                seconds = (when(sealed_at) - when(now)).total_seconds()
                account.wrong("clock-back", seconds=seconds, at=now, line=line)
            sealed_at = now
            if not link.is_segment:
                continue
            hour = str(link.fields["hour"])
            if until and when(hour) < when(until):
                account.wrong("time-order", at=hour, line=line)
            elif until and when(hour) > when(until):
                holes.append((until, hour))
            if when(now) < when(hour) + HOUR and not link.fields["simulated"]:
                account.wrong("time-order", at=hour, line=line)
            until = (when(hour) + HOUR).isoformat().replace("+00:00", "Z")
            account.first = min(account.first or link.fields["first"], link.fields["first"])
            account.last = max(account.last, link.fields["last"])
        for start, end in holes:
            account.note("not-covered", start=start, end=end)
        found = [link.fields for link in self.links.values() if link.is_segment]
        if count := sum(bool(f["simulated"]) for f in found):
            account.note("simulated", count=count)
        if late := sum(f["late"] for f in found):
            account.note("late", count=late)

    def _stamps(self) -> None:
        """Check the time stamps of others; a wrong one is a problem, for somebody made it."""
        account = self.account
        by_number = {link.number: link for link in self.links.values()}
        count = 0
        for token in timestamps.kept(self.folder):
            name, link = str(token.file.relative_to(self.folder)), by_number.get(token.number)
            self.known.add(name)
            if link is None:
                account.wrong("tail-cut", last=max(by_number, default=0), witness=name, number=token.number)
                continue
            try:
                at = timestamps.check(token.file.read_bytes(), link.text, self.roots)
            except (OSError, timestamps.StampError) as exc:
                account.wrong("stamp-wrong", file=name, number=token.number, why=str(exc))
                continue
            count += 1
            stamped = at.isoformat().replace("+00:00", "Z")
            account.note("stamped", number=token.number, at=stamped)
            if at < when(link.fields["sealed"]) - STAMP_SETTLE and not link.fields.get("simulated"):
                account.wrong("stamp-time", number=token.number, at=stamped, start=link.fields["sealed"])
        if count and self.roots is None:
            account.note("stamps-unproved", count=count)

    # What should not be there, and who else knows.

    def _strangers(self) -> None:
        expected = self.known | {CHAIN_FILE, PUBLIC_KEY_FILE}
        for file in sorted(self.folder.rglob("*")):
            name = str(file.relative_to(self.folder))
            if not file.is_dir() and name not in expected and not file.name.startswith("."):
                self.account.wrong("file-unknown", file=name)

    def _witnesses(self) -> None:
        account = self.account
        by_number = {link.number: link for link in self.links.values()}
        last = max(by_number, default=0)
        told = list(self._journal_lines())
        for link in told:
            self._compare(by_number, last, link.number, link.digest, FILE_NAME)
        if self.witness:
            number, _, digest = self.witness.rpartition(":")
            if number.isdigit():
                self._compare(by_number, last, int(number), digest, "--head")
            elif digest not in {link.digest for link in by_number.values()}:
                account.wrong("tail-cut", last=last, witness="--head", number="?")
        elif not told:
            account.note("no-witness")

    def _compare(self, by_number: Mapping[int, Link], last: int, number: int, digest: str, witness: str) -> None:
        if number not in by_number:
            if number > last:
                self.account.wrong("tail-cut", last=last, witness=witness, number=number)
        elif by_number[number].digest != digest:
            self.account.wrong("witness-differs", number=number, witness=witness)

    def _journal_lines(self) -> Sequence[Link]:
        file = self.folder.parent.parent / FILE_NAME
        if self.folder.parent.name != "evidence" or not file.is_file():
            return []
        try:
            return [parse_line(line) for line in sealed.noted_lines(file, self.folder.name)]
        except (JournalError, ChainError) as exc:
            self.account.note("witness-unreadable", file=str(file), why=str(exc))
            return []


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k not in ("code", "message")}


def page(accounts: Sequence[Account], language: Language) -> str:
    """Say for people what was found."""
    vi = language is Language.VI
    lines = []
    for a in accounts:
        verdict = ("NGUYÊN VẸN" if vi else "WHOLE") if not a.problems else ("KHÔNG NGUYÊN VẸN" if vi else "NOT WHOLE")
        lines.append(f"{a.folder}: {verdict}")
        lines += [f"  ✗ {f.text(language)}" for f in a.problems]
        if a.segments:
            first, last = (show_time(t, language) for t in (a.first, a.last))
            words = (
                f"{a.segments} đoạn, {a.results} kết quả, từ {first} đến {last} (giờ Việt Nam);"
                f" đã xoá theo hạn {a.deleted} đoạn{f', còn {a.summaries} bản tóm tắt' if a.summaries else ''}"
                if vi
                else f"{a.segments} segments, {a.results} results, {first} to {last}; {a.deleted} deleted by age"
                f"{f', {a.summaries} summaries kept' if a.summaries else ''}"
            )
            lines += [f"  {words}", f"  {'khoá' if vi else 'key'} {a.key}, {'đầu chuỗi' if vi else 'head'} {a.head}"]
        lines += [f"  · {f.text(language)}" for f in a.notes]
    return "\n".join(lines)
