"""Reading an answer from the command line, or asking the person at the terminal for it by the question's schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pullcord.cli import asking
from pullcord.cli.connect import connect_async
from pullcord.cli.failing import clean
from pullcord.cli.inputs import missing, property_of, read_inputs, value_of
from pullcord.cli.output import console
from pullcord.cli.schemas import Schema, resolved
from pullcord.core.errors import InvalidAnswerError, UsageError

if TYPE_CHECKING:
    from pullcord.client import AsyncClient


async def answer_question(
    question_id: str,
    value: str | None,
    pairs: list[str] | None,
    file: str | None,
    reason: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> dict[str, Any]:
    """Answer a question with what was given, or what the person at the terminal says; return it.

    Raises:
        UsageError: nothing was given, and there is nobody to ask.
        PullcordError: the server refuses the answer.
    """
    async with connect_async(data_dir) as client:
        item = await client.questions.get(question_id)
        schema = resolved(item["schema"], item["schema"])
        if value is not None and not (pairs or file):
            return await client.questions.answer(question_id, value_of(value, schema), reason=reason)
        if value is not None:
            raise UsageError("give the answer as VALUE, or with --input and --inputs, not both")
        given = read_inputs(pairs, file, item["schema"]) if pairs or file else None
        if given is not None and not missing(schema, given):
            return await client.questions.answer(question_id, given, reason=reason)
        if as_json or not asking.on_terminal():
            raise UsageError("the answer is missing: give it as VALUE, or its fields with --input NAME=VALUE")
        return await answer_at_terminal(client, item, reason, given)


async def answer_at_terminal(
    client: AsyncClient, item: dict[str, Any], reason: str | None = None, given: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Ask the person at the terminal until the server takes the answer; return the question."""
    target = console(stderr=True)
    schema: Schema = item["schema"]
    whole = resolved(schema, schema)
    text = str(item["question"]).strip() or f"{item['flow']} asks:"
    target.print(clean(text), style="bold", markup=False)
    for name, value in (item["details"] or {}).items():
        target.print(f"  {clean(name)}: {clean(str(value))}", style="dim", markup=False)
    while True:
        answer: Any
        if whole.get("type") == "object" and "properties" in whole:
            answer = dict(given or {})
            for name in missing(whole, answer):
                answer[name] = await asking.ask_value(target, name, property_of(whole | _definitions(schema), name))
        else:
            answer = await asking.ask_value(target, "answer", whole)
        try:
            return await client.questions.answer(item["id"], answer, reason=reason)
        except InvalidAnswerError as error:
            for wrong in error.fields.get("errors", []):
                where = ".".join(map(str, wrong["loc"][1:])) or "answer"
                target.print(f"  {clean(where)}: {clean(wrong['msg'])}", style="red", markup=False)
            given = None


def _definitions(schema: Schema) -> Schema:
    return {"$defs": schema["$defs"]} if "$defs" in schema else {}
