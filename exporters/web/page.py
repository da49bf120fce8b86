"""The live page: what is broken, since when, and why, readable from three metres and on a phone.

Made on the server as a whole; the script only fetches it again. State is told by a word, a sign and a colour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from statistics import median
from typing import Final

from config.plan import Language
from exporters import text, text_route
from exporters.text_page import label
from exporters.text_reason import incident_words, reason_words
from exporters.web import status
from exporters.web.markup import Html, document, join, tag
from monitor.announced import Announcement
from monitor.board import Board, CheckView, ServiceView
from monitor.model import Incident, Result, State
from monitor.traced import RouteTrace

CHECKS_SHOWN: Final = 30  # rows in one service; chosen: the worst come first, the API has them all
REASONS_SHOWN: Final = 3  # checks named on a card
CLOSED_SHOWN: Final = 10
OPEN_SHOWN: Final = 50
MEMBERS_SHOWN: Final = 20  # names of services hit by one incident
RELOAD_S: Final = 15  # without a script

# What has to be looked at first stands first; not knowing is worse than knowing that all is well.
_ORDER: Final = (State.DOWN, State.CONGESTED, State.DEGRADED, State.UNKNOWN, State.UP)


def render(board: Board, now: datetime, *, alive: bool = True) -> str:
    """Return the whole page as it stands at `now`."""
    return _Page(board, now, alive=alive).whole()


class _Page:
    def __init__(self, board: Board, now: datetime, *, alive: bool) -> None:
        self.board = board
        self.now = now
        self.alive = alive
        self.lang: Language = board.plan.site.language
        self.tz = board.plan.site.timezone

    def say(self, key: str, **values: str) -> str:
        return label(key, self.lang, **values)

    def whole(self) -> str:
        site = self.board.plan.site
        head = (
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("title", f"{self.verdict()} · {text.short_site(site.name)} · Thông Suốt"),
            tag("link", rel="icon", href="static/mark.svg", type="image/svg+xml"),
            tag("link", rel="stylesheet", href="static/page.css"),
            tag("script", src="static/page.js", defer=True),
            tag("noscript", tag("meta", http_equiv="refresh", content=str(RELOAD_S))),
        )
        stale = tag(
            "p",
            tag("strong", self.say("stale")),
            " ",
            self.say("stale-since"),
            " ",
            tag("span", text.local_time(self.now, self.tz), id="stale-at"),
            id="stale",
            role="alert",
            hidden=True,
        )
        return document(self.lang.value, head, join((stale, self.main())))

    def main(self) -> Html:
        return tag(
            "main",
            self.header(),
            *self.banners(),
            tag(
                "section",
                *(self.service(v) for v in self.services()),
                class_="services",
                aria_label=self.say("services"),
            ),
            self.open_incidents(),
            self.closed_incidents(),
            self.references(),
            self.alerts(),
            self.footer(),
            id="page",
        )

    # The top: one glance.

    def services(self) -> list[ServiceView]:
        """Return the services, the worst first, otherwise as configured."""
        views = [self.board.services[s.id] for s in self.board.plan.services]
        return sorted(views, key=lambda v: _ORDER.index(v.state))

    def counts(self) -> list[tuple[State, int]]:
        found = Counter(v.state for v in self.board.services.values())
        return [(state, found[state]) for state in _ORDER if found[state]]

    def verdict(self) -> str:
        counts = self.counts()
        if self.board.journal_trouble:
            return self.say("journal-trouble-title")
        if self.board.own_fault:
            return self.say("own-fault")
        if [state for state, _ in counts] == [State.UP]:
            return self.say("all-up")
        return " · ".join(f"{n} {text.state_word(state, self.lang)}" for state, n in counts)

    def header(self) -> Html:
        pills = (
            tag(
                "li",
                tag("b", str(n)),
                " ",
                sign(state),
                text.state_word(state, self.lang),
                class_=f"pill {state.value}",
            )
            for state, n in self.counts()
        )
        made = tag("time", text.local_time(self.now, self.tz), datetime=self.now.isoformat(), id="made")
        return tag(
            "header",
            tag("div", tag("p", "Thông Suốt", class_="brand"), tag("h1", self.board.plan.site.name)),
            tag("ul", *pills, class_="pills", role="status"),
            tag("p", self.say("made"), " ", made, class_="made"),
        )

    def banners(self) -> Iterable[Html]:
        if not self.alive:
            yield tag("p", sign(State.DOWN), self.say("not-alive"), class_="banner down", role="alert")
        if self.board.journal_trouble:
            yield tag("p", sign(State.DOWN), self.say("journal-trouble"), class_="banner down", role="alert")
        if self.board.unrecorded_since:
            since = text.local_time(self.board.unrecorded_since, self.tz)
            yield tag("p", sign(State.DOWN), self.say("unrecorded", since=since), class_="banner down", role="alert")
        if self.board.evidence_trouble:
            detail = tag("span", self.board.evidence_trouble, class_="tech")
            yield tag("p", sign(State.DEGRADED), self.say("evidence-trouble"), " ", detail, class_="banner degraded")
        if self.board.clock_trouble:
            line = self.say(f"clock-{self.board.clock_trouble}")
            yield tag("p", sign(State.DEGRADED), line, class_="banner degraded")
        if self.board.own_fault:
            yield tag(
                "div",
                tag("strong", self.say("own-fault")),
                *self.own_faults(),
                tag("p", self.say("own-fault-note")),
                class_="banner unknown",
                role="alert",
            )
        failed = self.outcomes("failed")
        if failed:
            yield tag("p", sign(State.DOWN), self.say("alerts-lost", n=str(failed)), class_="banner down", role="alert")
        if self.board.outbox_waiting and self.outcomes("retry"):
            line = self.say("alerts-stuck", n=str(self.board.outbox_waiting))
            yield tag("p", sign(State.DEGRADED), line, class_="banner degraded")

    def own_faults(self) -> Iterable[Html]:
        """Say what is wrong on our side, one line for each uplink we cannot see by."""
        found = status.own_fault_incidents(self.board)
        for path, it in found.items():
            name = f"{status.path_name(self.board, path)}: " if path else ""
            sentence = text.own_fault_sentence(it.detail or self.board.own_fault, self.lang)
            yield tag("p", name, sentence, " ", *self.since(it.began_at))
        if not found:
            since = self.board.own_fault_since
            sentence = text.own_fault_sentence(self.board.own_fault, self.lang)
            yield tag("p", sentence, *((" ", *self.since(since)) if since else ()))

    def since(self, at: datetime) -> tuple[str, ...]:
        lasted = text.duration_words((self.now - at).total_seconds(), self.lang)
        clock = tag("time", text.local_time(at, self.tz), datetime=at.isoformat())
        how_long = tag("span", self.say("for"), " ", tag("b", lasted), class_="lasted")
        return (self.say("since"), " ", clock, " · ", how_long)

    # A service.

    def service(self, view: ServiceView) -> Html:
        state = view.state
        return tag(
            "article",
            tag("p", sign(state), tag("span", text.state_word(state, self.lang)), class_=f"state {state.value}"),
            tag("h2", view.plan.name),
            tag("p", *self.since(view.since), class_="since") if view.since else "",
            *self.work(view.work),
            *self.reasons(view),
            self.checks(view),
            class_=f"card {state.value}",
            id=f"service-{view.plan.id}",
        )

    def work(self, work: Announcement | None) -> Iterable[Html]:
        """Mark announced work beside what is measured all the same."""
        if work is not None and work.window is not None:
            until = text.local_time(work.window.end, self.tz)
            mark = text.state_symbol(State.MAINTENANCE)
            yield tag("p", f"{mark} ", self.say("work", until=until, reason=work.reason), class_="cause work")

    def reasons(self, view: ServiceView) -> Iterable[Html]:
        if view.state is State.UP:
            return
        cause = status.service_cause(self.board, view)
        if cause:
            yield tag("p", status.cause_text(self.board, cause, self.lang), class_="cause")
        bad = [c for c in self.sorted_checks(view) if c.state is not State.UP]
        for check in [] if cause and view.state is State.UNKNOWN else bad[:REASONS_SHOWN]:
            yield tag("p", tag("b", check.target.name), ": ", *self.why(check), class_="cause")

    def sorted_checks(self, view: ServiceView) -> list[CheckView]:
        views = [self.board.checks[t.id] for t in view.plan.targets]
        return sorted(views, key=lambda c: _ORDER.index(c.state))

    def why(self, check: CheckView) -> tuple[str, ...]:
        """Return why a check is not well: the reason in plain words, then what the probe said."""
        reading = check.last.reading if check.last else None
        gap = text.gap_phrase(check.detail, self.lang)
        if check.state is State.UNKNOWN and (gap or reading is None):
            return (gap or self.say("waiting"),)
        fault = reading.fault.value if reading and reading.fault else ""
        detail = check.detail or (reading.detail if reading else "")
        phrase = reason_words(detail, self.lang, self.tz) or text.fault_phrase(fault, self.lang, check.state)
        return (phrase, tag("span", detail, class_="tech")) if detail else (phrase,)

    def checks(self, view: ServiceView) -> Html:
        views = self.sorted_checks(view)
        up = sum(c.state is State.UP for c in views)
        rows = tag("ul", *(self.check(c) for c in views[:CHECKS_SHOWN]), class_="checks")
        more = tag("p", self.say("more", n=str(len(views) - CHECKS_SHOWN))) if len(views) > CHECKS_SHOWN else ""
        head = tag("summary", f"{up}/{len(views)} {self.say('checks')} {text.state_word(State.UP, self.lang)}")
        return tag("details", head, rows, more, id=f"checks-{view.plan.id}")

    def _marks(self, view: CheckView) -> Sequence[tuple[str, bool]]:
        return (
            ("suspect", view.suspect),
            ("congestion-suspected", view.congestion_suspected),
            ("flapping", view.flapping),
        )

    def check(self, view: CheckView) -> Html:
        target = view.target
        facts = [target.probe.kind, f"{self.say('every')} {text.duration_words(target.every_s, self.lang)}"]
        if target.path:
            facts.append(f"{self.say('by')} {target.path.name}")
        coverage = self.board.coverage(target.id)
        if coverage is not None and coverage < 1:
            facts.append(f"{self.say('coverage')} {text.percent_words(coverage, self.lang)}")
        if view.queue_delay_s is not None and view.queue_threshold_s is not None:
            delay, least = (
                text.number_words(s * 1000, 0, self.lang) for s in (view.queue_delay_s, view.queue_threshold_s)
            )
            facts.append(self.say("queue", delay=delay, least=least))
        marks = [tag("em", self.say(k)) for k, on in self._marks(view) if on]
        return tag(
            "li",
            tag("span", sign(view.state), text.state_word(view.state, self.lang), class_=f"word {view.state.value}"),
            tag("b", target.name),
            *marks,
            tag("span", " · ".join(facts), class_="facts"),
            tag("span", *self.last(view), class_="facts"),
        )

    def last(self, view: CheckView) -> tuple[str, ...]:
        if view.last is None:
            return self.why(view)
        reading = view.last.reading
        at = text.local_clock(view.last.started_at, self.tz)
        if reading.fault is not None:
            phrase = reason_words(reading.detail, self.lang, self.tz) or text.fault_phrase(
                reading.fault.value, self.lang
            )
            return (f"{at}: {phrase}", tag("span", reading.detail, class_="tech"))
        return (f"{at}: {self.measured(view.last)}",)

    def measured(self, result: Result) -> str:
        answered = [rtt for rtt in result.reading.rtts_s if rtt is not None]
        sent = len(result.reading.rtts_s)
        words = text.short_duration(median(answered) if answered else result.reading.duration_s, self.lang)
        lost = sent - len(answered)
        if lost:
            return f"{words}, {self.say('loss')} {lost}/{sent}"
        return words if result.reading.trusted else f"{words} ({self.say('untrusted')})"

    # What happened, and below it what stands behind the picture.

    def open_incidents(self) -> Html:
        found = sorted(self.board.open_incidents.values(), key=lambda i: (-i.state.severity, i.began_at))
        if not found:
            return self.section("open-incidents", tag("p", self.say("no-open-incidents"), class_="quiet"))
        return self.section("open-incidents", self.incidents(found, OPEN_SHOWN))

    def closed_incidents(self) -> Html:
        found = sorted(self.board.closed_incidents, key=lambda i: i.ended_at or i.began_at, reverse=True)
        if not found:
            return self.section("closed-incidents", tag("p", self.say("no-closed-incidents"), class_="quiet"))
        return self.section("closed-incidents", self.incidents(found, CLOSED_SHOWN))

    def incidents(self, found: Sequence[Incident], shown: int) -> Html:
        more = tag("p", self.say("more", n=str(len(found) - shown)), class_="quiet") if len(found) > shown else ""
        return join((tag("ul", *(self.incident(i) for i in found[:shown]), class_="incidents"), more))

    def incident(self, it: Incident) -> Html:
        if it.ended_at is None:
            span = tag("span", *self.since(it.began_at), class_="when")
        else:
            lasted = text.duration_words((it.ended_at - it.began_at).total_seconds(), self.lang)
            span = tag(
                "span",
                f"{text.local_time(it.began_at, self.tz)} → {text.local_time(it.ended_at, self.tz)} · ",
                f"{self.say('lasted')} ",
                tag("b", lasted),
                class_="when",
            )
        parent = self.say("follows", n=str(it.parent)) if it.parent is not None else ""
        return tag(
            "li",
            tag("span", sign(it.state), text.state_word(it.state, self.lang), class_=f"word {it.state.value}"),
            tag("b", status.incident_name(self.board, it)),
            span,
            tag("span", f"#{it.id}", f" · {parent}" if parent else "", class_="facts"),
            self._incident_detail(it),
            *(self._way(t) for t in self.board.traces.get(it.id, ())[-1:]),
            id=f"incident-{it.id}",
        )

    def _way(self, trace: RouteTrace) -> Html:
        said = text_route.way_sentence(trace, self.tz, self.lang)
        when = f"{text.local_clock(trace.at, self.tz)}, {text_route.moment_word(trace.moment, self.lang)}"
        return tag("span", f"{said} ({when})", class_="facts", title=text_route.hops_line(trace))

    def _incident_detail(self, it: Incident) -> Html:
        if it.withdrawn:
            return tag("span", self.say("withdrawn"), class_="facts")
        if it.cause is not None:
            names = ", ".join(status.subject_name(self.board, m) for m in it.cause.members[:MEMBERS_SHOWN])
            more = len(it.cause.members) - MEMBERS_SHOWN
            rest = self.say("more", n=str(more)) if more > 0 else ""
            sentence = tag("span", status.why(self.board, it.cause, self.lang), class_="facts")
            hit = tag("span", f"{self.say('members')}: {names} {rest}".rstrip(), class_="facts")
            return join((sentence, hit if len(it.cause.members) > 1 else Html("")))
        if status.is_own(it.subject):
            return tag("span", text.own_fault_word(it.detail, self.lang), class_="facts")
        said = incident_words(it.detail, self.lang, self.tz)
        if said:
            return tag("span", said, class_="facts")
        return tag("span", it.detail, class_="tech") if it.detail else Html("")

    def references(self) -> Html:
        if not self.board.plan.references:
            return Html("")
        rows = tag("ul", *(self.check(self.board.checks[t.id]) for t in self.board.plan.references), class_="checks")
        return self.section("references", tag("p", self.say("references-help"), class_="quiet"), rows)

    def alerts(self) -> Html:
        mail = self.board.plan.mail
        if mail is None:
            return self.section("alerts", tag("p", self.say("alerts-none"), class_="quiet"))
        parts = [
            f"{self.say('alerts-sent')}: {self.outcomes('sent')}",
            f"{self.say('alerts-waiting')}: {self.board.outbox_waiting}",
        ]
        for outcome, key in (("failed", "alerts-failed"), ("recipient-refused", "alerts-refused")):
            if self.outcomes(outcome):
                parts.append(f"{self.say(key)}: {self.outcomes(outcome)}")
        return self.section(
            "alerts",
            tag("p", self.say("alerts-to"), ": ", tag("b", ", ".join(mail.to))),
            tag("p", " · ".join(parts), class_="quiet"),
        )

    def outcomes(self, outcome: str) -> int:
        return sum(n for (_, what), n in self.board.alerts.items() if what == outcome)

    def section(self, key: str, *inside: str) -> Html:
        return tag("section", tag("h2", self.say(key)), *inside, class_="block")

    def footer(self) -> Html:
        started = text.local_time(self.board.started_at, self.tz)
        return tag(
            "footer",
            tag(
                "p",
                f"Thông Suốt {self.say('version')} {status.VERSION} · {self.say('started')} {started} · ",
                text.zone_word(self.now, self.tz),
            ),
            tag("noscript", tag("p", self.say("no-script"))),
        )


def sign(state: State) -> Html:
    """Return the sign that tells a state without colour; the word beside it is what a screen reader says."""
    return tag("i", text.state_symbol(state), aria_hidden="true")
