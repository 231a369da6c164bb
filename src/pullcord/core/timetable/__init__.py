"""Schedules: when a flow is to run by itself. Pure rules; the time is told from outside.

All times inside are whole microseconds since 1970 UTC, as `pullcord.clock` gives them. A *tick* is a time at which a
schedule asks for a run; its *due* time is later by the jitter, if there is any.
"""

from __future__ import annotations

from pullcord.core.timetable.kinds import At, Cron, Interval, at, cron, interval
from pullcord.core.timetable.planning import Omitted, Plan, plan
from pullcord.core.timetable.schedule import Schedule, Tick
from pullcord.core.timetable.stored import schedule_of

__all__ = [
    "At",
    "Cron",
    "Interval",
    "Omitted",
    "Plan",
    "Schedule",
    "Tick",
    "at",
    "cron",
    "interval",
    "plan",
    "schedule_of",
]
