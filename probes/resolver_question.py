"""One name asked for, of all name servers there are: A and AAAA side by side, the next server when one is slow.

A server that was asked goes on being listened to while the next is asked. A first answer with addresses waits only a
moment for the other family: a name server that is broken for AAAA neither delays nor fails what has an A.

Source: RFC 1035 section 7.2, RFC 8305 section 3 (the moment), RFC 8020 (a name that does not exist), resolv.conf(5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from probes.dns_message import Question
from probes.resolver_wire import Again, Alias, Failed, Found, Missing, NameServer, Outcome

FAMILY_GRACE_S: Final = 0.05  # RFC 8305 section 3: the resolution delay
TRY_S: Final = 1.0  # chosen: a server that takes longer has lost its turn; its answer is still taken
RETRY_SHUNNED_S: Final = 10.0  # chosen: how soon a server that comes back is noticed
A: Final = 1
AAAA: Final = 28


class Manner(NamedTuple):
    """How servers are asked."""

    servers: Sequence[NameServer]  # in the order to ask them
    try_s: float  # how long one is waited for before the next is asked as well
    rounds: int  # how often each is asked
    deadline_s: float  # on the loop's clock


class Asking:
    """A name on its way through the servers."""

    def __init__(self, questions: Sequence[Question], manner: Manner) -> None:
        """Args: questions: of one name, A and AAAA or one of them."""
        self._loop = asyncio.get_running_loop()
        self._manner = manner
        self._questions = questions
        self._final: dict[Question, Found | Missing | Alias] = {}
        self._failed: dict[tuple[NameServer, Question], Failed] = {}
        self._asked: list[NameServer] = []
        self._good: NameServer | None = None
        self._grace_until_s = float("inf")
        self._outstanding: set[tuple[NameServer, Question]] = set()
        self._closers: list[Callable[[], None]] = []
        self._by_tcp: set[asyncio.Task[None]] = set()
        self._change: asyncio.Future[None] | None = None
        self._next_now = False

    async def run(self) -> tuple[dict[Question, Found | Missing | Alias], list[Failed]]:
        """Ask until it is known, or time or servers run out; return what is known and what failed."""
        tries = self._tries()
        next_try_s = self._loop.time()
        more = True
        try:
            while not self._done():
                if more and (self._next_now or self._loop.time() >= next_try_s):
                    self._next_now = False
                    more = self._ask_next(tries)
                    next_try_s = self._loop.time() + self._manner.try_s
                elif not more and not self._outstanding:
                    break
                else:
                    await self._wait(next_try_s if more else float("inf"))
        finally:
            self._end()
        return self._final, self._reasons()

    def _tries(self) -> Iterator[NameServer]:
        """Yield the servers of each round, those that failed others last time behind the rest."""
        servers = sorted(self._manner.servers, key=lambda s: s.shunned)
        for _ in range(self._manner.rounds):
            yield from servers

    def _ask_next(self, tries: Iterator[NameServer]) -> bool:
        """Ask the next server that has not failed; return whether there was one."""
        first = not self._asked
        for server in tries:
            if self._ask(server):
                if first:
                    self._ask_one_that_is_shunned(server)
                return True
        return False

    def _ask_one_that_is_shunned(self, but: NameServer) -> None:
        """Ask a server that did not answer lately beside the good one: its coming back costs no time."""
        now = self._loop.time()
        for server in self._manner.servers:
            if server.shunned and server is not but and now >= server.retry_at_s:
                server.retry_at_s = now + RETRY_SHUNNED_S
                self._ask(server)
                return

    def _ask(self, server: NameServer) -> bool:
        """Ask a server what is not known yet and it has not failed to answer; return whether there was anything."""
        open_ = [q for q in self._questions if q not in self._final and (server, q) not in self._failed]
        if open_:
            self._send(server, open_)
        return bool(open_)

    def _send(self, server: NameServer, questions: Sequence[Question]) -> None:
        if server not in self._asked:
            self._asked.append(server)
        self._outstanding.update((server, q) for q in questions)
        self._closers.append(server.ask(questions, self._hear))

    def _hear(self, server: NameServer, question: Question, outcome: Outcome) -> None:
        if isinstance(outcome, Again):
            if outcome.by_tcp:
                task = self._loop.create_task(self._fetch(server, question), name="dns by tcp")
                self._by_tcp.add(task)
                task.add_done_callback(self._by_tcp.discard)
            else:
                self._send(server, [question])
            return
        self._outstanding.discard((server, question))
        if isinstance(outcome, Failed):
            self._failed[server, question] = outcome
            self._next_now |= question not in self._final
        elif question not in self._final:
            self._final[question] = outcome
            self._grace_until_s = min(self._grace_until_s, self._loop.time() + FAMILY_GRACE_S)
        if not isinstance(outcome, Failed):
            server.shunned = False
            self._good = server
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    async def _fetch(self, server: NameServer, question: Question) -> None:
        self._hear(server, question, await server.ask_by_tcp(question))

    def _done(self) -> bool:
        now = self._loop.time()
        if len(self._final) == len(self._questions) or now >= self._manner.deadline_s:
            return True
        first = self._first()
        if first is None:
            return False
        # The other family is AAAA. One that fails is not waited for, one that says nothing only a moment.
        return now >= self._grace_until_s or not any(q.type == AAAA for _, q in self._outstanding)

    def _first(self) -> Found | Missing | Alias | None:
        """Return the answer for A when it settles the matter: it has addresses, or the name does not exist."""
        answer = next((o for q, o in self._final.items() if q.type == A), None)
        return None if isinstance(answer, Missing) and answer.exists else answer

    async def _wait(self, next_try_s: float) -> None:
        grace_s = self._grace_until_s if self._first() is not None else float("inf")
        self._change = self._loop.create_future()
        timer = self._loop.call_at(min(next_try_s, grace_s, self._manner.deadline_s), _wake, self._change)
        try:
            await self._change
        finally:
            timer.cancel()

    def _end(self) -> None:
        for close in self._closers:
            close()
        for task in self._by_tcp:
            task.cancel()
        if self._good is None:
            return
        settled = set(self._final)
        for server in self._asked:
            silent = {q for s, q in self._outstanding if s is server} & settled
            broken = {q for s, q in self._failed if s is server} & settled
            if server is not self._good and (silent or broken) and not server.shunned:
                server.shunned, server.retry_at_s = True, self._loop.time() + RETRY_SHUNNED_S

    def _reasons(self) -> list[Failed]:
        found = list(self._failed.values())
        quiet = [s for s in self._asked if not any(server is s for server, _ in self._failed)]
        return [*found, *(Failed(f"{server.ip} does not answer") for server in quiet)]


def _wake(change: asyncio.Future[None]) -> None:
    if not change.done():
        change.set_result(None)
