"""Write what follows from the code: the reference pages and the snapshot of the database schema (`make schema`).

A test holds the files equal to what this gives, so run it after a change of the code and commit what it writes.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pullcord
from pullcord import events, failpoints
from pullcord.api import problems
from pullcord.api.metrics import METRICS
from pullcord.cli import deep
from pullcord.client import Page, ServerUnreachableError, UnexpectedAnswerError
from pullcord.client.channels import Channels
from pullcord.client.events import Event
from pullcord.client.notifications import Notifications
from pullcord.client.sync import Flows, Requests, Runs, Triggers
from pullcord.core import errors, headlines
from pullcord.core.errors import PullcordError
from pullcord.core.keep import DAY, Retention
from pullcord.core.notify import EVENTS, Rule
from pullcord.core.states import ACTIVE, ENDED, TRANSITIONS, Outcome, RunState, StepState
from pullcord.core.timetable import Schedule, Tick
from pullcord.engine.statistics import MOST_FLOWS, OTHER
from pullcord.events import QueueDepth
from pullcord.failpoints import POINTS
from pullcord.gate.request import OWNER
from pullcord.notify.compose import LEVELS
from pullcord.settings import Settings
from pullcord.store import migrate
from pullcord.store.queries.invariants.documents import DOCUMENTS
from pullcord.store.queries.invariants.rules import INVARIANTS
from pullcord.triggers.manual import ManualTrigger
from pullcord.triggers.protocol import Trigger
from pullcord.wire import messages

sys.path.insert(0, str(Path(__file__).parent))
import clocks
import docstrings
from commands import command_line

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "pullcord"
NOTE = "<!-- Written by docs/generate.py (`make schema`); change the code, not this file. -->\n\n"


def page(title: str, *parts: str) -> str:
    """Return a page: note, title, parts."""
    text = NOTE + "\n\n".join([f"# {title}", *parts]) + "\n"
    return re.sub(r"\(design rule (\d+)\)", r"([rule \1](../explanation/architecture.md#rules))", text)


def table(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    head = list(headers)
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


NAMED_ONLY = ("core/states.py", "gate/request.py", "api/problems.py", "store/queries/invariants/rules.py")
"""Where outcomes are named that nothing may give yet."""


def _used(text: str, *apart: str) -> bool:
    """Say whether a text occurs in the source, files named `apart` left out."""
    return any(
        text in path.read_text(encoding="utf-8")
        for path in SOURCE.rglob("*.py")
        if str(path.relative_to(SOURCE)) not in apart
    )


# --- states --------------------------------------------------------------------------------------

RUN_STATES = {
    RunState.SCHEDULED: "It starts not before a time: `not_before`, or the back-off before another attempt.",
    RunState.QUEUED: "It waits for a concurrency slot or a free worker.",
    RunState.RUNNING: "A worker executes it, or will as soon as one is there to go on with it.",
    RunState.WAITING: "It waits for an answer, a time, a child run or its code. It keeps its slot, and lends its room; "
    "for answers and long times it is in no worker.",
    RunState.CANCELLING: "Somebody asked to cancel it, and its worker has not stopped it yet.",
    RunState.SUCCEEDED: "The flow returned; the result is recorded.",
    RunState.FAILED: "The flow raised, took too long, or lost its worker too often; the error is recorded.",
    RunState.CANCELLED: "It was cancelled.",
}
STEP_STATES = {
    StepState.RUNNING: "It has been running for a tenth of a second or longer; a shorter one shows at its end.",
    StepState.RETRYING: "A try failed, and another one will come.",
    StepState.SUCCEEDED: "Its result is recorded; in this run it is never called again.",
    StepState.FAILED: "Its last try failed; the error is recorded.",
    StepState.INTERRUPTED: "Its run stopped and cut it off: no result, no error, and perhaps half of its work done.",
}
OUTCOMES = {
    Outcome.ADMITTED: "It became a run.",
    Outcome.REPLAYED: "The same request id or idempotency key was used before, for the same: the original's receipt.",
    Outcome.DEDUPLICATED: "A run with the same event context is active.",
    Outcome.SKIPPED: "The overlap policy says so.",
    Outcome.REJECTED: "It is refused; the `code` says why.",
    Outcome.AWAITING_APPROVAL: "Somebody has to approve it first.",
    Outcome.DENIED: "It was not approved.",
    Outcome.EXPIRED: "It waited for longer than it was good for.",
    Outcome.MISSED: "Its time passed while no server ran.",
    Outcome.ERRORED: "Something failed while it was decided on, or while it was asked for.",
}


def states_page() -> str:
    """Return `states.md`."""
    diagram = ["stateDiagram-v2", "    [*] --> scheduled: not before a time", "    [*] --> queued"]
    diagram += [
        f"    {state} --> {following}"
        for state in RunState
        for following in RunState
        if following in TRANSITIONS[state]
    ]
    diagram += [f"    {state} --> [*]" for state in RunState if state in ENDED]
    marks = {True: "✓", False: ""}
    transitions = [
        [f"**{state}**", *(marks[following in TRANSITIONS[state]] for following in RunState)] for state in RunState
    ]
    kinds = {state: "ended" if state in ENDED else "holds a slot" if state in ACTIVE else "" for state in RunState}
    produced = {each: _used(f"Outcome.{each.name}", *NAMED_ONLY) for each in Outcome}
    return page(
        "States",
        "All tables here are made from `pullcord.core.states`, which the code itself goes by.",
        "## Runs",
        "```mermaid\n" + "\n".join(diagram) + "\n```",
        table(["state", "meaning", ""], ([f"`{state}`", RUN_STATES[state], kinds[state]] for state in RunState)),
        "An ended run stays ended. A retry is a new attempt of the same run, before it ends: `running → scheduled`. "
        "A re-run is a new run that names the one it repeats. So is a resume, and it keeps the recorded steps of the "
        "one it names. A run that loses its worker stays `running` and goes on "
        "in another one; `takeovers` counts how often.",
        "## Which state may follow which",
        table(["from ↓ to →", *RunState], transitions),
        "## Steps",
        table(["state", "meaning"], ([f"`{state}`", STEP_STATES[state]] for state in StepState)),
        "## Outcomes of a request",
        "Every request leaves a row in the ledger with one of these outcomes. Those marked *not yet* belong to "
        "features that are not there yet; this version never gives them.",
        table(
            ["outcome", "meaning", ""],
            ([f"`{each}`", OUTCOMES[each], "" if produced[each] else "*not yet*"] for each in Outcome),
        ),
    )


# --- errors --------------------------------------------------------------------------------------


def _classes() -> dict[str, type[PullcordError]]:
    modules = [
        errors, *(import_module(f"pullcord.{name}") for name in (
            "core.event", "wire.frames", "engine.catalog", "api.admission", "client.errors",
        )),
    ]  # fmt: skip
    kinds = [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, PullcordError) and kind.__module__ == module.__name__
    ]
    return {kind.code: kind for kind in kinds if kind is not PullcordError}


UNCLASSED = {
    "idempotency_conflict": "The idempotency key was used before, with other inputs or for something else.",
    "request_id_conflict": "The request id was used before, with other inputs or for something else.",
    "duplicate_delivery": "The sender used the id of this delivery before, for another body.",
    "parent_stopped": "The run that called the flow was cancelled, or ended, before its child run was admitted.",
    "would_deadlock": "An ancestor of the child run holds the concurrency slot that it would wait for.",
    "method_not_allowed": "The address does not take that HTTP method.",
    "overlap_rejected": "Another run of the flow is active, and the flow's policy is to reject.",
    "flow_paused": "The flow is paused.",
    "not_resumable": "The run cannot be resumed.",
    "rate_limited": "Too many requests in too short a time.",
    "queue_full": "Too many runs of the flow are queued.",
}


def errors_page() -> str:
    """Return `errors.md`."""
    from pullcord.cli.failing import FAILED, STATUS

    classes = _classes()
    rows = []
    for code in sorted({*classes, *problems.STATUS, *STATUS}):
        kind = classes.get(code)
        later = "" if kind is not None or _used(f'"{code}"', "api/problems.py", "cli/failing.py") else " *(not yet)*"
        meaning = docstrings.parse(kind).first if kind is not None else UNCLASSED[code]
        http = str(problems.STATUS[code]) if code in problems.STATUS else "-"
        exit_ = str(STATUS.get(code, FAILED))
        rows.append([f"`{code}`{later}", meaning, f"`{kind.__name__}`" if kind is not None else "-", http, exit_])
    ends = [
        [f"`{kind.code}`", docstrings.parse(kind).first]
        for kind in classes.values()
        if issubclass(kind, errors.RunError) and kind is not errors.RunError
    ]
    ends.append(["`worker_lost`", "The worker process died three times without a new step record in between."])
    return page(
        "Errors",
        "Every error has a stable `code`. Over HTTP it comes as `application/problem+json` (RFC 9457) with `type`, "
        "`title`, `status`, `detail` and `code`; what is wrong with single fields is in `errors`. In Python it is an "
        "exception below `pullcord.PullcordError` with the attributes `code`, `message` and `fields`. On the command "
        "line it is a message on stderr and an exit status.",
        "Codes marked *not yet* are reserved for features that are not there yet.",
        table(["code", "meaning", "class", "HTTP", "exit"], rows),
        "A code without an HTTP status in the table is a 500 when it reaches HTTP.",
        "## How a run can fail",
        "A run that fails keeps an error of `type`, `message` and `traceback`. The type is the exception's class as "
        "Python names it, such as `ValueError` or `shop.OutOfStock`, or one of these codes:",
        table(["type", "meaning"], ends),
        "## Exit statuses",
        table(
            ["status", "meaning"],
            [
                ["0", "done"],
                ["1", "the run failed or was cancelled, or any error without a status of its own"],
                ["2", "usage, or invalid inputs"],
                ["3", "not found"],
                ["4", "not permitted"],
                ["5", "the server cannot be reached"],
                ["130", "interrupted at the terminal; the run goes on"],
            ],
        ),
    )


# --- settings ------------------------------------------------------------------------------------

OPTIONS = {
    "data_dir": "--data-dir", "flows": "arguments", "host": "--host", "port": "--port", "workers": "--workers",
    "database_url": "-", "log_format": "--log-format", "log_level": "--log-level", "artifact_limit": "-",
    "invoker_rate": "-",
    "public_url": "-", "notify_for": "-",
}  # fmt: skip
CLIENT_VARIABLES = {
    "PULLCORD_URL": "Address of the server that commands and clients speak to, instead of the data folder's own.",
    "PULLCORD_API_KEY": "Bearer token for that server. The data folder's token is sent only to the address that the "
    "folder's own server recorded.",
}
LIMITS = {
    "gate.gate": ["MAX_INPUTS"], "api.admission": ["MAX_BODY", "LONGEST_WAIT"], "core.results": ["MAX_RESULT"],
    "engine.logfiles": ["CAP"], "worker.logs": ["LINE_LIMIT"], "engine.catalog": ["PATIENCE"],
    "engine.validation": ["DEADLINE"], "engine.fleet": ["LOADING", "ASYNC_ROOM", "SYNC_ROOM", "ALONE_ROOM"],
    "engine.engine": ["GRACE", "FINISHING"], "store.commands.lifecycle": ["MAX_LOSSES"],
    "engine.statistics": ["MOST_FLOWS"], "store.writer": ["SLOW"], "api.readiness": ["FRESH", "PATIENCE"],
    "services.rescuer": ["SILENT", "DEAD", "BEHIND", "MEMORY_SHARE"], "api.server": ["DRAIN"],
    "services.notifier": ["GRACE", "LONGEST_PAUSE", "KEPT"], "notify.options": ["PER_HOUR"],
    "wire.frames": ["MAX_FRAME"], "notify.webhook": ["MOST_BODY"], "notify.slack": ["LONGEST_SECTION", "MOST_SECTIONS"],
    "notify.mail": ["LONGEST_TEXT"], "notify.apprise": ["MOST_BUSY"],
}  # fmt: skip

_SETTINGS_FILE = """```toml
flows = ["flows", "billing/invoices.py"]
data_dir = ".pullcord"
host = "127.0.0.1"
port = 8321
workers = 4
log_format = "json"

[[code]]
path = "etl/"
python = "etl/.venv/bin/python"

[retention]
runs = "52w"
logs = "30d"

[[notify]]
events = ["run.failed", "run.recovered"]
channels = ["ops-mail"]
```"""


def _kept(value: float | None) -> str:
    return "-" if value is None else f"{value / DAY:g} days"


_SECRET = "`env:NAME`, an environment variable of the server, or `file:/path`, whose last line end does not count"
_CHANNELS = f"""Each `[channels.NAME]`, or `[tool.pullcord.channels.NAME]` in `pyproject.toml`, is a place where
messages about runs are sent ([how](../how-to/get-told.md)). Secrets are never in the file, which says where they are:
{_SECRET}. They are looked up when a message is sent.

| field | meaning | default |
| --- | --- | --- |
| `kind` | `webhook`, `smtp`, `slack` or `apprise` | needed |
| `timeout` | how long sending one message may take, up to 300 s | `10s` |
| `group` | after a message, gather further news of its kind for so long and tell them together | `5m` |
| `per_hour` | so many messages an hour at most; the last one is a digest of all others | 30 |"""
_CA_FILE = [
    "`ca_file`",
    "a file with certificates that are believed instead of the system's; relative paths begin at the file's folder",
    "the system's",
]
KINDS = {
    "webhook": [
        ["`url`", "where messages are sent, or where the address is when it is a secret", "needed"],
        [
            "`secret`",
            "where the signing secret is (`whsec_…`); a list of two during a change",
            "needed",
        ],
        ["`headers`", "a table of further headers; each value says where the real one is", "none"],
        _CA_FILE,
    ],
    "smtp": [
        ["`host`", "the mail server", "needed"],
        ["`port`", "its port", "587 for `starttls`, 465 for `tls`, 25 for `none`"],
        ["`security`", "`starttls`, `tls` or `none`; never less than this", "`starttls`"],
        ["`username`", "who logs in", "nobody"],
        ["`password`", "where the password is", "none"],
        ["`from`", "the address that mails are from", "needed"],
        ["`to`", "an address, or a list of them", "needed"],
        ["`subject_prefix`", "what subjects begin with", "`[pullcord]`"],
        _CA_FILE,
    ],
    "slack": [["`url`", "where the address of an incoming webhook is", "needed"]],
    "apprise": [["`url`", "where the address of a service is, as Apprise writes them", "needed"]],
}


def settings_page() -> str:
    """Return `settings.md`."""
    known = dict(docstrings.parse(Settings).sections["Attributes"])
    fields = Settings.__dataclass_fields__
    rows = []
    for name, text in known.items():
        if name in (
            "code",
            "channels",
            "limits",
            "notify",
            "retention",
        ):  # in the file alone: they have paragraphs of their own
            continue
        default = "one a core" if name == "workers" else _default(fields[name].default)
        rows.append([f"`{name}`", text.rstrip("."), default, f"`{OPTIONS[name]}`", f"`PULLCORD_{name.upper()}`"])
    limits = []
    for place, names in LIMITS.items():
        found = docstrings.constants(import_module(f"pullcord.{place}"))
        limits += [[f"`{place}.{name}`", _number(found[name][0]), found[name][1]] for name in names]
    return page(
        "Settings",
        "A setting comes from the command line, else from the environment, else from a file, else it has its default.",
        table(["name", "meaning", "default", "command line", "environment"], rows),
        "`flows` on the command line are the arguments of `serve` and `dev`, and `--flows` of `run`. In the "
        "environment they are separated like `PATH`. Where none are named, the commands take `flows/` or `flows.py` in "
        "the current folder, if one is there.",
        "The file is `pullcord.toml` in the current folder, or the table `[tool.pullcord]` of `pyproject.toml` there:",
        _SETTINGS_FILE,
        "An unknown name in the file is an error. The server listens on loopback addresses only.",
        "`[retention]`, or `[tool.pullcord.retention]`, says how long things are kept "
        "([how](../how-to/keep-what-matters.md)). Each is a duration or `forever`.",
        table(
            ["in `[retention]`", "what is kept", "default"],
            [
                [f"`{name}`", text.rstrip("."), _kept(getattr(Retention(), name))]
                for name, text in docstrings.parse(Retention).sections["Attributes"]
            ],
        ),
        "Each `[[code]]`, or `[[tool.pullcord.code]]` in `pyproject.toml`, adds a code location to those in `flows` or "
        "on the command line, and says more about it. Paths begin at the file's folder.",
        table(
            ["in `[[code]]`", "meaning", "default"],
            [
                ["`path`", "a folder or a Python file; it may be missing for a while", "this or `module`"],
                ["`module`", "name of a module, which only `python` has to find", "this or `path`"],
                [
                    "`python`",
                    "the interpreter that loads it, a path or a command on `PATH` "
                    "([how](../how-to/give-flows-an-environment.md))",
                    "the server's own",
                ],
                ["`name`", "what it is called in lists", "the last part of `path`, or `module`"],
            ],
        ),
        "Each `[[notify]]`, or `[[tool.pullcord.notify]]`, is a rule of notifications for all flows, besides those in "
        "their code ([how](../how-to/say-who-is-told.md)).",
        table(
            ["in `[[notify]]`", "meaning", "default"],
            [
                ["`events`", "what is told, a list ([events](notifications.md))", "required"],
                ["`channels`", "names of channels that are told, a list", "required"],
                ["`flows`", "pattern of flow names, as in a shell", "all flows"],
                ["`tags`", "only flows with one of these tags, a list", "all flows"],
                ["`count`", "of `run.failing`, how many failures in a row", "required there"],
                ["`factor`", "of `run.long`, how many times the usual duration", "2, without `after`"],
                ["`after`", "of `run.long`, a duration", "none"],
            ],
        ),
        "`SIGHUP` has `serve` and `dev` read `flows` and `[[code]]` again; the other settings count at the next start.",
        "`[limits]` gives groups of flows their limits, by name: `warehouse = 4` ([how](../how-to/limit-runs.md)).",
        "## Channels",
        _CHANNELS,
        *(
            part
            for kind, options in KINDS.items()
            for part in (f"### `{kind}`", table(["field", "meaning", "default"], options))
        ),
        "## For commands and clients",
        table(["environment", "meaning"], ([f"`{name}`", text] for name, text in CLIENT_VARIABLES.items())),
        "## Fixed limits",
        "These are constants in the code, not settings.",
        table(["constant", "value", "meaning"], limits),
    )


def _default(value: Any) -> str:
    return "none" if value == () else f"`{value}`"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


# --- Python --------------------------------------------------------------------------------------

PYTHON: dict[str, list[str]] = {
    "Declare": ["flow", "step", "Retry", "Keep", "Concurrency", "Group", "Rate"],
    "Triggers": ["cron", "interval", "at", "event", "webhook", "completion"],
    "Events": ["Cursor", "Fire", "Skip", "PollError"],
    "Ready-made events": ["events"],
    "Notifications": [
        "on_success",
        "on_failure",
        "on_recovery",
        "on_failures",
        "on_retry",
        "on_cancel",
        "on_long_run",
        "on_missed",
        "on_skipped",
        "on_trigger_disabled",
        "on_question",
        "on_suspended",
    ],
    "Inside a run": ["run", "RunInfo", "progress", "sleep", "ask", "Default", "cancelled", "artifact", "Artifact"],
    "Embed a server": ["App"],
    "Ask and answer": ["Client", "AsyncClient", "Receipt", "RefusedError"],
    "Errors": [
        "PullcordError",
        "PullcordRuntimeError",
        "StepFailedError",
        "StepTimeoutError",
        "ChildFailedError",
        "ArtifactError",
        "AskTimeoutError",
        "QuestionCancelledError",
        "AnswerUnfitError",
    ],
}
METHODS: dict[str, list[str]] = {
    "App": ["run", "run_many", "validate", "cancel", "resume", "rerun", "ready", "reload", "start", "stop"],
    "Client": ["run", "run_many", "ready", "metrics", "close"],
}


def python_page() -> str:
    """Return `python.md`."""
    listed = [name for names in PYTHON.values() for name in names]
    if sorted(listed) != sorted(pullcord.__all__):
        raise SystemExit(f"PYTHON and pullcord.__all__ differ: {set(listed) ^ set(pullcord.__all__)}")
    parts = ["All names are attributes of `pullcord`; the examples write `import pullcord as pc`."]
    for title, names in PYTHON.items():
        parts.append(f"## {title}")
        for name in names:
            parts += _ready_made() if name == "events" else _named(name, getattr(pullcord, name))
    parts.append("## `pullcord.client`")
    parts.append("`AsyncClient` has the same methods as `Client`; they are awaited, and iterators are asynchronous.")
    for heading, kind in (
        ("client.runs", Runs), ("client.flows", Flows), ("client.requests", Requests), ("client.triggers", Triggers),
        ("client.notifications", Notifications),
        ("client.channels", Channels),
    ):  # fmt: skip
        parts.append(f"### `{heading}`\n\n{docstrings.parse(kind).first}")
        parts += [_method(heading, kind, name) for name in vars(kind) if not name.startswith("_")]
    parts += [docstrings.markdown(kind, 3, f"`{kind.__name__}`") for kind in (Page, Event)]
    parts += [
        docstrings.markdown(kind, 3, f"`{kind.__name__}`") for kind in (ServerUnreachableError, UnexpectedAnswerError)
    ]
    parts.append("## What schedules answer")
    parts.append("`pc.cron`, `pc.interval` and `pc.at` return schedules, which tell their times without a server.")
    parts += [_method("schedule", Schedule, name) for name in ("upcoming", "preview")]
    parts.append(docstrings.markdown(Tick, 3, "`Tick`"))
    parts.append("## `pullcord.triggers`")
    for kind in (ManualTrigger, Trigger):
        parts.append(docstrings.markdown(kind, 3, f"`{kind.__name__}`"))
        parts += [
            _method(kind.__name__, kind, name)
            for name in vars(kind)
            if not name.startswith("_") and callable(getattr(kind, name))
        ]
    return page("Python", *parts)


def _named(name: str, thing: Any) -> list[str]:
    simple = isinstance(thing, type) and issubclass(thing, BaseException)
    frozen = name in ("RunInfo", "Artifact", "Receipt", "RefusedError")
    parts = [docstrings.markdown(thing, 3, f"`pc.{name}`", None if simple or frozen else f"pc.{name}")]
    if simple and name != "RefusedError":
        parts[-1] = parts[-1].replace("\n\n", f"\n\nCode `{thing.code}`. ", 1)
    parts += [_method(name.lower(), thing, method) for method in METHODS.get(name, [])]
    return parts


def _ready_made() -> list[str]:
    functions = [getattr(events, name) for name in events.__all__ if name.islower()]
    parts = [docstrings.markdown(it, 3, f"`pc.events.{it.__name__}`", f"pc.events.{it.__name__}") for it in functions]
    text = "[React to events](../tutorial/react-to-events.md) shows them at work."
    return [text, *parts, docstrings.markdown(QueueDepth, 3, "`pc.events.QueueDepth`", "pc.events.QueueDepth")]


def _method(owner: str, kind: type, name: str) -> str:
    function = getattr(kind, name)
    text = docstrings.markdown(function, 4, f"`{owner}.{name}`", name)
    return text.replace(repr(OWNER), "OWNER")


# --- the rest ------------------------------------------------------------------------------------


def metrics_page() -> str:
    """Return `metrics.md`."""
    rows = [
        [f"`{each.name}`", each.kind, ", ".join(f"`{label}`" for label in each.labels), each.help]
        for each in METRICS.values()
    ]
    return page(
        "Metrics",
        "`GET /metrics` answers in Prometheus' text format (version 0.0.4), without a credential. "
        "[Watch Pullcord with Prometheus](../how-to/watch-with-prometheus.md) says how to use it.",
        "Counters and histograms begin anew when the server starts; `rate()` and `increase()` know that. Times are in "
        "seconds, sizes in bytes. A histogram has the series `_bucket`, `_sum` and `_count`.",
        f"Up to {MOST_FLOWS} flows have figures of their own, those that come later share the name `{OTHER}`. Calls "
        "are told apart by their route, such as `/v1/runs/{run_id}`, never by their address.",
        table(["name", "type", "labels", "meaning"], rows),
        "Besides there are `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds`, "
        "`process_start_time_seconds` and the like for the server's own process, and `python_info`.",
    )


def notifications_page() -> str:
    """Return `notifications.md`."""
    functions = {rule.event: f"pc.{name}" for name, rule in _rules()}
    rows = [
        [f"`{event}`", f"`{functions[event]}`", LEVELS[event], text, headlines.title(event, "nightly", 1)]
        for event, text in EVENTS.items()
    ]
    return page(
        "Notifications",
        "What can be told, by which rule, and how bad it is. "
        "[Say who is told of what](../how-to/say-who-is-told.md) has the rules, and "
        "[Get told](../how-to/get-told.md) the channels and the fields of a message.",
        table(["event", "rule", "level", "when", "title"], rows),
        "`digest` is the event of a message that stands for many kinds, where more happened than a channel takes. "
        "`test` is that of `pullcord notify test`.",
        "A message about one run has its item as data, without steps, result and traceback; one about many has "
        "`count`, `first_at`, `last_at` and the `first` ten; a digest has `kinds`, each with event, flow and count. "
        "`detail` is what was so when it happened, whatever has become of the run: `attempt`, `error` and `next_at` of "
        "`run.retrying`, `text` and `question_id` of `question.asked`, and a `text` of most others.",
    )


def _rules() -> list[tuple[str, Rule]]:
    names = [name for name in PYTHON["Notifications"] if name != "on_failures"]
    return [*((name, getattr(pullcord, name)("x")) for name in names), ("on_failures", pullcord.on_failures(2, "x"))]


def wire_page() -> str:
    """Return `wire.md`."""
    title, _, rest = (messages.__doc__ or "").partition("\n")
    frames = docstrings.parse(import_module("pullcord.wire.frames")).text
    return page(
        "The messages between server and workers",
        f"{title} This is version {messages.VERSION}; a worker that speaks another version is replaced.",
        rest.strip(),
        "## Frames",
        frames,
        "A worker process gets one end of a Unix socket pair when it is forked; that is its channel. When the channel "
        "closes, each side takes the other for dead.",
    )


def openapi() -> str:
    """Return `openapi.json`."""
    from pullcord.api.auth import Authenticator
    from pullcord.api.rest import make_rest

    rest = make_rest(pullcord.App(), cast(Authenticator, None))
    return json.dumps(rest.openapi(), indent=2, ensure_ascii=False) + "\n"


def cli_page() -> str:
    """Return `cli.md`."""
    return page("Command line", *command_line())


def schema() -> str:
    """Return `schema.sql`: what the migrations give."""
    with closing(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)) as connection:
        migrate.upgrade(connection)
        return migrate.snapshot(connection)


# --- what is proven ------------------------------------------------------------------------------


def _tables(source: str) -> str:
    """Return the tables that a query reads, in their order."""
    known = (
        "requests", "runs", "steps", "keys", "slots", "flows", "audit", "meta", "attempts", "notifications",
        "happenings",
    )  # fmt: skip
    found = [word for word in re.findall(r"[a-z]+", source) if word in known]
    return ", ".join(f"`{table}`" for table in dict.fromkeys(found))


def invariants_page() -> str:
    """Return `invariants.md`."""
    rows = [
        [str(it.rule), it.name, _tables(f"{it.source} {it.broken}"), it.severity, it.advice]
        for it in sorted(INVARIANTS, key=lambda it: it.rule)
    ]
    read = [[str(rule), name, what] for name, (rule, what) in DOCUMENTS.items()]
    return page(
        "Invariants",
        "What `pullcord doctor --deep` checks, made from `pullcord.store.queries.invariants`. The numbers are those of "
        "[what must always be true](../explanation/architecture.md#rules). "
        "[How crash safety is proven](../explanation/crash-safety.md) says what that is for, and "
        "[check a store](../how-to/check-a-store.md) how to use it.",
        "## Checked by a query",
        "Each is one statement over the tables named, so it sees one moment of the store. A finding is `wrong`, or a "
        "`note` where there is a lawful reason that the rows do not show.",
        table(["rule", "what must be true", "tables", "finding", "advice"], rows),
        "## Checked by reading",
        table(["rule", "what must be true", "what is read"], read),
        f"Besides, {deep.LOGS}: the names of the log files are looked up among the runs. And {deep.CONTENTS}: "
        "where one was restored from a back-up without artifacts, this is a note.",
    )


def fail_points_page() -> str:
    """Return `fail-points.md`."""
    assert failpoints.__doc__ is not None
    return page(
        "Fail points",
        "Places in the code where a test lets a process die by `kill -9`, made from `pullcord.failpoints`. They are "
        "for tests of Pullcord itself; [how crash safety is proven](../explanation/crash-safety.md) tells their story.",
        *failpoints.__doc__.split("\n\n")[1:],
        table(["point", "what is so when a process dies there"], ([f"`{it}`", text] for it, text in POINTS.items())),
    )


OUTPUTS: dict[str, Callable[[], str]] = {
    "docs/reference/states.md": states_page,
    "docs/reference/errors.md": errors_page,
    "docs/reference/settings.md": settings_page,
    "docs/reference/notifications.md": notifications_page,
    "docs/reference/python.md": python_page,
    "docs/reference/cli.md": cli_page,
    "docs/reference/metrics.md": metrics_page,
    "docs/reference/wire.md": wire_page,
    "docs/reference/openapi.json": openapi,
    "docs/reference/invariants.md": invariants_page,
    "docs/reference/fail-points.md": fail_points_page,
    "docs/images/daylight-saving.svg": clocks.picture,
    "src/pullcord/store/schema.sql": schema,
}
"""Each file and what it should hold."""


def main() -> None:
    """Write every file that differs."""
    for name, make in OUTPUTS.items():
        path, text = ROOT / name, make()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    main()
