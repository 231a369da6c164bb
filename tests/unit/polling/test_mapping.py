"""Mapping functions in a real worker: what they are called with, and what they may return."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit.polling.harness import ServerEnd

HOOKS = """
from pullcord.core.trigger import Declaration

class Hook(Declaration):
    kind = "webhook"
    def __init__(self, name, inputs=None):
        super().__init__(name)
        self.inputs = inputs
    def settings(self): return {}

class Completion(Hook):
    kind = "completion"

def body(given): return {"given": given}
def both(given, headers): return pc.Fire({"given": given, "signed": headers["x-signature"]}, key="k")
def option(given, *, strict=False): return {"given": given}
def several(*given): return {"count": len(given)}
async def asynchronous(given):
    await asyncio.sleep(0)
    return [pc.Fire({"n": n}) for n in given]
def skips(given): return pc.Skip("not ours")
def nothing(given): return None
def wrong(given): return 5
def raises(given): raise ValueError(given["no"])
def ended(run): return {"id": run["id"]}

FUNCTIONS = [body, both, option, several, asynchronous, skips, nothing, wrong, raises]

@pc.flow(triggers=[*(Hook(f.__name__, f) for f in FUNCTIONS), Hook("bare"), Completion("ended", ended)])
def target(x: int = 1) -> int: return x
"""


def test_mappings(serve: Callable[..., ServerEnd]) -> None:
    server = serve(HOOKS)
    assert server.manifest["failures"] == []

    def hook(name: str, body: object = 1) -> list[object]:
        return server.map(name, {"body": body, "headers": {"x-signature": "s"}})

    assert hook("body") == ["fire", [['{"given":1}', None]]]
    assert hook("both", [1]) == ["fire", [['{"given":[1],"signed":"s"}', "k"]]]
    assert hook("option") == ["fire", [['{"given":1}', None]]]
    assert hook("several") == ["fire", [['{"count":2}', None]]]
    assert hook("asynchronous", [1, 2]) == ["fire", [['{"n":1}', None], ['{"n":2}', None]]]
    assert hook("skips") == ["skip", "not ours"]
    assert hook("nothing") == ["skip", None]
    assert server.map("ended", {"id": "r"}) == ["fire", [['{"id":"r"}', None]]]
    for name, kind in [("wrong", "poll_result"), ("raises", "TypeError"), ("bare", "not_found"), ("no", "not_found")]:
        outcome, detail = hook(name)
        assert outcome == "failed"
        assert isinstance(detail, dict)
        assert detail["type"] == kind
