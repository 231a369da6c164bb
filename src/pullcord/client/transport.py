"""What the sync and the async transport have in common: how to open a connection, and when to try again."""

from __future__ import annotations

from typing import Any, Final

import httpx2

import pullcord
from pullcord.client.calls import Call
from pullcord.client.discovery import Address
from pullcord.client.errors import ServerUnreachableError

PAUSES: Final = (0.1, 0.5)
"""Seconds to pause before each further try of a call whose connection was lost."""

CONNECT: Final = 5.0
READ: Final = 60.0
"""Seconds that connecting and answering may take: the gate itself may wait 10 s for a worker."""

LIMITS: Final = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4.0)
"""Idle connections are dropped before a server drops them (uvicorn: after 5 s)."""


def options(address: Address, source: str) -> dict[str, Any]:
    """Return how to open a client for an address. Redirects are not followed, so the token goes nowhere else."""
    headers = {"user-agent": f"pullcord-{source}/{pullcord.__version__}", "x-pullcord-source": source}
    if address.key is not None:
        headers["authorization"] = f"Bearer {address.key}"
    return {
        "base_url": address.base,
        "headers": headers,
        "timeout": httpx2.Timeout(READ, connect=CONNECT),
        "trust_env": not address.found,
        "follow_redirects": False,
    }


def secure(address: Address) -> bool:
    """Say whether TLS certificates matter; loading them takes longer than a call."""
    return address.base.startswith("https:")


def request_of(client: httpx2.Client | httpx2.AsyncClient, call: Call[Any]) -> httpx2.Request:
    """Build the request of a call."""
    headers = dict(call.headers)
    if call.body is not None:
        headers["content-type"] = "application/json"
    timeout = httpx2.Timeout(READ + call.patience, connect=CONNECT)
    return client.build_request(
        call.method, call.path, params=call.parameters or None, content=call.body, headers=headers, timeout=timeout
    )


def may_repeat(call: Call[Any], error: httpx2.TransportError, tries: int) -> bool:
    """Say whether to send a call again: it does no harm twice, or it never arrived."""
    never_arrived = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
    return tries < len(PAUSES) and (call.repeatable or never_arrived)


def unreachable(address: Address, call: Call[Any] | None, error: Exception) -> ServerUnreachableError:
    """Return the error for a connection that cannot be made or was lost."""
    where = str(address.socket) if address.socket is not None else address.base
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        advice = "start it with `pullcord serve`, or correct the address (PULLCORD_URL)"
        return ServerUnreachableError(f"no server answers at {where} ({error}); {advice}")
    heard = " whether the call was heard is unknown, so look before you repeat it;"
    doubt = "" if call is None or call.repeatable else heard
    return ServerUnreachableError(
        f"the connection to {where} was lost ({type(error).__name__}: {error or 'no answer'});{doubt} "
        "is the server still running?"
    )
