"""The vocabulary, version 4. Each message is a JSON array: its kind, then these fields in this order.

`run` is the run's number in the store, `token` its fencing token: a message about a run that carries an
older token than the store's is refused (design rule 6). Times are microseconds since 1970 UTC. Fields called
`…_json` hold JSON text. An error is an object with type and message; that of a run has `final` where no other attempt
may follow it: the worker alone knows the classes that a flow's `retry_on` names.

Server to worker:

| kind | fields |
| --- | --- |
| `load` | location name, kind (`module`, `file`, `folder`), target, role (`control`, `run`, `poll`), digest of the triggers that the server knows of it, or null; object about artifacts: folder, limit in bytes |
| `validate` | ticket, flow, inputs_json |
| `poll` | polls: `[ticket, trigger, cursor_json or null, parameters_json, preview]` each; a preview is polled beside the others and keeps nothing |
| `forget` | names of triggers that are not polled any more: what they hold open is closed |
| `map` | ticket, trigger, payload_json: what a hook received, or the run that has ended |
| `run` | run, token, id, flow, version of the code that it was admitted with, inputs_json, attempt, info (object: invoker, trigger, scheduled_for, test, request_id, epoch: how often its records have begun anew, from 1), recorded steps, and those seen running (`[identity, name, seq, attempt, state, result_json, error_json]`) |
| `ack` | run, token, record number: this record and all before it are on disk |
| `refuse` | run, token: the token is stale; stop without a further word |
| `cancel` | run, token, force: whether the process will be killed where the run does not stop |
| `child` | run, token, call, object: state, result, error, reason |
| `answer` | run, token, record of a question that is over (`[identity, name, seq, attempt, state, result_json, error_json]`) |
| `drain` | none: runs that reach a step boundary are released |
| `stop` | none: end the process when the current frame is done |

Worker to server:

| kind | fields |
| --- | --- |
| `hello` | protocol version, pid, Python version, pydantic version |
| `manifest` | object: versions (of each flow by name); from control workers also flows, triggers (null where the server knows them), their digest, failures, and with those that poll marks (a descriptor: what is polled right now) |
| `validated` | ticket, inputs_json or null, errors or null; both null: the flow is not there |
| `polling` | ticket: this poll has begun, and all before it |
| `polled` | results: `[ticket, outcome, cursor_json or null, detail, microseconds, stuck]` each. The detail of `fire` is a list of `[context_json, key or null]`, that of `skip` a reason or null, that of `failed` an object: type, message, traceback, permanent, retry_after. `stuck`: its thread cannot be stopped |
| `mapped` | ticket, `[outcome, detail]` as in `polled` |
| `step` | run, token, record number, identity, seq, name, attempt, state, started, ended or null, result_json or null, error_json or null, writes_json or null (what it may leave half-written; of steps that are running or interrupted) |
| `artifact` | run, token, identity of the step that it belongs to, that step's name or null, name, sha256, size, media_type or null, description or null: the content is in the folder, on disk; the record of the step follows |
| `finished` | run, token, state (`succeeded`, `failed`, `cancelled`), result_json or null, error_json or null |
| `stopping` | run, token, stuck: it knows that the run is cancelled, and has reported the steps that were in progress then; whether a thread is inside one |
| `ask` | run, token, record number, identity, seq, text, details_json or null, schema_json, recipients_json, microseconds that an answer may take or null, default_json or null |
| `parked` | run, token, waits (`[identity, until or null]`; null for a question): not ended; it only waits, and goes on in a worker when one of them is over |
| `released` | run, token: not ended; it goes on in another worker when this one is dead |
| `waiting` | run, token, kind (`time`, `child`) or null when it goes on, text: with null the identity of a question that is waited for no longer, or null |
| `child` | run, token, call, flow, inputs_json, identity |
| `progress` | run, token, done, total or null, text or null |
| `log` | run, token, lines (`[at, level, logger, text]`) |
| `doomed` | reason, run, token, error_json or null: a thread of this process cannot be stopped; replace the process |
| `beat` | resident memory in bytes, seconds the event loop is behind |
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 4

LOAD: Final = "load"
VALIDATE: Final = "validate"
POLL: Final = "poll"
FORGET: Final = "forget"
MAP: Final = "map"
RUN: Final = "run"
ACK: Final = "ack"
REFUSE: Final = "refuse"
CANCEL: Final = "cancel"
CHILD: Final = "child"
ANSWER: Final = "answer"
DRAIN: Final = "drain"
STOP: Final = "stop"

HELLO: Final = "hello"
MANIFEST: Final = "manifest"
VALIDATED: Final = "validated"
POLLING: Final = "polling"
POLLED: Final = "polled"
MAPPED: Final = "mapped"
STEP: Final = "step"
ARTIFACT: Final = "artifact"
FINISHED: Final = "finished"
STOPPING: Final = "stopping"
ASK: Final = "ask"
PARKED: Final = "parked"
RELEASED: Final = "released"
WAITING: Final = "waiting"
PROGRESS: Final = "progress"
LOG: Final = "log"
DOOMED: Final = "doomed"
BEAT: Final = "beat"
