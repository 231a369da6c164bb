"""Loading a code location: a module, a file or a folder. What does not import is reported and stops nothing else."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic_core import to_json

from pullcord.core.errors import DefinitionError
from pullcord.core.flow import Flow
from pullcord.core.readable import misread
from pullcord.core.results import in_a_line
from pullcord.worker.declarations import Declarations, collect
from pullcord.worker.failures import clean, cut_traceback
from pullcord.worker.sources import ExactLoader, import_exactly

_SKIPPED = {"__pycache__", "node_modules", "venv", ".venv"}


@dataclass(slots=True)
class Location:
    """What a location contains.

    Attributes:
        flows: by name.
        specs: what the manifest says of each, JSON.
        failures: `{"place", "message", "traceback"}` for what could not be loaded.
        triggers: what asks for runs, when it was to be looked for.
    """

    flows: dict[str, Flow[..., Any]] = field(default_factory=dict)
    specs: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    triggers: Declarations = field(default_factory=Declarations)

    @property
    def versions(self) -> dict[str, str]:
        """The version of each flow by name."""
        return {spec["name"]: spec["version"] for spec in self.specs}


def load(kind: str, target: str, *, triggers: bool = False) -> Location:
    """Import a location and register its flows.

    Args:
        kind: `module`, `file` or `folder`.
        target: the module's name, or the path.
        triggers: whether to look for triggers too, which only costs where nobody polls them.
    """
    location = Location()
    if kind != "module" and not Path(target).exists():
        message = f"there is no {kind} {target}; make it, or correct path = in the settings, and reload"
        location.failures.append({"place": target, "message": message, "traceback": ""})
        return location
    modules: list[ModuleType] = []
    for name, place, root in _sources(kind, target):
        import_exactly(Path.cwd() if root is None else Path(root))
        if root is not None and root not in sys.path:
            sys.path.insert(0, root)
        try:
            modules.append(importlib.import_module(name) if root is None else _import_file(name, Path(place)))
        except (Exception, SystemExit) as error:
            line = _line_of(error, place)
            location.failures.append(
                {
                    "place": f"{place}:{line}" if line else place,
                    "message": f"{type(error).__name__}: {error}",
                    "traceback": cut_traceback(error),
                }
            )
    own = {module.__name__ for module in modules}
    for module in modules:
        for value in list(vars(module).values()):
            if isinstance(value, Flow) and (
                value.function.__module__ == module.__name__ or value.function.__module__ not in own
            ):
                _register(location, value)
    if triggers:
        location.triggers = collect(modules, {flow: _place(flow) for flow in location.flows.values()})
        location.failures += location.triggers.failures
    # A file's name and what its errors say may be no UTF-8.
    location.failures = [{key: clean(text) for key, text in failure.items()} for failure in location.failures]
    return location


def _sources(kind: str, target: str) -> list[tuple[str, str, str | None]]:
    """Return `(module name, place, folder to put on the path)` of everything to import."""
    if kind == "module":
        if "" not in sys.path:
            sys.path.insert(0, "")
        return [(target, target, None)]
    path = Path(target).resolve()
    if kind == "file":
        return [(path.stem.replace(".", "_"), str(path), str(path.parent))]
    if (path / "__init__.py").exists():
        prefix, root = f"{path.name}.", str(path.parent)
    else:
        prefix, root = "", str(path)
    files = sorted(path.rglob("*.py"))
    visible = [
        file
        for file in files
        if not any(part in _SKIPPED or part.startswith(".") for part in file.relative_to(path).parts)
    ]
    found: list[tuple[str, str, str | None]] = []
    for file in visible:
        parts = tuple(part.replace(".", "_") for part in file.relative_to(path).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts = parts[:-1]
        name = (prefix + ".".join(parts)).rstrip(".")
        if name:
            found.append((name, str(file), root))
    return found


def _import_file(name: str, path: Path) -> ModuleType:
    """Import a file under its name, unless another module that is in use has that name."""
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if known is not None:
        raise ImportError(f"{path.name} has the name of the module {name!r}, which others need; rename the file")
    parent = name.rpartition(".")[0]
    if parent:
        importlib.import_module(parent)
    submodules = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=submodules)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported as Python")
    if isinstance(spec.loader, SourceFileLoader):
        spec.loader = ExactLoader(name, str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _register(location: Location, flow: Flow[..., Any]) -> None:
    place = _place(flow)
    known = location.flows.get(flow.name)
    if known is flow:
        return
    if known is not None:
        message = f"two flows are called {flow.name!r}: {_place(known)} and {place}; give one another name="
        location.failures.append({"place": place, "message": message, "traceback": ""})
        return
    try:
        schema = flow.inputs.schema
        flow.codec  # noqa: B018  a return annotation that cannot be kept shows up here, not in the first run
    except Exception as error:
        # Annotations are the user's code too: `from __future__ import annotations` has them evaluated only now.
        message = error.message if isinstance(error, DefinitionError) else f"{type(error).__name__}: {error}"
        location.failures.append({"place": place, "message": message, "traceback": ""})
        return
    spec = {
        "name": flow.name,
        "version": flow.version or _source_version(flow),
        "place": place,
        "description": clean(flow.description),
        "input_schema": schema,
        "settings": flow.settings.as_json(),
        "is_async": flow.is_async,
    }
    reason = _unreadable(spec)
    if reason is not None:  # one flow must not cost the location its manifest
        message = f"the server cannot read what {flow.name!r} declares: {reason}; say it in a simpler way"
        location.failures.append({"place": place, "message": message, "traceback": ""})
        return
    location.flows[flow.name] = flow
    location.specs.append(spec)


def _unreadable(spec: dict[str, Any]) -> str | None:
    try:
        return misread(to_json([[[[spec]]]]))  # as deep as it is in a message
    except ValueError as error:
        return in_a_line(error)


def _place(flow: Flow[..., Any]) -> str:
    code = flow.function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def _source_version(flow: Flow[..., Any]) -> str:
    """Return 12 digits of the hash of the source of the flow's module."""
    try:
        source = Path(inspect.getsourcefile(flow.function) or "").read_bytes()
    except OSError:
        source = flow.function.__code__.co_code
    return sha256(source).hexdigest()[:12]


def _line_of(error: BaseException, place: str) -> int | None:
    """Return the line of the user's file that an import failed at."""
    if isinstance(error, SyntaxError) and error.filename == place:
        return error.lineno
    line = None
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == place:
            line = frame.tb_lineno
        frame = frame.tb_next
    return line
