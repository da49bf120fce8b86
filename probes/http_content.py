"""What a page must be as a page: unchanged since somebody approved it, fresh, and with links that work.

Source: RFC 9110 section 8.8.2 (Last-Modified), HTML Living Standard (text and links), RE2 (patterns to ignore).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from probes.approved_pages import Approval, ApprovedPages
from probes.base import Duration, Fault, Measurement, ProbeError, Value, one_line, utc_now
from probes.http_body import Page, decoded, unpacked
from probes.http_rules import Expect, judge_body, judge_head
from probes.http_url import Url, parse_url
from probes.http_wire import Response
from probes.page_watch import Change, Lens, compare, join, snapshot
from probes.regex import Regex, search
from probes.web_markup import parse_selector, read_markup, tidy

RULES: Final = 30
EXAMPLES: Final = 3  # links and lines named in a fact
WATCHED_BYTES: Final = 4 << 20  # of a page with such rules; chosen: reading the worst one takes a second or two
SKEW_S: Final = 300.0  # by how much a page may be newer than our clock


class _Rule(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, frozen=True, extra="forbid")


def _checked_selector(text: str) -> str:
    parse_selector(text)
    return text


class IgnoreRule(_Rule):
    """A part of a page that may change: elements by a selector, or words by a pattern."""

    css: Annotated[str, Field(max_length=200), AfterValidator(_checked_selector)] | None = Field(
        default=None, description="Elements left out with all in them: tag, #id, .class, [name=value], blanks between"
    )
    regex: Regex | None = Field(default=None, description="Pattern (RE2) taken out of every line and link")

    @model_validator(mode="after")
    def _one_of_two(self) -> IgnoreRule:
        if (self.css is None) == (self.regex is None):
            raise ValueError("give css or regex")
        if self.regex is not None and search(self.regex, "") is not None:
            raise ValueError(
                f"{one_line(self.regex, 40)!r} also finds nothing at all, anywhere: ask for one letter at least"
            )
        return self


def _ignore_list(value: object) -> object:
    items = value if isinstance(value, list) else [value]
    return tuple({"css": v} if isinstance(v, str) else v for v in items)


IgnoreRules = Annotated[
    tuple[IgnoreRule, ...],
    BeforeValidator(_ignore_list, json_schema_input_type=str | IgnoreRule | list[str | IgnoreRule]),
    Field(max_length=RULES),
]
HostPattern = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9*?._-]+$")]


class LinkRule(_Rule):
    """A link that must be on the page, and answer."""

    text: str | None = Field(
        default=None, min_length=1, max_length=200, description="Words of the link, a part will do"
    )
    href: str | None = Field(default=None, min_length=1, max_length=2000, description="Where it leads, a part will do")
    expect: Expect = Field(default_factory=Expect, description="What the page behind it must be; any 2xx by default")

    @model_validator(mode="after")
    def _named(self) -> LinkRule:
        if self.text is None and self.href is None:
            raise ValueError("give the link's text, its href, or both")
        return self

    @property
    def words(self) -> str:
        """The rule for people."""
        parts = ((word, part) for word, part in (("text", self.text), ("address", self.href)) if part is not None)
        return "link with " + " and ".join(f"{word} {one_line(part, 60)!r}" for word, part in parts)


class ContentRules(_Rule):
    """What the page must be as a page."""

    watch: bool = Field(
        default=False, description="Compare text and links with the page last accepted by `thongsuot approve`"
    )
    ignore: IgnoreRules = Field(
        default=(), description="Parts that may change: a selector, {css: …} or {regex: …}, or a list of these"
    )
    tolerance: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the text, and of the links, that may differ: 0.1 is a tenth"
    )
    hosts: tuple[HostPattern, ...] = Field(
        default=(), max_length=RULES, description="Other hosts that new links may lead to, like *.gov.vn"
    )
    last_modified_max: Duration | None = Field(
        default=None, gt=0, description="Greatest age by the Last-Modified header, which must then be there"
    )
    link: LinkRule | None = Field(default=None, description="A link that must be on the page, and work")

    @model_validator(mode="after")
    def _rules_belong_to_the_watch(self) -> ContentRules:
        if not self.watch and self.model_fields_set & {"ignore", "tolerance", "hosts"}:
            raise ValueError("ignore, tolerance and hosts belong to watch: true")
        return self

    @property
    def reads_page(self) -> bool:
        """Whether any rule looks at the page itself."""
        return self.watch or self.link is not None

    @property
    def lens(self) -> Lens:
        """What is left out of the comparison."""
        return Lens(
            tuple(parse_selector(rule.css) for rule in self.ignore if rule.css is not None),
            tuple(rule.regex for rule in self.ignore if rule.regex is not None),
        )


CONTENT_VALUES: Final = (
    Value("content_change_ratio", "Share of text or links, the greater, that differs from the approved page"),
    Value("links_added_count", "Links that the approved page did not have"),
    Value("links_removed_count", "Links that only the approved page had"),
    Value("new_hosts_count", "Other hosts that the page names and the approved one did not"),
    Value("approved_timestamp_s", "When the page was approved, Unix time"),
    Value("last_modified_age_s", "Age of the page by its Last-Modified header, where last_modified_max is given"),
    Value("link_status_code", "Status of the page behind content.link"),
    Value("warning_count", "1 when a page is to be watched and none was approved yet; makes the check degraded"),
)
CONTENT_FACTS: Final = (
    Value("text_added", "Beginning of the text that the approved page did not have"),
    Value("text_removed", "Beginning of the text that only the approved page had"),
    Value("links_added", "First links that the approved page did not have"),
    Value("new_hosts", "First other hosts that the approved page did not name"),
    Value("link_url", "Where content.link leads, without its query"),
)
AskLink = Callable[[str, Expect], Awaitable[Response]]  # asks for an address, follows redirects


class _Gate:
    """Lets few pages be read at a time: reading holds the interpreter, and the loop has other work."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(2)


async def judge_content(
    rules: ContentRules, m: Measurement, response: Response, *, limit: int, url: Url, ask_link: AskLink
) -> None:
    """Compare a page with the rules about it.

    Args:
        rules: what it must be.
        m: takes values, facts, and a remark while no page was approved.
        response: the page's answer.
        limit: bytes of the page that are read.
        url: where it came from.
        ask_link: fetches the page behind a link.

    Raises:
        ProbeError: CONTENT with what changed, is missing or too old; of the link, what its own request raised.
    """
    _judge_age(rules, m, response)
    if not rules.reads_page:
        return
    pages = m.tools.of(ApprovedPages)
    async with m.tools.of(_Gate).turn:
        found = await asyncio.to_thread(_look, rules, response, limit, url, pages, m.check)
    m.values.update(found.values)
    for name, text in found.facts.items():
        m.fact(name, text)
    m.remark = found.remark or m.remark
    if found.problem is not None:
        raise found.problem
    if rules.link is not None and found.link is not None:
        await _judge_link(rules.link, m, found.link, limit, ask_link)


def _judge_age(rules: ContentRules, m: Measurement, response: Response) -> None:
    if rules.last_modified_max is None:
        return
    moment = response.last_modified
    if moment is None:
        raise ProbeError(Fault.CONTENT, "no Last-Modified header that can be read, and last_modified_max wants one")
    age_s = utc_now().timestamp() - moment
    m.values["last_modified_age_s"] = max(0.0, age_s)
    if age_s < -SKEW_S:
        raise ProbeError(Fault.CONTENT, f"last modified {-age_s:.0f} s in the future, as the page says")
    if age_s > rules.last_modified_max:
        most = rules.last_modified_max
        raise ProbeError(Fault.CONTENT, f"last modified {age_s / 3600:.1f} h ago, expected at most {most / 3600:.1f} h")


class _Found:
    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.facts: dict[str, str] = {}
        self.remark = ""
        self.problem: ProbeError | None = None
        self.link: Url | None = None


def _look(rules: ContentRules, response: Response, limit: int, url: Url, pages: ApprovedPages, check: str) -> _Found:
    """Do all that takes time or reads files. Runs in a thread."""
    found = _Found()
    try:
        page = _whole_page(response, limit)
        if rules.link is not None:
            found.link = _find_link(rules.link, page, url)
        if rules.watch:
            pages.saw(check, page, str(url))
            _watch(rules, page, url, _approved(pages, check, found), found)
    except ProbeError as problem:
        found.problem = problem
    return found


def _whole_page(response: Response, limit: int) -> str:
    body, truncated = unpacked(response, limit)
    if truncated:
        raise ProbeError(Fault.CONTENT, f"the page is longer than max_body_bytes ({limit}), so nothing is compared")
    return Page(decoded(body, response.header("content-type") or "")).text


def _approved(pages: ApprovedPages, check: str, found: _Found) -> Approval | None:
    try:
        approval = pages.last(check)
        found.remark = "" if approval else "nobody has approved this page yet: run thongsuot approve"
    except (OSError, ValueError) as exc:
        approval = None
        found.remark = f"the approved page cannot be read: {getattr(exc, 'strerror', None) or exc}"
    return approval


def _watch(rules: ContentRules, page: str, url: Url, approval: Approval | None, found: _Found) -> None:
    if approval is None:
        found.values["warning_count"] = 1.0
        return
    lens = rules.lens
    now, before = snapshot(page, url, lens), snapshot(approval.page, parse_url(approval.url), lens)
    change = compare(before, now, rules.hosts)
    found.values |= {
        "content_change_ratio": change.ratio,
        "links_added_count": float(len(change.links_added)),
        "links_removed_count": float(len(change.links_removed)),
        "new_hosts_count": float(len(change.hosts_added)),
        "approved_timestamp_s": approval.at.timestamp(),
    }
    found.facts |= _evidence(change)
    if change.hosts_added or change.ratio > rules.tolerance:
        raise ProbeError(Fault.CONTENT, _words(change, approval))


def _evidence(change: Change) -> dict[str, str]:
    facts = {
        "text_added": " / ".join(change.lines_added[:20]),
        "text_removed": " / ".join(change.lines_removed[:20]),
        "links_added": " ".join(link.partition("?")[0] for link in change.links_added[:EXAMPLES]),
        "new_hosts": " ".join(change.hosts_added[: 2 * EXAMPLES]),
    }
    return {name: text for name, text in facts.items() if text}


def _words(change: Change, approval: Approval) -> str:
    day = approval.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = []
    if change.hosts_added:  # first: a line of a table may be cut
        more = f" and {len(change.hosts_added) - 1} more" if len(change.hosts_added) > 1 else ""
        parts.append(f"new links or scripts of {one_line(change.hosts_added[0], 60)}{more}")
    if change.text_ratio:
        parts.append(f"text changed by {_percent(change.text_ratio)}")
    if change.link_ratio:
        parts.append(f"links changed by {_percent(change.link_ratio)}")
    return f"{'; '.join(parts)}; since the approval of {day}"


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.0f} %" if ratio >= 0.01 else "less than 1 %"


def _find_link(rule: LinkRule, page: str, url: Url) -> Url:
    markup = read_markup(page)
    wanted = tidy(rule.text or "")
    for element, text in markup.text_of("a"):
        href = element.attrs.get("href", "")
        if href and wanted in text and (rule.href or "") in href:
            target = join(url, href)
            if target is None:
                raise ProbeError(Fault.CONTENT, f"the {rule.words} leads to no web address")
            return target
    raise ProbeError(Fault.CONTENT, f"no {rule.words} on the page")


async def _judge_link(rule: LinkRule, m: Measurement, url: Url, limit: int, ask_link: AskLink) -> None:
    m.fact("link_url", url.shown)
    try:
        answer = await ask_link(str(url), rule.expect)
        m.values["link_status_code"] = float(answer.status)
        judge_head(rule.expect, answer)
        if rule.expect.reads_body:
            await asyncio.to_thread(_judge_body, rule.expect, answer, limit)
    except ProbeError as problem:
        raise ProbeError(problem.fault, f"{rule.words}: {problem.detail}") from problem


def _judge_body(expect: Expect, answer: Response, limit: int) -> None:
    body, truncated = unpacked(answer, limit)
    judge_body(expect, Page(decoded(body, answer.header("content-type") or "")), truncated=truncated)
