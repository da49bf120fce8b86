"""The websocket prober: the upgrade, and a dialogue of text messages.

A dialogue that goes wrong fails the probe, within its deadline. Source: RFC 6455; the original is not released yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from probes.base import Measurement, ProbeError
from probes.blackbox.address import choose, once_more, open_chosen
from probes.blackbox.client import login, many_headers
from probes.blackbox.expression import expand, search
from probes.blackbox.modules import QueryResponse
from probes.blackbox.task import Task
from probes.blackbox.tls import Wish, secure
from probes.http_url import Url
from probes.websocket import Conversation, http_url, upgrade


async def probe_websocket(task: Task, m: Measurement) -> None:
    """Connect, upgrade, talk.

    Raises:
        ProbeError: the probe failed; the reason was said.
        OSError: the connection failed.
    """
    module = task.module.websocket
    zeros = ("websocket_status_code", "websocket_connection_upgraded", "websocket_failed_due_to_regex")
    m.values |= dict.fromkeys(zeros, 0.0)
    url = _url(task)
    ip = await choose(task, m, url.host, module)
    headers = await many_headers(module.headers.items())
    if word := await login(module.http_config):
        headers.append(("Authorization", word))
    try:
        async with open_chosen(task, m, (url.host, url.port), ip, module) as stream:
            if url.scheme == "https":
                again = once_more(m, ip, url.port)
                wish = Wish(module.http_config.tls_config, url.host, again, ("http/1.1",))
                await secure(task, m, stream, wish)
            response, conversation = await upgrade(m, stream, url, headers)
            m.values["websocket_status_code"] = float(response.status)
            if conversation is None:
                raise task.fail("No upgrade to a WebSocket", status=response.status)
            m.values["websocket_connection_upgraded"] = 1.0
            with m.phase("transfer"):
                await _talk(task, m, conversation, module.query_response)
                await conversation.leave()
    except (ProbeError, OSError) as exc:
        task.say("Error on the websocket", "error", err=str(exc))
        raise


def _url(task: Task) -> Url:
    try:
        return http_url(task.target)
    except ValueError as exc:
        raise task.fail("Could not parse target URL", err=exc) from exc


async def _talk(task: Task, m: Measurement, conversation: Conversation, steps: Sequence[QueryResponse]) -> None:
    for step in steps:
        send = step.send
        if step.expect is not None:
            m.values["websocket_failed_due_to_regex"] = 1.0  # until a message has matched
            message = await conversation.hear()
            match = search(step.expect, message)
            if match is None:
                raise task.fail("Regexp did not match", regexp=step.expect, line=message.decode("utf-8", "replace"))
            m.values["websocket_failed_due_to_regex"] = 0.0
            send = expand(send, match)
        if send:
            await conversation.say(send)
