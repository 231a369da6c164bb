"""Completions with real workers: the end of a run starts others once, and nothing stands in the way of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pullcord.core.errors import UsageError
from pullcord.engine import catalog
from tests.system.triggering import Served, until

Serve = Callable[..., Any]

ENDS = """
@pc.flow(concurrency=None)
async def first(how: str = "well") -> dict:
    if how == "badly":
        raise ValueError("as told")
    if how == "slowly":
        await asyncio.sleep(600)
    return {"n": 7}


@pc.flow(concurrency=None, triggers=[pc.completion(first)])
def after_success(n: int) -> int:
    return n


def told_of(run):
    return {"state": run["state"], "how": run["inputs"]["how"], "error": (run["error"] or {}).get("message")}


@pc.flow(concurrency=None, triggers=[pc.completion("first", on=["failed", "cancelled"], inputs=told_of, name="mourn")])
def after_trouble(state: str, how: str, error: str | None, fixed: str = "") -> str:
    return state
"""


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    served: list[Served] = []

    async def start(source: str, *more: str, names: tuple[str, ...] = ()) -> Served:
        one = Served(tmp_path, source, *more)
        served.append(one)
        await one.start()
        await until(lambda: one.known(*names))
        return one

    yield start
    for one in served:
        await one.stop()


async def one_more(served: Served, flow: str, known: int = 0) -> dict[str, Any]:
    """Wait for the end of a flow's next run, and until no end is left that nobody has dealt with."""

    async def there() -> Any:
        runs = await served.runs(flow)
        return len(runs) > known and runs[known][0]

    run = await until(there)
    item = await served.end(run)
    await until(lambda: dealt_with(served))
    return item


async def dealt_with(served: Served) -> bool:
    return await served.rows("SELECT run_id FROM endings") == []


async def test_the_end_of_a_run_starts_what_waits_for_it_with_its_result(serve: Serve) -> None:
    served: Served = await serve(ENDS, names=("mourn",))
    run = (await served.app.run("first", wait=True)).run_id
    item = await one_more(served, "after-success")
    assert (item["inputs"], item["state"]) == ({"n": 7}, "succeeded")
    assert item["trigger"] == {"kind": "completion", "name": "after-success-completion"}
    assert item["invoker"]["id"] == "trigger:after-success-completion"
    assert item["invoker"]["on_behalf_of"] == ["owner"]
    assert item["reason"] == f"run {run} of first succeeded"
    assert await served.runs("after-trouble") == []
    (line,) = await served.history("after-success-completion")
    assert (line["outcome"], line["detail"]["run"]) == ("fired", run)


@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_other_ends_start_what_waits_for_them(serve: Serve, end: str) -> None:
    served: Served = await serve(ENDS, names=("mourn",))
    receipt = await served.app.run("first", {"how": "badly" if end == "failed" else "slowly"})
    if end == "cancelled":
        await served.app.cancel(receipt.run_id or "")
    item = await one_more(served, "after-trouble")
    assert item["inputs"]["state"] == end
    assert item["inputs"]["error"] == ("as told" if end == "failed" else None)
    assert await served.runs("after-success") == []


async def test_test_runs_start_nothing(serve: Serve) -> None:
    served: Served = await serve(ENDS, names=("mourn",))
    await served.app.run("first", wait=True, test=True)
    await served.app.run("first", wait=True)
    await one_more(served, "after-success")
    assert len(await served.runs("after-success")) == 1


async def test_each_end_starts_its_own_and_a_chain_says_on_whose_behalf(serve: Serve) -> None:
    served: Served = await serve(
        """
@pc.flow(concurrency=None)
def first(n: int) -> dict:
    return {"n": n}


@pc.flow(concurrency=None, triggers=[pc.completion(first)])
def second(n: int) -> dict:
    return {"n": n * 10}


@pc.flow(concurrency=None, triggers=[pc.completion(second), pc.completion(first, name="also")])
def third(n: int) -> int:
    return n
""",
        names=("third-completion", "also", "second-completion"),
    )
    for n in range(20):
        await served.app.run("first", {"n": n})

    async def all_there() -> bool:
        runs = await served.runs("third")
        return len(runs) >= 40 and {state for _, state, _ in runs} == {"succeeded"} and await dealt_with(served)

    await until(all_there)
    found = sorted(inputs["n"] for _, _, inputs in await served.runs("third"))
    assert found == sorted([*range(20), *range(0, 200, 10)])
    rows = await served.rows(
        "SELECT DISTINCT q.trigger_name, q.invoker, q.on_behalf_of FROM requests q WHERE q.flow = 'third' "
        "AND q.outcome = 'admitted'"
    )
    assert sorted(rows) == [
        ("also", "trigger:also", '["owner"]'),
        ("third-completion", "trigger:third-completion", '["owner", "trigger:second-completion"]'),
    ]


async def test_a_function_that_skips_or_raises_is_in_ledger_and_history(serve: Serve) -> None:
    served: Served = await serve(
        """
@pc.flow(concurrency=None)
def first(how: str) -> str:
    return how


def choose(run):
    if run["result"] == "skip":
        return pc.Skip("nothing to do")
    if run["result"] == "raise":
        raise LookupError("no such thing")
    if run["result"] == "wrong":
        return {"n": "no number"}
    return pc.Fire({"n": 1})


@pc.flow(concurrency=None, triggers=[pc.completion(first, inputs=choose, name="chosen")])
def second(n: int) -> int:
    return n
""",
        names=("chosen",),
    )
    for how in ("skip", "raise", "wrong", "run"):
        await served.app.run("first", {"how": how}, wait=True)
    await one_more(served, "second")
    assert await served.outcomes("chosen") == {"skipped": 1, "errored": 1, "rejected": 1, "admitted": 1}
    told = {line["outcome"]: line["reason"] for line in await served.history("chosen")}
    assert "nothing to do" in told["skipped"]
    assert "LookupError: no such thing" in told["failed"]
    assert "n:" in told["refused"]


async def test_a_disabled_one_skips_and_its_states_can_be_changed(serve: Serve) -> None:
    served: Served = await serve(ENDS, names=("mourn",))
    await served.change("after-success-completion", enabled=False, reason="not now")
    await served.app.run("first", wait=True)
    await until(lambda: dealt_with(served))
    assert await served.outcomes("after-success-completion") == {"skipped": 1}
    assert await served.runs("after-success") == []
    await served.change("after-success-completion", enabled=True)
    await served.change("mourn", settings={"on": ["succeeded"]}, parameters={"fixed": "by people"})
    await served.app.run("first", wait=True)
    item = await one_more(served, "after-trouble")
    assert (item["inputs"]["state"], item["inputs"]["fixed"]) == ("succeeded", "by people")
    for wrong in ({"on": []}, {"on": ["running"]}, {"of": ["another"]}):
        with pytest.raises(UsageError):
            await served.change("mourn", settings=wrong)
    with pytest.raises(UsageError):
        await served.change("mourn", cursor="now")


OTHER = """
@pc.flow(concurrency=None, triggers=[pc.completion("first", name="elsewhere")])
def beyond(n: int) -> int:
    return n
"""


async def test_a_flow_in_another_location_is_waited_for(serve: Serve) -> None:
    served: Served = await serve(ENDS, OTHER, names=("mourn", "elsewhere"))
    await served.app.run("first", wait=True)
    assert (await one_more(served, "beyond"))["inputs"] == {"n": 7}
    assert len(await served.runs("after-success")) == 1


async def test_a_flow_that_cannot_be_reached_holds_up_no_other_end(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "PATIENCE", 0.1)
    served: Served = await serve(ENDS, OTHER, names=("mourn", "elsewhere"))
    good = served.files[1].read_text()
    await served.stop()
    served.files[1].write_text("raise RuntimeError('broken')\n")
    await served.start()
    for number in range(3):
        await served.app.run("first", wait=True)
        await until(lambda number=number: _count(served, "after-success", number + 1))
    assert await served.runs("beyond") == []
    served.files[1].write_text(good)
    served.app.reload()
    await until(lambda: _count(served, "beyond", 3), patience=100.0)  # they are tried again ever more rarely
    await until(lambda: dealt_with(served))
    assert len(await served.runs("beyond")) == 3
    assert len(await served.runs("after-success")) == 3


async def _count(served: Served, flow: str, least: int) -> bool:
    return len(await served.runs(flow)) >= least


async def test_a_circle_is_refused_where_it_closes(serve: Serve) -> None:
    served: Served = await serve(
        """
@pc.flow(triggers=[pc.completion("b", name="a-after-b")])
def a() -> None: ...


@pc.flow(triggers=[pc.completion("a", name="b-after-a")])
def b() -> None: ...


@pc.flow(triggers=[pc.completion("c", name="c-after-c")])
def c() -> None: ...
""",
        names=("a-after-b",),
    )
    assert not served.known("b-after-a")
    assert not served.known("c-after-c")
    messages = [failure["message"] for failure in served.app.engine.catalog.failures]
    assert any("closes a circle of flows that start one another: a → b → a" in message for message in messages)
    assert any("c → c" in message for message in messages)


async def test_a_circle_over_two_locations_is_refused_too(serve: Serve) -> None:
    served: Served = await serve(
        """
@pc.flow(triggers=[pc.completion("b", name="a-after-b")])
def a() -> None: ...
""",
        """
@pc.flow(triggers=[pc.completion("a", name="b-after-a")])
def b() -> None: ...
""",
    )
    await until(lambda: any("circle" in failure["message"] for failure in served.app.engine.catalog.failures))
    assert [served.known("a-after-b"), served.known("b-after-a")].count(True) == 1
    run = (await served.app.run("a", wait=True)).run
    assert run is not None
    assert run["state"] == "succeeded"


async def test_ends_that_a_server_without_triggers_notes_are_dealt_with_by_the_next(serve: Serve) -> None:
    """A single run from the command line starts nothing by itself; what waits for it starts with the server."""
    from pullcord import App

    served: Served = await serve(ENDS, names=("mourn",))
    await served.stop()
    async with App(served.files, served.data_dir, workers=1, only_new=True, stop_patience=0.0) as app:
        await app.run("first", wait=True)
    await served.start()
    assert (await one_more(served, "after-success"))["inputs"] == {"n": 7}
