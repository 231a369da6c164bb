"""What a message says: for people what happened, to what, and what to do next; for programs the same as data."""

from __future__ import annotations

from typing import Any, Final

from pullcord.clock import rfc3339
from pullcord.core.headlines import title
from pullcord.core.notify import (
    ASKED,
    CANCELLED,
    FAILED,
    FAILING,
    LONG,
    MISSED,
    RECOVERED,
    RETRYING,
    SKIPPED,
    SUCCEEDED,
    SUSPENDED,
    TRIGGER_DISABLED,
)
from pullcord.notify.message import Level, Message
from pullcord.store.connection import Connection
from pullcord.store.queries.outbox import Stored, Told, digested, notification, told_in

LEVELS: Final[dict[str, Level]] = {
    SUCCEEDED: "success", RECOVERED: "success", FAILED: "error", FAILING: "error", TRIGGER_DISABLED: "error",
    SUSPENDED: "error", RETRYING: "warning", CANCELLED: "warning", LONG: "warning", MISSED: "warning",
    SKIPPED: "info", ASKED: "info",
}  # fmt: skip
"""How bad each event is; a digest is as bad as the worst of what it tells."""

LONGEST: Final = 300
"""An error is cut to so many characters; the run has the whole of it."""

_WORST: Final = ("info", "success", "warning", "error")


def composed(connection: Connection, number: int, public_url: str | None = None) -> Message:
    """Return the message of a notification as it would be sent now.

    Args:
        connection: a reader, or the writer's connection while the notification is sealed.
        number: the notification's number.
        public_url: the address under which people reach the server.
    """
    stored = notification(connection, number)
    assert stored is not None
    kinds = [] if stored.flow else digested(connection, number)
    return compose(stored, told_in(connection, number), kinds, public_url)


def compose(
    stored: Stored, told: list[Told], kinds: list[tuple[str, str, int]], public_url: str | None = None
) -> Message:
    """Return the message of a notification; composed once, when that is sealed, for the runs that it tells of change.

    Args:
        stored: the notification.
        told: the first happenings it tells of.
        kinds: of a digest, event, flow and count of what it tells.
        public_url: the address under which people reach the server.
    """
    if stored.event not in LEVELS:
        return _digest(stored, kinds)
    one = told[0] if stored.count == 1 and told else None
    lines = _lines_of_one(one) if one is not None else _lines_of_many(stored, told)
    advice = _advice(stored, one)
    if advice:
        lines += ["", "What to do next:", *(f"  {line}" for line in advice)]
    run = None if one is None else one.run
    link = f"{public_url.rstrip('/')}/v1/runs/{run['id']}" if public_url and run is not None else None
    return Message(
        id=stored.uuid,
        event=stored.event,
        at=stored.created_at,
        level=LEVELS[stored.event],
        title=title(stored.event, stored.flow, stored.count),
        text="\n".join(lines),
        flow=stored.flow,
        link=link,
        data=_data_of_one(one) if one is not None else _data_of_many(stored, told),
        count=stored.count,
    )


def _lines_of_one(told: Told) -> list[str]:
    run, detail = told.run, told.detail or {}
    lines = []
    if run is not None:
        lines.append(f"Run {run['id']} of {told.flow}, {_state(told, run)}.")
    error = _error_of(told)
    if error is not None:
        lines.append(_error(error))
    if detail.get("text"):
        lines.append(_cut(str(detail["text"])))
    if detail.get("trigger"):
        lines.append(f"Trigger: {detail['trigger']}")
    if run is not None:
        if run["cancel"] is not None:
            why = f": {run['cancel']['reason']}" if run["cancel"].get("reason") else ""
            lines.append(_cut(f"Cancelled by {run['cancel']['by']}{why}"))
        if run["partial"] is not None:
            text = run["partial"].get("text") or ", ".join(map(str, run["partial"].get("steps", [])))
            lines.append(_cut(f"Beware, it stopped half-way: {text}"))
        lines.append(_cut(f"Asked for by {_asker(run)}"))
    lines.append(f"At {rfc3339(told.at)}")
    return lines


def _error_of(told: Told) -> dict[str, Any] | None:
    """Return the error that a happening is about, which is no longer the run's once another attempt has begun."""
    noted: dict[str, Any] | None = (told.detail or {}).get("error")
    if noted is not None or told.run is None or told.event in (SUCCEEDED, RECOVERED):
        return noted
    error: dict[str, Any] | None = told.run["error"]
    return error


def _waits(told: Told) -> bool:
    """Say whether a question still waits for its answer, as far as is known."""
    return told.open if told.open is not None else told.run is not None and told.run["state"] == "waiting"


def _state(told: Told, run: dict[str, Any]) -> str:
    attempt = int(run["attempt"])
    if told.event == RETRYING:
        return _tried_again(told.detail or {}, run)
    if told.event == LONG:
        return f"{run['state']}{' since' if run['state'] == 'running' else ', begun at'} {run['started_at']}"
    if told.event == ASKED:
        return "waits for an answer" if _waits(told) else f"{run['state']}, and no longer waits for this answer"
    return f"{run['state']} in attempt {attempt}" if attempt > 1 else str(run["state"])


def _tried_again(detail: dict[str, Any], run: dict[str, Any]) -> str:
    failed, due = detail.get("attempt", run["attempt"] - 1), detail.get("next_at", run["not_before"])
    if run["state"] == "scheduled" and run["attempt"] == failed + 1:
        return f"attempt {failed} failed; attempt {failed + 1} begins at {due}"
    return f"attempt {failed} failed; it is {run['state']} in attempt {run['attempt']} now"


def _asker(run: dict[str, Any]) -> str:
    who = " for ".join([run["invoker"]["id"], *(run["invoker"]["on_behalf_of"] or [])])
    kind, name = run["trigger"]["kind"], run["trigger"]["name"]
    words = f"{who}, {kind}" + (f" {name}" if name else "")
    return words + (f": {run['reason']}" if run["reason"] else "")


def _lines_of_many(stored: Stored, told: list[Told]) -> list[str]:
    span = f"between {rfc3339(stored.created_at)} and {rfc3339(stored.last_at)}"
    lines = [f"{title(stored.event, stored.flow, stored.count)}, {span}. The first:"]
    lines += [f"  {_short(each)}" for each in told]
    more = stored.count - sum(each.count for each in told)
    return [*lines, f"  and {more:,} more"] if more > 0 else lines


def _short(told: Told) -> str:
    run, detail = told.run, told.detail or {}
    words = [run["id"]] if run is not None else [str(rfc3339(told.at))]
    error = _error_of(told)
    if error is not None:
        words.append(_error(error))
    elif detail.get("text"):
        words.append(_cut(str(detail["text"])))
    if run is not None and run["partial"] is not None:
        words.append("(stopped half-way)")
    return " ".join(words) + (f" ({told.count} times)" if told.count > 1 else "")


def _advice(stored: Stored, one: Told | None) -> list[str]:
    """Return the commands that help."""
    event, flow = stored.event, stored.flow
    run = None if one is None or one.run is None else one.run["id"]
    if event in (MISSED, SKIPPED):
        return [f"pullcord why {flow}"]
    if event == TRIGGER_DISABLED:
        trigger = (one.detail or {}).get("trigger") if one is not None else None
        name = trigger or "TRIGGER"
        return [f"pullcord triggers history {name}", f"pullcord triggers enable {name}"]
    if event == SUSPENDED:
        return [f"pullcord runs list --flow {flow} --state failed", f"pullcord flows resume {flow}"]
    if event in (SUCCEEDED, RECOVERED):
        return []
    if event == ASKED:
        if one is not None and not _waits(one):
            return [] if run is None else [f"pullcord runs show {run}"]
        question = (one.detail or {}).get("question_id") if one is not None else None
        return [f"pullcord questions answer {question}" if question else f"pullcord questions list --flow {flow}"]
    if run is None:
        state = {FAILED: "failed", FAILING: "failed", CANCELLED: "cancelled"}.get(event)
        return [f"pullcord runs list --flow {flow}" + (f" --state {state}" if state else "")]
    show = [f"pullcord runs show {run}", f"pullcord runs logs {run}"]
    return show + ([f"pullcord runs resume {run}"] if event in (FAILED, FAILING, CANCELLED) else [])


def _data_of_one(told: Told) -> dict[str, Any]:
    detail = {"detail": told.detail} if told.detail else {}
    return {**(told.run or {}), **detail}


def _data_of_many(stored: Stored, told: list[Told]) -> dict[str, Any]:
    return {
        "count": stored.count,
        "first_at": rfc3339(stored.created_at),
        "last_at": rfc3339(stored.last_at),
        "first": [{"at": rfc3339(each.at), "count": each.count, **_data_of_one(each)} for each in told],
    }


def _digest(stored: Stored, kinds: list[tuple[str, str, int]]) -> Message:
    listed = [f"  {title(event, flow, count)}" for event, flow, count in kinds]
    more = stored.count - sum(count for _, _, count in kinds)
    lines = [
        "More has happened than this channel takes messages in an hour; this one stands for all the others:",
        *listed,
        *([f"  and {more:,} more of other kinds"] if more > 0 else []),
        "",
        "What to do next:",
        "  pullcord runs list --state failed",
    ]
    levels = [LEVELS.get(event, "info") for event, _, _ in kinds]
    return Message(
        id=stored.uuid,
        event=stored.event,
        at=stored.created_at,
        level=max(levels, key=_WORST.index, default="info"),
        title=title(stored.event, stored.flow, stored.count),
        text="\n".join(lines),
        data={"kinds": [{"event": event, "flow": flow, "count": count} for event, flow, count in kinds]},
        count=stored.count,
    )


def _error(error: dict[str, Any]) -> str:
    first = str(error["message"]).strip().split("\n")[0]
    return _cut(f"{error['type']}: {first}" if first else str(error["type"]))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
