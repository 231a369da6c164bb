"""What is done in a day: one entry each. An operation whose call the server does not have is left out."""

from __future__ import annotations

import base64
import hmac
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from tests.day.pace import MINUTE
from tests.day.world import World
from tests.system.harness import Reply

Act = Callable[[World, random.Random], None]

FLOWS: Final = {
    "chain": 6, "chain-async": 6, "narrow": 4, "single": 3, "alone": 1, "family": 3, "insists": 2, "again": 3,
    "sleeper": 2,
}  # fmt: skip
"""What people ask for, and how often."""

OVERLAPPING: Final = ("regional", "member", "skipping", "strict", "buffered", "newest")
"""The flows with keys, groups and policies."""

PAUSED: Final = ("narrow", "again", "sleeper")
"""The flows that are paused now and then."""

TOGGLED: Final = ("toggled", "paced")
"""The triggers that are disabled and enabled; of the others every tick is counted."""


@dataclass(frozen=True)
class Operation:
    """Something to do.

    Attributes:
        weight: how often, beside the others.
        act: does it.
        needs: the call that must be in the server's document, method and path.
    """

    weight: int
    act: Act
    needs: tuple[str, str] = ("post", "/v1/runs")


def request(world: World, chance: random.Random, flow: str | None = None) -> dict[str, Any]:
    """Return a sound request for a run."""
    name = flow or chance.choices(list(FLOWS), list(FLOWS.values()))[0]
    inputs = {
        "intent": next(world.intents),
        "pause": chance.choice([0.0, 0.0, 0.01, 0.1]),
        "luck": chance.choice([1.0, 1.0, 0.5]),
    }
    return {"flow": name, "inputs": inputs}


def keyed(world: World, chance: random.Random, flow: str | None = None) -> dict[str, Any]:
    """Return a request that may be asked again."""
    mark = world.mark(chance)
    which = {"request_id": mark} if chance.random() < 0.5 else {"idempotency_key": f"key-{mark}"}
    return request(world, chance, flow) | which


# --- asking for runs -------------------------------------------------------------------------------


def run(world: World, chance: random.Random) -> None:
    """Ask, and ask again until there is an answer: it is one run."""
    body = keyed(world, chance)
    query = {"wait": "1s"} if chance.random() < 0.1 else {}
    world.took(body, world.insist("post", "/v1/runs", body, **query))


def run_once(world: World, chance: random.Random) -> None:
    """Ask without a key, and do not ask again: who gets no answer knows nothing."""
    reply = world.ask("post", "/v1/runs", request(world, chance))
    if reply is not None:
        world.took(None, reply)


def repeat(world: World, chance: random.Random) -> None:
    """Ask for something again that was answered long ago: it is the same run."""
    if not world.facts.keyed:
        return
    body, known = chance.choice(world.facts.keyed)
    reply = world.insist("post", "/v1/runs", body)
    if reply.status not in (200, 202) or (reply.body["run_id"], reply.body["replayed"]) != (known, True):
        world.facts.wrong.append(f"{body} was run {known}, and asked again is {reply}")


def batch(world: World, chance: random.Random) -> None:
    """Ask for many."""
    bodies = [keyed(world, chance) for _ in range(chance.randint(2, 10))]
    reply = world.insist("post", "/v1/runs/batch", {"requests": bodies})
    if reply.status != 200:
        world.facts.wrong.append(f"a batch was answered {reply}")
        return
    for body, receipt in zip(bodies, reply.body["receipts"], strict=True):
        world.took(body, type(reply)(202, receipt))


def later(world: World, chance: random.Random) -> None:
    """Ask for a run that begins within the simulated hour."""
    body = keyed(world, chance) | {"not_before": world.pace.text(chance.randint(1, 60) * MINUTE)}
    world.took(body, world.insist("post", "/v1/runs", body))


def urgent(world: World, chance: random.Random) -> None:
    """Ask for a run that goes before others."""
    body = keyed(world, chance) | {"priority": chance.randint(-5, 10)}
    world.took(body, world.insist("post", "/v1/runs", body))


def run_test(world: World, chance: random.Random) -> None:
    """Ask for a run that is a test."""
    body = keyed(world, chance) | {"test": True}
    world.took(body, world.insist("post", "/v1/runs", body))


def dry_run(world: World, chance: random.Random) -> None:
    """Ask what would happen."""
    reply = world.insist("post", "/v1/runs", request(world, chance) | {"dry_run": True})
    if reply.body.get("run_id") is not None:
        world.facts.wrong.append(f"a dry run became a run: {reply}")


def invalid(world: World, chance: random.Random) -> None:
    """Ask for something that cannot be."""
    reply = world.insist("post", "/v1/runs", {"flow": "chain", "inputs": {"intent": "x"}})
    if reply.status != 422:
        world.facts.wrong.append(f"invalid inputs were answered {reply}")


def rerun(world: World, chance: random.Random) -> None:
    """Ask for a run again from the beginning, with an input changed."""
    known = world.some_run(chance)
    if known is not None:
        flow = next(receipt["flow"] for receipt in world.facts.receipts if receipt["run_id"] == known)
        changed = {"intent": -next(world.intents)} if flow in FLOWS else {}
        reply = world.ask("post", f"/v1/runs/{known}/rerun", {"inputs": changed})
        if reply is not None:
            again(world, known, reply)


def again(world: World, known: str, reply: Reply) -> None:
    """Note what a run that was asked for again became; of a forgotten one there is nothing to do again."""
    if reply.status != 404 or known not in world.facts.brief:
        world.took(None, reply)


def resume(world: World, chance: random.Random) -> None:
    """Go on with a run that failed, with what it recorded."""
    known = world.some_end(chance)
    if known is not None:
        reply = world.ask("post", f"/v1/runs/{known}/resume", {"force": chance.random() < 0.5})
        if reply is not None and reply.body.get("code") not in ("not_resumable", "code_changed"):
            again(world, known, reply)


def retry_failed(world: World, chance: random.Random) -> None:
    """Ask again for what failed lately, as after an outage."""
    body = {"since": world.pace.text(-60 * MINUTE), "limit": 5, "dry_run": chance.random() < 0.5}
    reply = world.ask("post", "/v1/runs/retry-failed", body)
    if reply is not None and reply.status != 200:
        world.facts.wrong.append(f"asking again for what failed was answered {reply}")


# --- runs ------------------------------------------------------------------------------------------


def cancel(world: World, chance: random.Random) -> None:
    """Cancel a run, now and then by force."""
    known = world.some_run(chance, 15)
    if known is not None:
        world.facts.cancelled.add(known)
        reply = world.ask("post", f"/v1/runs/{known}/cancel", {"force": chance.random() < 0.1})
        if reply is not None and reply.status not in (202, 409):
            world.facts.wrong.append(f"cancelling {known} was answered {reply}")


def look(world: World, chance: random.Random) -> None:
    """Look at a run."""
    known = world.some_run(chance, chance.choice([10, 100, 0]))
    if known is not None:
        reply = world.insist("get", f"/v1/runs/{known}")
        if reply.status == 200:
            world.saw(reply.body)
        elif known not in world.facts.brief:
            world.facts.wrong.append(f"run {known} was promised, and looking at it is answered {reply}")


def browse(world: World, chance: random.Random) -> None:
    """Look at lists and figures."""
    path = chance.choice(["/v1/runs", "/v1/requests", "/v1/flows", "/v1/triggers", "/readyz"])
    reply = world.insist("get", path)
    if reply.status != 200:
        world.facts.wrong.append(f"{path} was answered {reply}")
    if path == "/v1/runs":
        for item in reply.body["items"]:
            world.saw(item)


def figures(world: World, chance: random.Random) -> None:
    """Look at the figures of a flow."""
    reply = world.insist("get", f"/v1/flows/{chance.choice(list(FLOWS))}/stats", window="1h,24h")
    if reply.status != 200:
        world.facts.wrong.append(f"figures were answered {reply}")


# --- flows -----------------------------------------------------------------------------------------


def pause(world: World, chance: random.Random) -> None:
    """Pause a flow, for some simulated minutes or until somebody resumes it."""
    name, until = chance.choice(PAUSED), world.pace.text(chance.randint(2, 20) * MINUTE)
    body = {"reason": "by chance"} | ({"until": until} if chance.random() < 0.7 else {})
    reply = world.ask("post", f"/v1/flows/{name}/pause", body)
    # On a fast clock the end may have passed when the request is read.
    if reply is not None and reply.status not in (200, 422):
        world.facts.wrong.append(f"pausing {name} was answered {reply}")


def go_on(world: World, chance: random.Random) -> None:
    """Let a flow go on."""
    name = chance.choice(PAUSED)
    reply = world.ask("post", f"/v1/flows/{name}/resume")
    if reply is not None and reply.status != 200:
        world.facts.wrong.append(f"resuming {name} was answered {reply}")


def expiring(world: World, chance: random.Random) -> None:
    """Ask for a run that is of no use when it has not begun soon."""
    body = request(world, chance, chance.choice(PAUSED)) | {"expires_in": f"{chance.randint(1, 30)}m"}
    reply = world.ask("post", "/v1/runs", body)
    if reply is not None:
        world.took(None, reply)


def overlapping(world: World, chance: random.Random) -> None:
    """Ask for a run of a flow that limits its runs in a way of its own."""
    name = chance.choice(list(OVERLAPPING))
    body = keyed(world, chance, name)
    body["inputs"]["pause"] = chance.choice([0.05, 0.2])
    if name == "regional":
        body["inputs"]["region"] = chance.choice(["DE", "FR", "PT"])
    world.took(None, world.insist("post", "/v1/runs", body))


def change_limit(world: World, chance: random.Random) -> None:
    """Lower a limit for a while; it is never above what the flows declare."""
    name, most = chance.choice([("narrow", 3), ("regional", 1), ("member", 3), ("group:shared", 4)])
    body = {"reset": True} if chance.random() < 0.3 else {"limit": chance.randint(1, most)}
    reply = world.ask("patch", f"/v1/limits/{name}", body)
    if reply is not None and reply.status != 200:
        world.facts.wrong.append(f"changing the limit of {name} was answered {reply}")


def brief(world: World, chance: random.Random) -> None:
    """Ask for a run that is not kept for long."""
    reply = world.insist("post", "/v1/runs", keyed(world, chance, "brief"))
    world.took(None, reply)


def prune(world: World, chance: random.Random) -> None:
    """Have forgotten what was kept long enough."""
    reply = world.ask("post", "/v1/retention/prune")
    if reply is not None and reply.status != 202:
        world.facts.wrong.append(f"pruning was answered {reply}")


def artifacts(world: World, chance: random.Random) -> None:
    """Fetch what a run has stored: it is what it was when it was stored."""
    known = world.some_end(chance)
    if known is None:
        return
    listed = world.insist("get", f"/v1/runs/{known}/artifacts")
    for item in listed.body.get("items", []):
        found = world.text(f"/v1/runs/{known}/artifacts/{item['name']}")
        if found is not None and found != f"of {item['name']}":
            world.facts.wrong.append(f"the artifact of run {known} is {found[:100]!r}")


# --- questions -------------------------------------------------------------------------------------


def ask(world: World, chance: random.Random) -> None:
    """Ask for a run that will ask back."""
    body = keyed(world, chance, "curious")
    world.took(None, world.insist("post", "/v1/runs", body))


def answer(world: World, chance: random.Random) -> None:
    """Answer a question, or try something that is no answer."""
    items = world.insist("get", "/v1/questions", state="open").body["items"]
    if not items:
        return
    item, said = chance.choice(items), next(world.intents)
    sound = chance.random() < 0.9
    reply = world.ask("post", f"/v1/questions/{item['id']}/answer", {"answer": said if sound else "yes"})
    if reply is None:
        world.facts.doubtful.setdefault(item["run_id"], set()).add(said)
    elif reply.status == 200:
        if not sound or world.facts.answers.setdefault(item["run_id"], said) != said:
            world.facts.wrong.append(f"{item} was answered twice, or with what is no answer: {reply}")
    elif reply.status not in (409, 422):
        world.facts.wrong.append(f"an answer was answered {reply}")


# --- triggers --------------------------------------------------------------------------------------


def toggle(world: World, chance: random.Random) -> None:
    """Disable or enable a schedule."""
    body = {"enabled": chance.random() < 0.6, "reason": "by chance"}
    name = chance.choice(TOGGLED)
    reply = world.ask("patch", f"/v1/triggers/{name}", body)
    if reply is not None and reply.status != 200:
        world.facts.wrong.append(f"changing {name} was answered {reply}")


def reschedule(world: World, chance: random.Random) -> None:
    """Give a schedule another time."""
    reply = world.ask("patch", "/v1/triggers/toggled", {"schedule": f"{chance.randint(0, 59)} * * * *"})
    # It may have been that schedule before.
    same = reply is not None and str(reply.body.get("detail")).startswith("nothing to change")
    if reply is not None and reply.status != 200 and not same:
        world.facts.wrong.append(f"changing a schedule was answered {reply}")


def number(world: World, chance: random.Random) -> None:
    """Give the event something to fire."""
    world.one_more_number()


def deliver(world: World, chance: random.Random) -> None:
    """Send to the webhook until there is an answer; then perhaps again, as senders do."""
    sent = next(world.intents)
    first = _deliver(world, sent)
    if first is not None and chance.random() < 0.3 and _deliver(world, sent) not in (first, None):
        world.facts.wrong.append(f"delivery {sent} became two runs")


def _deliver(world: World, sent: int) -> str | None:
    body = json.dumps({"number": sent}).encode()
    while True:
        stamp = str(world.pace.now() // 1_000_000)
        signed = hmac.digest(world.key, f"msg_{sent}.{stamp}.".encode() + body, sha256)
        headers = {
            "webhook-id": f"msg_{sent}",
            "webhook-timestamp": stamp,
            "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
        }
        reply = world.ask("post", "/v1/hooks/orders", body, headers=headers)
        # On a fast clock a signature is soon too old.
        if reply is None or reply.body.get("code") == "timestamp_out_of_window":
            continue
        found = world.took(None, reply)
        if found is not None and world.facts.delivered.setdefault(sent, found) != found:
            world.facts.wrong.append(f"delivery {sent} was run {world.facts.delivered[sent]}, and is {found}")
        return found


_PAUSE: Final = ("post", "/v1/flows/{name}/pause")
_ANSWER: Final = ("post", "/v1/questions/{question_id}/answer")
_LIMIT: Final = ("patch", "/v1/limits/{limit}")
_PATCH: Final = ("patch", "/v1/triggers/{trigger}")

OPERATIONS: Final[dict[str, Operation]] = {
    "run": Operation(50, run),
    "run without a key": Operation(10, run_once),
    "repeat": Operation(12, repeat),
    "batch": Operation(6, batch, ("post", "/v1/runs/batch")),
    "run later": Operation(6, later),
    "urgent run": Operation(4, urgent),
    "test run": Operation(3, run_test),
    "dry run": Operation(2, dry_run),
    "invalid run": Operation(2, invalid),
    "rerun": Operation(5, rerun, ("post", "/v1/runs/{run_id}/rerun")),
    "resume": Operation(5, resume, ("post", "/v1/runs/{run_id}/resume")),
    "retry what failed": Operation(1, retry_failed, ("post", "/v1/runs/retry-failed")),
    "cancel": Operation(8, cancel, ("post", "/v1/runs/{run_id}/cancel")),
    "look": Operation(10, look, ("get", "/v1/runs/{run_id}")),
    "browse": Operation(3, browse, ("get", "/v1/runs")),
    "figures": Operation(2, figures, ("get", "/v1/flows/{name}/stats")),
    "expiring run": Operation(4, expiring, _PAUSE),
    "pause a flow": Operation(2, pause, _PAUSE),
    "resume a flow": Operation(2, go_on, _PAUSE),
    "brief run": Operation(4, brief, ("get", "/v1/retention")),
    "prune": Operation(1, prune, ("post", "/v1/retention/prune")),
    "artifacts": Operation(4, artifacts, ("get", "/v1/runs/{run_id}/artifacts")),
    "overlapping run": Operation(20, overlapping, _LIMIT),
    "change a limit": Operation(2, change_limit, _LIMIT),
    "run that asks": Operation(4, ask, _ANSWER),
    "answer": Operation(4, answer, _ANSWER),
    "toggle a schedule": Operation(2, toggle, _PATCH),
    "change a schedule": Operation(1, reschedule, _PATCH),
    "a number for the event": Operation(6, number, ("get", "/v1/triggers")),
    "deliver": Operation(6, deliver, ("post", "/v1/hooks/{name}")),
}
"""Everything that is done, by name."""


def available(calls: set[tuple[str, str]]) -> dict[str, Operation]:
    """Return the operations that a server has."""
    return {name: operation for name, operation in OPERATIONS.items() if operation.needs in calls}
