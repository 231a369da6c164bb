"""Many cron schedules: a hundredth is due three times a minute in the same second, the others at times of their own."""

import os

import pullcord as pc

COUNT = int(os.environ.get("BENCH_TRIGGERS", "100000"))
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")


def expression(number: int) -> str:
    if number % 100 == 0:
        return "5,25,45 * * * * *"
    return f"{number % 60} {number // 60 % 24} * * {number // 1440 % 7}"


@pc.flow(
    concurrency=None,
    triggers=[
        pc.cron(expression(number), tz=ZONES[number % 4], name=f"at-{number}", parameters={"number": number})
        for number in range(COUNT)
    ],
)
async def work(number: int) -> int:
    return number
