"""Two hundred events of one function."""

import pullcord as pc


@pc.flow
async def handle(number: int) -> int:
    return number


async def look(number: int) -> pc.Skip:
    return pc.Skip(str(number))


for number in range(200):
    globals()[f"look_{number}"] = pc.event(
        flow=handle, every="1h", name=f"look-{number}", parameters={"number": number}
    )(look)
