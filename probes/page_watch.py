"""What a page says and where it leads, brought into a form that can be compared, and the comparison. Pure.

Made for finding a page that somebody has changed: text of people to people in lines, links, and the other hosts whose
scripts, pictures, frames and forms it uses. What a style sheet hides is compared as well, for that is where links to
gambling are put. What scripts do in a browser is not seen; the hosts that they name are.
Source: HTML Living Standard, sections 4.6 (links), 4.8 (embedded content), 4.10 (forms); RFC 5890 (names of hosts).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from probes.base import Fault, ProbeError, one_line
from probes.http_url import Url
from probes.regex import replaced
from probes.web_markup import Element, Markup, Selector, read_markup, tidy

LINKS_LIMIT: Final = 20_000  # links of one page; chosen: ten times what a heavy portal has
LINK_SHOWN: Final = 200  # characters of a link that is no web address
_LEADS: Final = {"a": "href", "area": "href", "form": "action"}
_USES: Final = {
    "script": "src", "img": "src", "iframe": "src", "frame": "src", "embed": "src", "object": "data", "link": "href",
    "audio": "src", "video": "src", "source": "src", "input": "src", "base": "href",
}  # fmt: skip
_SAID: Final = {"img": "alt", "area": "alt", "input": "placeholder", "textarea": "placeholder"}
_HOST_IN_SCRIPT: Final = re.compile(r"""(?:https?:)?\\?/\\?/([\w.-]+\.[a-z]{2,}|\d+\.\d+\.\d+\.\d+)""", re.IGNORECASE)
_SESSION: Final = re.compile(r";jsessionid=[^?#]*", re.IGNORECASE)
_REFRESH: Final = re.compile(r"""^\s*[\d.]*\s*[;,]?\s*(?:url\s*=)?\s*["']?([^"']+)""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Lens:
    """What of a page is not looked at."""

    selectors: tuple[Selector, ...] = ()  # elements left out with all they hold
    patterns: tuple[str, ...] = ()  # RE2, taken out of every line and link


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A page as it is compared."""

    lines: tuple[str, ...]
    links: tuple[str, ...]  # sorted, each once
    hosts: frozenset[str]  # other hosts that the page leads to or takes parts from

    @property
    def sha256(self) -> str:
        """The hash of all that is compared, in hexadecimal."""
        parts = ["\n".join(part) for part in (sorted(self.lines), self.links, sorted(self.hosts))]
        return hashlib.sha256("\n\n".join(parts).encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Change:
    """How a page differs from the one before."""

    text_ratio: float  # share of the characters of both that stand in lines only one of them has
    link_ratio: float  # the same for links
    lines_added: tuple[str, ...]
    lines_removed: tuple[str, ...]
    links_added: tuple[str, ...]
    links_removed: tuple[str, ...]
    hosts_added: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """The greater of the two shares."""
        return max(self.text_ratio, self.link_ratio)


def snapshot(page: str, base: Url, lens: Lens) -> Snapshot:
    """Return what a page says and where it leads.

    Args:
        page: the page as text.
        base: where it came from, so that relative links can be told.
        lens: what is left out.

    Raises:
        ProbeError: CONTENT when the page has more parts than an honest one.
    """
    markup = read_markup(page)
    ignored = markup.below(frozenset(e for selector in lens.selectors for e in selector.find(markup)))
    lines = tuple(filter(None, (_without(line, lens) for line in _lines(markup, ignored))))
    links, hosts = _links(markup, ignored, base, lens)
    return Snapshot(lines, links, hosts)


def _without(text: str, lens: Lens) -> str:
    for pattern in lens.patterns:
        text = replaced(pattern, text)
    return tidy(text)


def _lines(markup: Markup, ignored: frozenset[Element]) -> Iterator[str]:
    line: list[str] = []
    for element, text in markup.pieces:
        if element in ignored or element.tag in ("script", "style"):
            continue
        if text is not None:
            line.append(text)
        elif line:
            yield tidy("".join(line))
            line = []
    for element in markup.elements:
        if element not in ignored:
            yield tidy(element.attrs.get(_SAID.get(element.tag, ""), ""))
    yield tidy("".join(line))


def _links(
    markup: Markup, ignored: frozenset[Element], base: Url, lens: Lens
) -> tuple[tuple[str, ...], frozenset[str]]:
    own_host = base.host
    links: set[str] = set()
    hosts: set[str] = set()
    for element in markup.elements:
        if element in ignored:
            continue
        if element.tag == "base" and "href" in element.attrs:
            base = join(base, element.attrs["href"]) or base
        for target, leads in _targets(element):
            url = join(base, target)
            if url is not None:
                hosts.add(url.host)
            if leads:
                links.add(_without(_shown(target, url), lens))
        if len(links) + len(hosts) > LINKS_LIMIT:
            raise ProbeError(Fault.CONTENT, f"the page has more than {LINKS_LIMIT} links")
    hosts.update(_hosts_in_scripts(markup, ignored))
    return tuple(sorted(links - {""})), frozenset(hosts - {own_host})


def _targets(element: Element) -> Iterator[tuple[str, bool]]:
    """Give the addresses an element names, and whether each is one that a visitor is led to."""
    for names, leads in ((_LEADS, True), (_USES, False)):
        target = element.attrs.get(names.get(element.tag, ""))
        if target:
            yield target, leads
    if element.tag == "meta" and element.attrs.get("http-equiv", "").lower() == "refresh":
        found = _REFRESH.match(element.attrs.get("content", ""))
        if found:
            yield found[1].strip(), True


def join(base: Url, target: str) -> Url | None:
    """Return where a link of a page leads; None when to no web address."""
    try:
        return base.join(target.strip())
    except ValueError:
        return None


def _shown(target: str, url: Url | None) -> str:
    if url is not None:
        return _SESSION.sub("", str(url))
    if target.strip().lower().startswith("data:"):
        return f"data:{hashlib.sha256(target.encode('utf-8', 'replace')).hexdigest()[:16]}"
    return one_line(target.strip(), LINK_SHOWN)


def _hosts_in_scripts(markup: Markup, ignored: frozenset[Element]) -> Iterator[str]:
    for element, text in markup.pieces:
        if element.tag == "script" and text and element not in ignored:
            yield from (found.lower() for found in _HOST_IN_SCRIPT.findall(text))


def compare(before: Snapshot, now: Snapshot, allowed_hosts: Sequence[str] = ()) -> Change:
    """Return how a page changed. The order of its lines does not count.

    Args:
        before: the page as it was approved.
        now: the page as it is.
        allowed_hosts: patterns of hosts that it may lead to without being told, like `*.gov.vn`.
    """
    lines_before, lines_now = Counter(before.lines), Counter(now.lines)
    added, removed = lines_now - lines_before, lines_before - lines_now
    links_added = tuple(sorted(set(now.links) - set(before.links)))
    links_removed = tuple(sorted(set(before.links) - set(now.links)))
    return Change(
        _share(added.elements(), removed.elements(), (*before.lines, *now.lines)),
        _share(links_added, links_removed, (*before.links, *now.links)),
        _in_order(now.lines, added),
        _in_order(before.lines, removed),
        links_added,
        links_removed,
        tuple(h for h in sorted(now.hosts - before.hosts) if not any(fnmatchcase(h, p) for p in allowed_hosts)),
    )


def _share(added: Iterable[str], removed: Iterable[str], everything: Sequence[str]) -> float:
    changed = sum(map(len, added)) + sum(map(len, removed))
    return changed / max(1, sum(map(len, everything)))


def _in_order(lines: Sequence[str], wanted: Counter[str]) -> tuple[str, ...]:
    left = Counter(wanted)
    found = []
    for line in lines:
        if left[line] > 0:
            left[line] -= 1
            found.append(line)
    return tuple(found)
