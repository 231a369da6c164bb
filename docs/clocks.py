"""Draw `docs/images/daylight-saving.svg`: what schedules do on the two nights on which clocks are changed.

The dots are what the schedules themselves answer, so that the picture is the code's. `make schema` writes it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final
from zoneinfo import ZoneInfo

import pullcord as pc
from pullcord.core.timetable import Schedule

ZONE: Final = "Europe/Berlin"
NIGHTS: Final = {
    "29 March 2026: 02:00 to 03:00 does not exist": datetime(2026, 3, 28, 23, tzinfo=UTC),
    "25 October 2026: 02:00 to 03:00 happens twice": datetime(2026, 10, 24, 22, tzinfo=UTC),
}
SCHEDULES: Final[dict[str, Schedule]] = {
    'cron("30 2 * * *")': pc.cron("30 2 * * *", tz=ZONE),
    'cron("*/30 * * * *")': pc.cron("*/30 * * * *", tz=ZONE),
    'cron("*/30 2 * * *")': pc.cron("*/30 2 * * *", tz=ZONE),
    'interval("1h")': pc.interval("1h", tz=ZONE, start="2026-01-01"),
}
SLOTS: Final = 11
"""Half hours that are shown."""
HALF: Final = timedelta(minutes=30)
LEFT, STEP, ROW, TOP, WIDTH = 220, 58, 34, 74, 880
BACKGROUND, TEXT, FAINT, CHANGED, DOT = "#181a21", "#d6dae4", "#7a8093", "#3a3220", "#7ec679"


def picture() -> str:
    """Return the picture; no fonts and styles from elsewhere."""
    height = TOP + ROW * len(SCHEDULES) + 16
    nights = [
        f'<g transform="translate(0 {number * (height + 12)})">\n'
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{BACKGROUND}"/>\n{_night(title, begin, height)}\n</g>'
        for number, (title, begin) in enumerate(NIGHTS.items())
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {2 * height + 12}" width="{WIDTH}" role="img" '
        'aria-label="When schedules fire on the nights on which clocks go forward and back: a fixed time once, slots '
        'whenever the clocks show them, an interval at equal distances">\n'
        "<style>text { font-family: ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; font-size: 13px } "
        "</style>\n" + "\n".join(nights) + "\n</svg>\n"
    )


def _night(title: str, begin: datetime, height: int) -> str:
    place = ZoneInfo(ZONE)
    moments = [begin + count * HALF for count in range(SLOTS)]
    shown = [moment.astimezone(place) for moment in moments]
    parts = [_text(18, 28, title, TEXT)]
    for number, local in enumerate(shown):
        if _twice(local):
            parts.append(
                f'<rect x="{_x(number) - STEP / 2:g}" y="{TOP - 34}" width="{STEP}" height="{height - TOP + 26}" '
                f'fill="{CHANGED}"/>'
            )
        parts.append(_text(_x(number), TOP - 16, f"{local:%H:%M}", FAINT, "middle"))
        if number and local.utcoffset() != shown[number - 1].utcoffset():
            x = _x(number) - STEP / 2
            parts.append(
                f'<line x1="{x:g}" x2="{x:g}" y1="{TOP - 34}" y2="{height - 8}" '
                'stroke="#e5c067" stroke-dasharray="4 3"/>'
            )
    for row, (name, schedule) in enumerate(SCHEDULES.items()):
        y = TOP + row * ROW + 16
        parts.append(_text(18, y + 4, name, TEXT))
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 18}" y1="{y}" y2="{y}" stroke="#2c303b"/>')
        for tick in schedule.preview(SLOTS, begin - timedelta(seconds=1)):
            number = (datetime.fromtimestamp(tick.at / 1e6, UTC) - begin) / HALF
            if number < SLOTS:
                note = "".join(f"<title>{escape(note)}</title>" for note in tick.notes)
                parts.append(f'<circle cx="{_x(number):g}" cy="{y}" r="6" fill="{DOT}">{note}</circle>')
    return "\n".join(parts)


def _twice(local: datetime) -> bool:
    return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()


def _x(number: float) -> float:
    return LEFT + STEP / 2 + number * STEP


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y}" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'
