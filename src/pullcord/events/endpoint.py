"""A web address whose answer changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Unpack

from pullcord.core.canonical import canonical_json
from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import DefinitionError
from pullcord.core.event import Cursor, EventTrigger, Fire, PollError, Skip
from pullcord.events.declare import Flows, Options, declared
from pullcord.events.http import Answer, checked, get, named
from pullcord.events.references import PREFIX, resolved

ETAG, STATUS, JSON = "etag", "status", "json:"

_SECRET: Final = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


class Endpoint:
    """Fires when what is watched in the answer of a web address changes; the first look fires nothing.

    The cursor holds the value, what it is of, the ETag that it came with, and how often it has changed.

    Args:
        url: the address, `http://` or `https://`.
        watch: `etag`, `status`, or `json:` and a dotted path into the answer, like `json:items.0.version`.
        headers: sent along; a value `env:NAME` is looked up in the environment.
        timeout: seconds that the request may take.
        details: put the address and the previous value into the context too.
    """

    def __init__(
        self,
        url: str,
        watch: str = ETAG,
        headers: dict[str, str] | None = None,
        timeout: float = 10.0,
        details: bool = False,
    ) -> None:
        if watch not in (ETAG, STATUS) and not (watch.startswith(JSON) and all(watch.removeprefix(JSON).split("."))):
            raise DefinitionError(f"watch is 'etag', 'status' or a path like 'json:data.version', not {watch!r}")
        for name, value in (headers or {}).items():
            if name.lower() in _SECRET and not value.startswith(PREFIX):
                raise DefinitionError(
                    f"the header {name} would be stored and shown; put it into a variable and write 'env:VARIABLE'"
                )
        self.url, self.watch, self.headers = checked(url), watch, headers or {}
        self.timeout, self.details = timeout, details

    def poll(self, state: Cursor) -> Fire | Skip:
        """Ask once.

        Raises:
            PollError: there was no answer, or none that says what is watched.
        """
        of = f"{self.watch} of {self.url}"
        known: dict[str, Any] = state.value or {"of": None, "changes": 0}
        same = known["of"] == of  # else somebody has changed the parameters
        headers = {name: resolved(value) for name, value in self.headers.items()}
        if same and known["etag"] is not None and self.watch != STATUS:
            headers["If-None-Match"] = known["etag"]
        answer = get(self.url, self.timeout, headers, body=self.watch.startswith(JSON))
        if answer.status == 304 and "If-None-Match" in headers:
            return Skip("not modified")
        value = self._value(answer)
        state.value = known | {"of": of, "value": value, "etag": answer.headers.get("ETag")}
        if not same:
            return Skip("the first look; changes are told from now on")
        if canonical_json(value) == canonical_json(known["value"]):
            return Skip("unchanged")
        changes = known["changes"] + 1
        state.value |= {"changes": changes}
        context = {"value": value}
        if self.details:
            context |= {"url": self.url, "previous": known["value"]}
        return Fire(context, key=str(changes))  # a value that comes back is another change

    def _value(self, answer: Answer) -> Any:
        if self.watch == STATUS:
            return answer.status
        name = named(self.url)
        answer.check(name)
        if self.watch == ETAG:
            etag = answer.headers.get("ETag")
            if etag is None:
                raise PollError(f"{name} sends no ETag; watch its status or a path of its JSON instead")
            return etag
        try:
            value = json.loads(answer.body)
        except (ValueError, RecursionError):
            raise PollError(f"the answer of {name} is no JSON") from None
        for part in self.watch.removeprefix(JSON).split("."):
            try:
                value = value[int(part)] if isinstance(value, list) else value[part]
            except (LookupError, ValueError, TypeError):
                raise PollError(f"the answer of {name} has nothing at {self.watch.removeprefix(JSON)!r}") from None
        return value


def endpoint(
    url: str,
    *,
    watch: str = ETAG,
    headers: Mapping[str, str] | None = None,
    timeout: Duration = "10s",
    details: bool = False,
    flow: Flows = (),
    every: Duration = "1m",
    name: str | None = None,
    **options: Unpack[Options],
) -> EventTrigger:
    """Run a flow when the answer of a web address changes; the first look fires nothing.

    The ETag of the last answer is sent as If-None-Match. A Retry-After is honoured. 401 and 403 disable the event at
    once, other errors are tried again. Answers that are read have 4 MB at most.

    Args:
        url: the address, `http://` or `https://`.
        watch: what to compare: `etag`, `status`, or a dotted path into the JSON answer, like `json:items.0.version`.
        headers: sent along; a value `env:NAME` is looked up in the server's environment when it is sent. Credentials
            have to be given that way.
        timeout: how long the request may take.
        details: the context is `{"value": …}`, and with details also `url` and `previous`.
        flow: what to run: a flow, its name, or a list.
        every: time between requests.
        name: `{flow}-endpoint` unless given.
        **options: `allow_concurrent`, `max_errors` and `enabled`, as `pc.event` takes them.

    Raises:
        DefinitionError: the declaration cannot work.
    """
    length = seconds(timeout)
    parameters = {
        "url": url, "watch": watch, "headers": dict(headers or {}), "timeout": length, "details": details,
    }  # fmt: skip
    return declared(
        Endpoint, "endpoint", parameters, flow=flow, every=every, name=name, timeout=length + 5, options=options
    )
