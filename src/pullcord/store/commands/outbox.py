"""The outbox: notifications are sealed before they are sent, and marked when it is known what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from uuid_utils import uuid7

from pullcord.core.errors import AlreadyDeliveredError, NotFoundError, StoreError
from pullcord.core.notify import LONG
from pullcord.store.commands.happenings import DELIVERED, GIVEN_UP, PENDING, Happening, note_happenings
from pullcord.store.connection import Connection
from pullcord.store.statement import dump
from pullcord.store.transaction import Transaction

Compose = Callable[[Connection, int], str]
"""Returns the message of a notification, JSON, by its number."""

DIGEST: Final = "digest"
"""The event of a message that tells of many kinds of happenings."""

_SEAL = """
UPDATE notifications SET state = 'pending', sealed_at = :clock, trying_since = :clock, due_at = :clock
WHERE id IN VALUES[ids:int] AND state = 'gathering'"""
_MARK = """
UPDATE notifications SET state = :state, tries = tries + :tries, last_error = :error,
    due_at = coalesce(:due, due_at), ended_at = CASE WHEN :state = 'pending' THEN NULL ELSE :now END
WHERE id = :id AND state = 'pending'"""


@dataclass(slots=True)
class SealNotifications:
    """Close notifications: from now on they stay as they are, and are the same at every try.

    Attributes:
        ids: numbers of notifications of one channel that still gather.
        digest: whether they become one message.
        compose: returns the message of a notification, of its number; it is kept as it is then.

    The result is the numbers of what is to be sent.
    """

    keep_trying: ClassVar[bool] = False

    ids: list[int]
    digest: bool
    compose: Compose
    done: Callable[[Any], None]

    def split(self) -> Sequence[SealNotifications]:
        """Numbers poison nothing."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[SealNotifications]) -> list[list[int]]:
        """Seal one after the other."""
        return [_sealed(tx, command) for command in commands]


def _sealed(tx: Transaction, command: SealNotifications) -> list[int]:
    ids = _digest(tx, command.ids) if command.digest else _seal(tx, command.ids)
    keep_messages(tx, ids, command.compose)
    return ids


def keep_messages(tx: Transaction, ids: list[int], compose: Compose) -> None:
    """Write the messages of notifications, which are sent like this from now on, whatever becomes of their runs."""
    for number in ids:
        tx.execute(
            "UPDATE notifications SET message = :message WHERE id = :id",
            {"id": number, "message": compose(tx.connection, number)},
        )


def _seal(tx: Transaction, ids: list[int]) -> list[int]:
    tx.execute(_SEAL, {"ids": dump(ids), "clock": tx.clock})
    return ids


def _digest(tx: Transaction, ids: list[int]) -> list[int]:
    """Put all that these tell into one notification, which takes their place."""
    found = tx.array(
        "SELECT EACH[id, channel, count, created_at] FROM notifications "
        "WHERE id IN VALUES[ids:int] AND state = 'gathering'",
        {"ids": dump(ids)},
    )
    if len(found) < 2:
        return _seal(tx, [row[0] for row in found])
    number = tx.next_id("notifications")
    merged = {"ids": dump([row[0] for row in found]), "number": number}
    tx.execute(
        "INSERT INTO notifications (id, uuid, channel, event, flow, state, count, created_at, last_at, due_at, "
        "sealed_at, trying_since, tries) VALUES (:id, :uuid, :channel, 'digest', '', 'pending', :count, :first, :now, "
        ":clock, :clock, :clock, 0)",
        {
            "id": number,
            "uuid": str(uuid7()),
            "channel": found[0][1],
            "count": sum(row[2] for row in found),
            "first": min(row[3] for row in found),
            "now": tx.now,
            "clock": tx.clock,
        },
    )
    tx.execute("UPDATE happenings SET notification_id = :number WHERE notification_id IN VALUES[ids:int]", merged)
    tx.execute("DELETE FROM notifications WHERE id IN VALUES[ids:int]", {"ids": merged["ids"]})
    return [number]


@dataclass(slots=True)
class MarkNotification:
    """Write what became of trying to send a notification.

    Attributes:
        id: its number.
        state: `delivered`, `failed`, or `pending` when it is tried again.
        error: why it was not taken, or None.
        due: when it is tried again, microseconds, or None.
        tries: 1, or 0 where nothing was tried.
    """

    keep_trying: ClassVar[bool] = True

    id: int
    state: str
    error: str | None
    due: int | None
    done: Callable[[Any], None]
    tries: int = 1

    def split(self) -> Sequence[MarkNotification]:
        """One notification is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[MarkNotification]) -> list[None]:
        """Mark one after the other; they are few."""
        for each in commands:
            values = {"id": each.id, "state": each.state, "error": each.error, "due": each.due, "tries": each.tries}
            tx.execute(_MARK, {**values, "now": tx.now})
        return [None] * len(commands)


@dataclass(slots=True)
class GiveUpNotifications:
    """Give up what has gathered too long for a channel that takes nothing.

    Attributes:
        channel: the channel.
        before: what has gathered since before this, microseconds.
        error: why the channel took nothing last.
        compose: as of `SealNotifications`.

    The result is how many were given up.
    """

    keep_trying: ClassVar[bool] = False

    channel: str
    before: int
    error: str
    compose: Compose
    done: Callable[[Any], None]

    def split(self) -> Sequence[GiveUpNotifications]:
        """One channel is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[GiveUpNotifications]) -> list[int]:
        """Give up, one command after the other."""
        return [_give_up(tx, command) for command in commands]


def _give_up(tx: Transaction, command: GiveUpNotifications) -> int:
    found = tx.array(_OLD, {"channel": command.channel, "before": command.before})
    ids = [row[0] for row in found]
    if ids:
        keep_messages(tx, ids, command.compose)
        tx.execute(_LEAVE, {"ids": dump(ids), "error": command.error, "now": tx.now})
    return len(ids)


_OLD = """
SELECT EACH[id] FROM notifications WHERE channel = :channel AND state = 'gathering' AND created_at < :before"""
_LEAVE = f"""
UPDATE notifications SET state = '{GIVEN_UP}', last_error = :error, ended_at = :now WHERE id IN VALUES[ids:int]"""


@dataclass(slots=True)
class RetryNotification:
    """Have a notification sent now, also one that was given up.

    Attributes:
        uuid: its id.
        invoker: who asks.

    The result is its channel, or the error that there is none, or that it arrived already.
    """

    keep_trying: ClassVar[bool] = False

    uuid: str
    invoker: str
    done: Callable[[Any], None]

    def split(self) -> Sequence[RetryNotification]:
        """One notification is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[RetryNotification]) -> list[Any]:
        """Put one after the other back in its queue, each with an entry in the audit."""
        return [_retry(tx, command) for command in commands]


def _retry(tx: Transaction, command: RetryNotification) -> NotFoundError | AlreadyDeliveredError | str:
    found = tx.array("SELECT EACH[id, state, channel] FROM notifications WHERE uuid = :uuid", {"uuid": command.uuid})
    if not found:
        return NotFoundError(f"no notification has the id {command.uuid}; `pullcord notify list` shows the latest")
    number, state, channel = found[0]
    if state == DELIVERED:
        return AlreadyDeliveredError("the notification has arrived; there is nothing to try again")
    if state == GIVEN_UP:
        state = PENDING
    tx.execute(
        "UPDATE notifications SET state = :state, due_at = :clock, trying_since = :clock, ended_at = NULL "
        "WHERE id = :id",
        {"state": state, "clock": tx.clock, "id": number},
    )
    tx.execute(
        "INSERT INTO audit (id, at, invoker, action, subject_id) "
        "VALUES (:audit, :now, :invoker, 'notification.retry', :id)",
        {"audit": tx.next_id("audit"), "now": tx.now, "invoker": command.invoker, "id": number},
    )
    tx.hints.noted = True
    return str(channel)


@dataclass(slots=True)
class TurnBackOutbox:
    """Follow the clock, which went back: what is to be sent goes back with it, and nothing was sent in times to come.

    Attributes:
        at: the time now, microseconds.
        back: by how much the clock went back, microseconds.
    """

    keep_trying: ClassVar[bool] = True

    at: int
    back: int
    done: Callable[[Any], None]

    def split(self) -> Sequence[TurnBackOutbox]:
        """It takes no values."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[TurnBackOutbox]) -> list[None]:
        """Change the rows, one command after the other."""
        for command in commands:
            tx.execute(_BACK, {"at": command.at, "back": command.back})
        return [None] * len(commands)


# Pauses and windows stay as long as they were. The other times are only kept from lying in the future, so that it does
# no harm when a server that starts again before the clock has caught up does this twice.
_BACK = """
UPDATE notifications SET
    due_at = CASE WHEN ended_at IS NULL THEN due_at - :back WHEN due_at > :at THEN :at ELSE due_at END,
    sealed_at = CASE WHEN sealed_at > :at THEN :at ELSE sealed_at END,
    trying_since = CASE WHEN trying_since > :at THEN :at ELSE trying_since END
WHERE ended_at IS NULL OR due_at > :at OR sealed_at > :at"""


@dataclass(slots=True)
class NoteLongRuns:
    """Note that runs take long, for each channel once.

    Attributes:
        runs: number, flow, channels and what is said of each.
    """

    keep_trying: ClassVar[bool] = False

    runs: list[tuple[int, str, list[str], dict[str, Any]]]
    done: Callable[[Any], None]

    def split(self) -> Sequence[NoteLongRuns]:
        """One command a run."""
        return [NoteLongRuns([run], self.done) for run in self.runs]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[NoteLongRuns]) -> list[None]:
        """Note those that still go on and were not told of."""
        runs = [run for command in commands for run in command.runs]
        ids = {"ids": dump([run[0] for run in runs])}
        there = {row[0] for row in tx.array(_STILL, ids)}
        told = {(run, channel) for run, channel in tx.array(_TOLD, ids)}
        happenings: list[Happening] = []
        for number, flow, channels, detail in runs:
            fresh = [name for name in channels if (number, name) not in told]
            if number in there and fresh:
                told |= {(number, name) for name in fresh}
                happenings.append(Happening(LONG, flow, number, detail, channels=fresh))
        note_happenings(tx, happenings)
        return [None] * len(commands)


_STILL = "SELECT EACH[id] FROM runs WHERE id IN VALUES[ids:int] AND state || '' IN ('running', 'waiting', 'cancelling')"
_TOLD = f"SELECT EACH[run_id, channel] FROM happenings WHERE run_id IN VALUES[ids:int] AND event = '{LONG}'"


@dataclass(slots=True)
class TrimOutbox:
    """Delete notifications that ended long ago, the oldest first, a few at a time.

    Attributes:
        before: those that ended before, microseconds.
        most: at most so many.

    The result is how many were deleted.
    """

    keep_trying: ClassVar[bool] = False

    before: int
    most: int
    done: Callable[[Any], None]

    def split(self) -> Sequence[TrimOutbox]:
        """It takes no values."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[TrimOutbox]) -> list[int]:
        """Delete, one command after the other."""
        return [_trim(tx, command) for command in commands]


def _trim(tx: Transaction, command: TrimOutbox) -> int:
    oldest = tx.array(
        "SELECT EACH[id] FROM (SELECT id FROM notifications WHERE ended_at < :before ORDER BY id LIMIT :most) AS old",
        {"most": command.most, "before": command.before},
    )
    gone = [row[0] for row in oldest]
    if gone:
        ids = {"ids": dump(gone)}
        tx.execute("DELETE FROM happenings WHERE notification_id IN VALUES[ids:int]", ids)
        tx.execute("DELETE FROM notifications WHERE id IN VALUES[ids:int]", ids)
    return len(gone)
