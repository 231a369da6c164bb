"""What a location declares: names, flows, parameters, and what is refused where."""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar

import pullcord as pc
from pullcord.core.event import EventTrigger
from pullcord.core.flow import Flow
from pullcord.core.trigger import CRON, WEBHOOK, Declaration
from pullcord.worker.declarations import Declarations, collect


class Tick(Declaration):
    """A schedule."""

    kind = CRON

    def settings(self) -> dict[str, Any]:
        """Return nothing particular."""
        return {}


class Hook(Declaration):
    """A webhook."""

    kind = WEBHOOK

    def settings(self) -> dict[str, Any]:
        """Return nothing particular."""
        return {"mapped": True}


class Broken(Tick):
    """A schedule that cannot be described."""

    def settings(self) -> dict[str, Any]:
        """Raise."""
        raise ZeroDivisionError("no")


def flow(name: str, *triggers: Declaration) -> Flow[..., Any]:
    """Return a flow with triggers."""

    @pc.flow(name=name, triggers=list(triggers))
    def nothing() -> None: ...

    return nothing


def found(*parts: Flow[..., Any] | EventTrigger) -> Declarations:
    """Collect flows and events as if they were the globals of a module."""
    module = ModuleType("somewhere")
    module.__file__ = "somewhere.py"
    for index, part in enumerate(parts):
        setattr(module, f"part_{index}", part)
    return collect([module], {part: f"{part.name}.py:1" for part in parts if isinstance(part, Flow)})


def names(declarations: Declarations) -> dict[str, list[str]]:
    """Return the flows of each trigger."""
    return {spec["name"]: spec["flows"] for spec in declarations.specs}


def failures(declarations: Declarations) -> list[tuple[str, str]]:
    """Return places and messages."""
    return [(failure["place"], failure["message"]) for failure in declarations.failures]


def test_a_trigger_without_a_name_is_one_for_each_flow() -> None:
    tick = Tick(None, {"x": 1}, enabled=False)
    declarations = found(flow("a", tick, Hook(None)), flow("b", tick))
    assert names(declarations) == {"a-cron": ["a"], "a-webhook": ["a"], "b-cron": ["b"]}
    assert declarations.specs[0] == {
        "name": "a-cron", "kind": "cron", "flows": ["a"], "place": "a.py:1", "enabled": False, "parameters": {"x": 1},
        "description": "", "settings": {},
    }  # fmt: skip
    assert list(declarations.hooks) == ["a-webhook"]
    assert declarations.failures == []


def test_a_named_one_is_one_for_all_its_flows() -> None:
    tick = Tick("nightly")
    assert names(found(flow("a", tick), flow("b", tick))) == {"nightly": ["a", "b"]}


def test_names_that_cannot_be() -> None:
    declarations = found(flow("a", Tick(None), Tick(None)), flow("b", Tick("same")), flow("c", Tick("same")))
    assert names(declarations) == {"a-cron": ["a"], "same": ["b"]}
    (place, unnamed), (second, clash) = failures(declarations)
    assert (place, second) == ("a.py:1", "c.py:1")
    assert "give each name=" in unnamed
    assert "'same'" in clash
    assert "b.py:1" in clash
    long = found(flow("a" * 98, Tick(None)))
    assert long.specs == []
    assert "too long" in failures(long)[0][1]
    derived = found(flow("a", Tick(None)), flow("b", Tick("a-cron")))
    assert names(derived) == {"a-cron": ["a"]}
    assert len(derived.failures) == 1


def test_an_event_has_its_own_flows_and_those_that_list_it() -> None:
    @pc.event(flow=["b", "elsewhere"])
    def inbox() -> None:
        """Looks."""

    @pc.event
    async def listed() -> None: ...

    @pc.event
    def orphan() -> None: ...

    declarations = found(inbox, listed, orphan, flow("a", inbox, listed), flow("b", inbox))
    assert names(declarations) == {"inbox": ["b", "elsewhere", "a"], "listed": ["a"]}
    assert set(declarations.events) == {"inbox", "listed"}
    spec = declarations.specs[0]
    code = inbox.target.__code__  # type: ignore[attr-defined]
    assert spec["place"] == f"{code.co_filename}:{code.co_firstlineno}"
    assert (spec["description"], spec["settings"]["every"]) == ("Looks.", 5.0)
    ((place, message),) = failures(declarations)
    assert place.startswith(__file__)
    assert "name a flow" in message


def test_an_event_that_is_imported_elsewhere_is_one() -> None:
    @pc.event(flow="a")
    def inbox() -> None: ...

    assert names(found(inbox, inbox)) == {"inbox": ["a"]}
    twin = pc.event(flow="a")(inbox.target)
    assert len(failures(found(inbox, twin))) == 1


def test_parameters_are_checked() -> None:
    def inbox(state: pc.Cursor, folder: str, depth: int = 1) -> None: ...

    def plain() -> None: ...

    class Queue:
        """Has a place to look at."""

        def __init__(self, url: str) -> None: ...
        def poll(self, state: pc.Cursor) -> None: ...

    class Bare:
        """Takes nothing."""

        known: ClassVar[int] = 1

        def poll(self) -> None: ...

    def says(target: Any, **parameters: Any) -> str:
        declarations = found(pc.event(flow="a", name="e", parameters=parameters)(target))
        assert len(declarations.specs) + len(declarations.failures) == 1
        assert declarations.events.keys() == {spec["name"] for spec in declarations.specs}
        return declarations.failures[0]["message"] if declarations.failures else ""

    assert says(inbox, folder="/in") == ""
    assert says(inbox, folder="/in", depth="3") == ""
    assert "folder: Field required" in says(inbox)
    assert "depth" in says(inbox, folder="/in", depth="deep")
    assert "state: Extra inputs" in says(inbox, folder="/in", state=1)
    assert says(plain) == ""
    assert "x: Extra inputs" in says(plain, x=1)
    assert says(Queue, url="amqp://q") == ""
    assert "url: Field required" in says(Queue)
    assert says(Bare) == ""
    assert "x: Extra inputs" in says(Bare, x=1)


def test_functions_that_no_poll_can_call() -> None:
    def unannotated(state) -> None: ...  # type: ignore[no-untyped-def]

    def variadic(*args: int) -> None: ...

    def unknown(state: Elsewhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    class Greedy:
        """Wants too much."""

        def poll(self, state: pc.Cursor, more: int) -> None: ...

    messages = [
        found(pc.event(flow="a")(target)).failures[0]["message"] for target in (unannotated, variadic, unknown, Greedy)
    ]
    assert "annotated pc.Cursor" in messages[0]
    assert "plain parameters" in messages[1]
    assert "Elsewhere" in messages[2]
    assert "__init__" in messages[3]


def test_what_the_code_raises_stops_nothing_else() -> None:
    declarations = found(flow("a", Broken("bad"), Tick("good")))
    assert names(declarations) == {"good": ["a"]}
    ((place, message),) = failures(declarations)
    assert (place, message) == ("a.py:1", "the trigger 'bad': ZeroDivisionError: no")
    assert "ZeroDivisionError" in declarations.failures[0]["traceback"]
