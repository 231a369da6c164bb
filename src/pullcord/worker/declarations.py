"""The triggers that a location declares: beside its flows, and as events of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from types import FunctionType, ModuleType
from typing import Any

from pydantic_core import to_json

from pullcord.core.errors import DefinitionError, PullcordError
from pullcord.core.event import EventTrigger
from pullcord.core.flow import Flow
from pullcord.core.trigger import NAME_RULE, SCHEDULES, Declaration
from pullcord.worker.events import Signature, signature_of
from pullcord.worker.failures import clean, cut_traceback


@dataclass(slots=True)
class Event:
    """An event that can be polled.

    Attributes:
        trigger: as declared.
        signature: how it is called.
    """

    trigger: EventTrigger
    signature: Signature


@dataclass(slots=True)
class Declarations:
    """The triggers of a location.

    Attributes:
        specs: what the manifest says of each, JSON.
        events: by name.
        hooks: declarations that may have a mapping function, by name.
        failures: `{"place", "message", "traceback"}` for what cannot be.
    """

    specs: list[dict[str, Any]] = field(default_factory=list)
    events: dict[str, Event] = field(default_factory=dict)
    hooks: dict[str, Declaration] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Found:
    """A named trigger, and what has been learnt of it so far."""

    declaration: Declaration
    place: str
    flows: list[str]


def digest_of(specs: list[dict[str, Any]], *, complete: bool) -> str:
    """Return what stands for all triggers of a location, 64 hexadecimal digits.

    Args:
        specs: the triggers as the manifest has them.
        complete: whether all files of the location loaded.
    """
    return sha256(to_json([complete, specs])).hexdigest()


def collect(modules: Iterable[ModuleType], flows: Mapping[Flow[..., Any], str]) -> Declarations:
    """Find the triggers of modules and flows.

    Args:
        modules: whose globals may be events.
        flows: the location's flows, each with its place (`file:line`).
    """
    declarations = Declarations()
    found: dict[str, _Found] = {}
    for flow, place in flows.items():
        unnamed: set[str] = set()
        for declaration in flow.triggers:
            name, flow_name = declaration.name, flow.name
            if name is None:
                name = f"{flow_name}-{declaration.kind}"
                if name in unnamed:
                    message = f"{flow_name} has two triggers of kind {declaration.kind} without a name; give each name="
                    _fail(declarations, place, message)
                    continue
                unnamed.add(name)
                if NAME_RULE.fullmatch(name) is None:
                    _fail(declarations, place, f"{name!r} is too long for the name of a trigger; give it name=")
                    continue
            known = found.get(name)
            if known is None:
                found[name] = _Found(declaration, _place_of(declaration) or place, [flow_name])
            elif known.declaration is declaration:
                known.flows.append(flow_name)
            else:
                _clash(declarations, name, place, known)
    for module in modules:
        for value in list(vars(module).values()):
            if isinstance(value, EventTrigger) and value.name is not None:
                place = _place_of(value) or str(getattr(module, "__file__", None) or module.__name__)
                known = found.get(value.name)
                if known is None:
                    found[value.name] = _Found(value, place, [])
                elif known.declaration is not value:
                    _clash(declarations, value.name, place, known)
    signatures: dict[Any, Signature] = {}
    for name, item in found.items():
        try:
            _take(declarations, name, item, signatures)
        except PullcordError as error:
            _fail(declarations, item.place, error.message)
        except Exception as error:
            # Annotations, defaults and settings are the user's code too.
            message = f"the trigger {name!r}: {type(error).__name__}: {error}"
            _fail(declarations, item.place, message, cut_traceback(error))
    return declarations


def _take(declarations: Declarations, name: str, item: _Found, signatures: dict[Any, Signature]) -> None:
    declaration, flows, description = item.declaration, item.flows, ""
    if isinstance(declaration, EventTrigger):
        flows = list(dict.fromkeys([*declaration.flows, *flows]))
        if not flows:
            raise DefinitionError(
                f"the event {name!r} runs nothing; name a flow: @pc.event(flow=…), or list it in a flow's triggers"
            )
        declarations.events[name] = Event(declaration, signature_of(declaration, signatures))
        description = clean(declaration.description)
    elif declaration.kind not in SCHEDULES:
        declarations.hooks[name] = declaration
    declarations.specs.append(
        {
            "name": name,
            "kind": declaration.kind,
            "flows": flows,
            "place": item.place,
            "enabled": declaration.enabled,
            "parameters": declaration.parameters,
            "description": description,
            "settings": declaration.settings(),
        }
    )


def _clash(declarations: Declarations, name: str, place: str, known: _Found) -> None:
    message = f"two triggers are called {name!r}: at {known.place} and {place}; give one another name="
    _fail(declarations, place, message)


def _fail(declarations: Declarations, place: str, message: str, traceback: str = "") -> None:
    declarations.failures.append({"place": place, "message": clean(message), "traceback": traceback})


def _place_of(declaration: Declaration) -> str | None:
    """Return where the user wrote an event; None for what is declared in place, and for events of this package."""
    if not isinstance(declaration, EventTrigger) or declaration.target.__module__.partition(".")[0] == "pullcord":
        return None
    function: Any = declaration.target
    if not isinstance(function, FunctionType):
        # Where poll() is inherited, another method says where the class is.
        own = (value for value in vars(function).values() if isinstance(value, FunctionType))
        function = vars(function).get("poll") or next(own, None)
    code = getattr(function, "__code__", None)
    return None if code is None else f"{code.co_filename}:{code.co_firstlineno}"
