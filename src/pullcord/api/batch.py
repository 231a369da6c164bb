"""`POST /v1/runs/batch`: many intents in one call, each decided on by itself."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request
from pydantic import ValidationError

from pullcord.api.admission import InvalidBodyError, invalid, read_body
from pullcord.api.models import BatchRequest, RunRequest, body_errors, sentence
from pullcord.app import App
from pullcord.gate.request import Invoker, Receipt


async def submit_batch(app: App, request: Request, invoker: Invoker) -> list[Receipt]:
    """Submit the requests of a batch and return their receipts in order.

    Raises:
        PullcordError: the batch as a whole cannot be read.
    """
    body = await read_body(request.scope, request.receive)
    source = request.headers.get("x-pullcord-source", "http")
    source = source if source in ("cli", "python") else "http"
    try:
        batch = BatchRequest.model_validate_json(body)
    except ValidationError as error:
        errors = body_errors(error)
        if errors[0]["type"] == "json_invalid":
            raise InvalidBodyError(f"the body is not valid JSON: {errors[0]['msg']}") from None
        raise invalid(errors) from None

    async def submit(item: Any) -> Receipt:
        try:
            wanted = RunRequest.model_validate(item)
        except ValidationError as error:
            errors = body_errors(error)
            receipt = await app.gate.refuse_malformed(invoker, source, "invalid_request", sentence(errors))
            receipt.errors = errors  # type: ignore[assignment]
            return receipt
        return await app.gate.submit(wanted.trigger_request(invoker, source, None))

    return list(await asyncio.gather(*(submit(item) for item in batch.requests)))
