"""The routes of artifacts: which a run has, and their contents."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse

from pullcord.api.dependencies import RunId, json_response
from pullcord.app import App
from pullcord.core.artifact import content_path
from pullcord.core.errors import NotFoundError
from pullcord.store.queries.artifacts import find_artifact, list_artifacts
from pullcord.store.queries.runs import run_number

_SAFE: Final = {
    "x-content-type-options": "nosniff",
    # Whatever a run has stored, a browser must not execute it as a page of this server.
    "content-security-policy": "sandbox; default-src 'none'",
    "cache-control": "private, no-cache",
}
UNKNOWN: Final = "application/octet-stream"


def add_artifacts(rest: FastAPI, app: App) -> None:
    """Add the routes of artifacts."""
    folder = Path(app.data_dir) / "artifacts"

    @rest.get("/v1/runs/{run_id}/artifacts", tags=["runs"], summary="List the artifacts of a run by name")
    async def artifacts(run_id: RunId) -> Any:
        items = await app.store.read(list_artifacts, run_id)
        if not items and await app.store.read(run_number, run_id) is None:
            raise _no_run(run_id)
        return json_response({"items": items, "next": None})

    @rest.get(
        "/v1/runs/{run_id}/artifacts/{name}", tags=["runs"], summary="Download an artifact",
        response_class=FileResponse,
    )  # fmt: skip
    async def artifact(run_id: RunId, name: str, request: Request) -> Any:
        # PostgreSQL knows no text with a NUL, and so no such name.
        item = None if "\0" in name else await app.store.read(find_artifact, run_id, name)
        if item is None:
            if await app.store.read(run_number, run_id) is None:
                raise _no_run(run_id)
            raise NotFoundError(
                f"the run has no artifact {name[:100]!r}, or it was kept long enough; "
                f"`pullcord runs artifacts {run_id}` lists what there is"
            )
        path = folder / content_path(item["sha256"])
        if not path.is_file():
            raise NotFoundError(
                f"the content of the artifact {name[:100]!r} is not in the data folder, perhaps because a back-up "
                "without artifacts was restored; restore one that has them, or store it with a new run"
            )
        tag = f'"{item["sha256"]}"'
        headers = {**_SAFE, "etag": tag}
        if tag in [given.strip() for given in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        return FileResponse(path, headers=headers, media_type=item["media_type"] or UNKNOWN, filename=name)


def _no_run(run_id: str) -> NotFoundError:
    return NotFoundError(f"no run has the id {run_id}; `pullcord runs list` shows the latest")
