"""`pullcord questions`: what runs ask people, and answering."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pullcord.cli.connect import connect
from pullcord.cli.failing import Group, clean
from pullcord.cli.options import All, DataDir, Inputs, InputsFile, Json, Limit, Reason

QuestionId = Annotated[str, typer.Argument(metavar="QUESTION", help="The question's id.", show_default=False)]

app = typer.Typer(cls=Group, no_args_is_help=True, help="Look at what runs ask people, and answer.")


@app.command("list")
def list_questions(
    flow: Annotated[str | None, typer.Option("--flow", help="Of one flow.", show_default=False)] = None,
    state: Annotated[
        str, typer.Option("--state", help="open, answered, expired, cancelled or all.", show_default=True)
    ] = "open",
    to: Annotated[str | None, typer.Option("--to", help="For a person, group or role.", show_default=False)] = None,
    limit: Limit = 20,
    everything: All = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List questions, newest first: the open ones unless told otherwise."""
    from pullcord.cli.output import draw, emit, table, when
    from pullcord.cli.runs import fetch, say_more

    filters = {"flow": flow, "state": None if state == "all" else state, "to": to}
    with connect(data_dir) as client:
        page = fetch(client.questions, filters, limit, everything)
    if as_json:
        emit(page)
        return
    if not page["items"]:
        typer.echo("no questions" if state == "all" else f"no {clean(state)} questions")
        return
    rows = [
        [item["id"], item["flow"], _line(item), item["state"], ", ".join(item["to"]), when(item["asked_at"])]
        for item in page["items"]
    ]
    draw(table("question", "flow", "text", "state", "to", "asked", rows=rows, whole=("question", "state", "asked")))
    say_more(page["next"])


@app.command("show")
def show(question_id: QuestionId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show a question: its text and details, what answers are allowed, and the answer."""
    from pullcord.cli.output import emit

    with connect(data_dir) as client:
        item = client.questions.get(question_id)
    emit(item) if as_json else typer.echo("\n".join(_lines(item)))


@app.command("answer")
def answer(
    question_id: QuestionId,
    value: Annotated[
        str | None,
        typer.Argument(
            metavar="VALUE", help="The answer: text, or JSON where the schema wants it.", show_default=False
        ),
    ] = None,
    inputs: Inputs = None,
    inputs_file: InputsFile = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Answer a question. What is not given is asked for on a terminal.

    A simple answer is VALUE; one with fields is given as --input NAME=VALUE for each, or as a file with --inputs.
    """
    import asyncio

    from pullcord.cli.answering import answer_question
    from pullcord.cli.output import emit

    item = asyncio.run(answer_question(question_id, value, inputs, inputs_file, reason, data_dir, as_json))
    emit(item) if as_json else typer.echo(f"answered; run {item['run_id']} of {clean(item['flow'])} goes on")


def _line(item: dict[str, Any]) -> str:
    return clean(str(item["question"]).strip().partition("\n")[0])


def _lines(item: dict[str, Any]) -> list[str]:
    import json

    from pullcord.cli.output import local

    lines = [clean(item["question"]), ""] if item["question"] else []
    lines += [f"{clean(name)}: {clean(json.dumps(value))}" for name, value in (item["details"] or {}).items()]
    lines += [f"state    {item['state']}", f"run      {item['run_id']} of {clean(item['flow'])}"]
    if item["to"]:
        lines.append(f"to       {clean(', '.join(item['to']))}")
    lines.append(f"asked    {local(item['asked_at'])}")
    if item["expires_at"] is not None:
        lines.append(f"until    {local(item['expires_at'])}")
    lines.append(f"answers  {clean(json.dumps(item['schema']))}")
    if item["answered_by"] is not None:
        lines.append(f"answer   {clean(json.dumps(item['answer']))}")
        lines.append(f"by       {clean(item['answered_by'])} at {local(item['answered_at'])}")
        if item["reason"]:
            lines.append(f"reason   {clean(item['reason'])}")
    return lines
