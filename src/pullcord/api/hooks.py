"""`POST /v1/hooks/{name}`: deliveries of other systems, which prove who they are by a signature over the raw body."""

from __future__ import annotations

from collections import defaultdict
from typing import Final
from urllib.parse import unquote

from pydantic_core import to_json

from pullcord.api.admission import Receive, Scope, Send, respond
from pullcord.api.problems import PROBLEM_TYPE, problem, problem_of, receipt_status, retry_after, unexpected_problem
from pullcord.app import App
from pullcord.core.errors import PullcordError, SecretError, TooLargeError, UnreadableError
from pullcord.core.states import Outcome
from pullcord.gate.request import Receipt

PREFIX: Final = "/v1/hooks/"
"""What the addresses of webhooks begin with."""


class Hooks:
    """The route.

    Args:
        app: the running app.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Serve one call; return the status of the answer."""
        extra: list[tuple[bytes, bytes]] = []
        kind = PROBLEM_TYPE
        name = unquote(scope["path"][len(PREFIX) :])
        try:
            if scope["method"] != "POST":
                status, body = problem("method_not_allowed", "a webhook takes POST")
                extra = [(b"allow", b"POST")]
            else:
                receipts = await self._deliver(name, scope, receive)
                status, body, kind, extra = _answer(receipts)
        except SecretError as error:
            # Where the secret should be is for the log and the ledger, and not for whoever calls.
            status, body = problem(error.code, "the server cannot check signatures now; its ledger says why")
        except PullcordError as error:
            status, body = problem_of(error)
        except Exception as error:
            status, body = unexpected_problem(error, "a delivery failed", method="POST", route=PREFIX)
        await respond(send, status, body, kind, extra)
        return status

    async def _deliver(self, name: str, scope: Scope, receive: Receive) -> list[Receipt]:
        hooks = self._app.kinds.webhooks
        limit = hooks.limit(name)
        try:
            body = await _read(receive, limit)
        except (TooLargeError, UnreadableError) as error:
            await hooks.refuse(name, error)
            raise
        headers: defaultdict[str, list[str]] = defaultdict(list)
        for key, value in scope["headers"]:
            headers[key.decode("latin-1").lower()].append(value.decode("latin-1"))
        # A header that comes twice is no header that anybody signed with: joined, it fits no signature.
        return await hooks.receive(name, {key: ", ".join(values) for key, values in headers.items()}, body)


async def _read(receive: Receive, limit: int) -> bytes:
    """Return the body as it comes; it is not read to its end when it is too long."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            # Nobody hears this; noted as it is, it is not taken for a wrong secret.
            raise UnreadableError("the connection ended before the body did")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            raise TooLargeError(f"the body is over this webhook's limit of {limit:,} bytes")
    return bytes(body)


def _answer(receipts: list[Receipt]) -> tuple[int, bytes, str, list[tuple[bytes, bytes]]]:
    """Return status, body, content type and headers: the first flow's receipt, and the others' beside it."""
    first, *others = receipts
    fields = first.as_json()
    if others:
        fields["others"] = [receipt.as_json() for receipt in others]
    if first.code is not None and first.outcome is Outcome.REJECTED:
        code = fields.pop("code")
        again = [(name.encode(), value.encode()) for name, value in retry_after(first).items()]
        return *problem(code, first.reason, **fields), PROBLEM_TYPE, again
    extra = [(b"idempotent-replayed", b"true")] if first.replayed else []
    return receipt_status(first, False, False), to_json(fields), "application/json", extra
