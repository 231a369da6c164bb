"""The Python client of the HTTP API: `Client`, and `AsyncClient` with the same surface."""

from pullcord.client.aio import AsyncClient
from pullcord.client.calls import Page
from pullcord.client.downloads import DownloadError
from pullcord.client.errors import ServerUnreachableError, UnexpectedAnswerError
from pullcord.client.events import Event
from pullcord.client.sync import Client

__all__ = ["AsyncClient", "Client", "DownloadError", "Event", "Page", "ServerUnreachableError", "UnexpectedAnswerError"]
