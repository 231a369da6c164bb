"""The Prefect user code that is measured; `python -m bench.peers.prefect_flows` serves the deployment.

Asynchronous flows, because leaving a synchronous one waits for a heartbeat thread asleep for a second. Kept apart
from the measuring script because the runner loads this file anew for every served run.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"

import time

from prefect import flow, task

STEPS = 10
DEPLOYMENT = "served-flow/bench"

started: list[float] = []


@task
async def async_step(number: int) -> int:
    """One trivial recorded step."""
    return number + 1


@task
def step(number: int) -> int:
    """Do the same without async: ten of these in a row measured faster than ten awaited ones."""
    return number + 1


@flow
async def one_step(triggered: float) -> int:
    """Note how long it took to get here, then do one step."""
    started.append(time.monotonic() - triggered)
    return await async_step(1)


@flow
async def ten_steps() -> None:
    """Ten steps, one after the other."""
    for number in range(STEPS):
        step(number)


@flow
async def served_flow(triggered: float, log: str) -> int:
    """Run in a process of its own, so the time is left in a file (the monotonic clock is the machine's)."""
    waited = time.monotonic() - triggered
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"{waited}\n")
    return await async_step(1)


if __name__ == "__main__":
    served_flow.serve(name="bench", limit=4, print_starting_message=False)
