"""The routes that ask for runs again: resumed, from the beginning, and all that failed while something was down."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Request

from pullcord.api.admission import source_of
from pullcord.api.dependencies import Caller, RunId, body_of, json_response, key_of, receipt_response
from pullcord.api.models import RerunRequest, ResumeRequest, RetryFailedRequest
from pullcord.app import App

Resume = Annotated[ResumeRequest, body_of(ResumeRequest, optional=True)]
Rerun = Annotated[RerunRequest, body_of(RerunRequest, optional=True)]
RetryFailed = Annotated[RetryFailedRequest, body_of(RetryFailedRequest)]


def add_again(rest: FastAPI, app: App) -> None:
    """Add the routes."""

    @rest.post("/v1/runs/retry-failed", tags=["runs"], summary="Ask again for runs that failed, or say which")
    async def retry_failed(request: Request, invoker: Caller, how: RetryFailed) -> Any:
        return json_response(await app.retry_failed.retry(how.wanted(), how.dry_run, invoker, source_of(request.scope)))

    @rest.post("/v1/runs/{run_id}/resume", tags=["runs"], summary="Go on with a run that failed", status_code=202)
    async def resume(run_id: RunId, request: Request, invoker: Caller, how: Resume) -> Any:
        receipt = await app.resume(
            run_id,
            force=how.force,
            reason=how.reason,
            idempotency_key=key_of(request, how.idempotency_key),
            request_id=how.request_id,
            invoker=invoker,
            source=source_of(request.scope),
        )
        return receipt_response(receipt)

    @rest.post("/v1/runs/{run_id}/rerun", tags=["runs"], summary="Run it again from the beginning", status_code=202)
    async def rerun(run_id: RunId, request: Request, invoker: Caller, how: Rerun) -> Any:
        receipt = await app.rerun(
            run_id,
            how.inputs,
            reason=how.reason,
            idempotency_key=key_of(request, how.idempotency_key),
            request_id=how.request_id,
            invoker=invoker,
            source=source_of(request.scope),
        )
        return receipt_response(receipt)
