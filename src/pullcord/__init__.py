"""Pullcord: where every run of a Python flow starts, and where it runs.

The public names are loaded when they are first used (PEP 562), so that a worker pays for pydantic and little more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pullcord import events as events
    from pullcord.app import App as App
    from pullcord.client import AsyncClient as AsyncClient
    from pullcord.client import Client as Client
    from pullcord.core.artifact import Artifact as Artifact
    from pullcord.core.artifact import artifact as artifact
    from pullcord.core.completion import completion as completion
    from pullcord.core.concurrency import Concurrency as Concurrency
    from pullcord.core.concurrency import Group as Group
    from pullcord.core.context import RunInfo as RunInfo
    from pullcord.core.context import cancelled as cancelled
    from pullcord.core.context import progress as progress
    from pullcord.core.context import run as run
    from pullcord.core.context import sleep as sleep
    from pullcord.core.errors import AnswerUnfitError as AnswerUnfitError
    from pullcord.core.errors import ArtifactError as ArtifactError
    from pullcord.core.errors import AskTimeoutError as AskTimeoutError
    from pullcord.core.errors import ChildFailedError as ChildFailedError
    from pullcord.core.errors import PullcordError as PullcordError
    from pullcord.core.errors import PullcordRuntimeError as PullcordRuntimeError
    from pullcord.core.errors import QuestionCancelledError as QuestionCancelledError
    from pullcord.core.errors import StepFailedError as StepFailedError
    from pullcord.core.errors import StepTimeoutError as StepTimeoutError
    from pullcord.core.event import Cursor as Cursor
    from pullcord.core.event import Fire as Fire
    from pullcord.core.event import PollError as PollError
    from pullcord.core.event import Skip as Skip
    from pullcord.core.event import event as event
    from pullcord.core.flow import flow as flow
    from pullcord.core.keep import Keep as Keep
    from pullcord.core.notify import on_cancel as on_cancel
    from pullcord.core.notify import on_failure as on_failure
    from pullcord.core.notify import on_failures as on_failures
    from pullcord.core.notify import on_long_run as on_long_run
    from pullcord.core.notify import on_missed as on_missed
    from pullcord.core.notify import on_question as on_question
    from pullcord.core.notify import on_recovery as on_recovery
    from pullcord.core.notify import on_retry as on_retry
    from pullcord.core.notify import on_skipped as on_skipped
    from pullcord.core.notify import on_success as on_success
    from pullcord.core.notify import on_suspended as on_suspended
    from pullcord.core.notify import on_trigger_disabled as on_trigger_disabled
    from pullcord.core.question import Default as Default
    from pullcord.core.question import ask as ask
    from pullcord.core.quotas import Rate as Rate
    from pullcord.core.retry import Retry as Retry
    from pullcord.core.step import step as step
    from pullcord.core.timetable.kinds import at as at
    from pullcord.core.timetable.kinds import cron as cron
    from pullcord.core.timetable.kinds import interval as interval
    from pullcord.core.webhook import webhook as webhook
    from pullcord.gate.request import Receipt as Receipt
    from pullcord.gate.request import RefusedError as RefusedError

__version__ = "0.1.0"

_HOMES = {
    "AnswerUnfitError": "core.errors",
    "App": "app",
    "Artifact": "core.artifact",
    "ArtifactError": "core.errors",
    "AskTimeoutError": "core.errors",
    "AsyncClient": "client",
    "ChildFailedError": "core.errors",
    "Client": "client",
    "Concurrency": "core.concurrency",
    "Cursor": "core.event",
    "Default": "core.question",
    "Fire": "core.event",
    "Keep": "core.keep",
    "Group": "core.concurrency",
    "PollError": "core.event",
    "Skip": "core.event",
    "event": "core.event",
    "events": "events",
    "PullcordError": "core.errors",
    "PullcordRuntimeError": "core.errors",
    "QuestionCancelledError": "core.errors",
    "Rate": "core.quotas",
    "Receipt": "gate.request",
    "RefusedError": "gate.request",
    "Retry": "core.retry",
    "RunInfo": "core.context",
    "StepFailedError": "core.errors",
    "StepTimeoutError": "core.errors",
    "artifact": "core.artifact",
    "ask": "core.question",
    "at": "core.timetable.kinds",
    "cancelled": "core.context",
    "completion": "core.completion",
    "cron": "core.timetable.kinds",
    "flow": "core.flow",
    "interval": "core.timetable.kinds",
    "on_cancel": "core.notify",
    "on_failure": "core.notify",
    "on_failures": "core.notify",
    "on_long_run": "core.notify",
    "on_missed": "core.notify",
    "on_question": "core.notify",
    "on_recovery": "core.notify",
    "on_retry": "core.notify",
    "on_skipped": "core.notify",
    "on_success": "core.notify",
    "on_suspended": "core.notify",
    "on_trigger_disabled": "core.notify",
    "progress": "core.context",
    "run": "core.context",
    "sleep": "core.context",
    "step": "core.step",
    "webhook": "core.webhook",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'pullcord' has no attribute {name!r}")
    value = import_module(f"pullcord.{name}") if home == name else getattr(import_module(f"pullcord.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
