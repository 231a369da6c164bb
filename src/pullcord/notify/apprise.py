"""Messages to the many services that the library Apprise knows; the extra `pullcord[notify]`."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from importlib.util import find_spec
from typing import Final

from pullcord.notify.channel import DeliveryError
from pullcord.notify.message import Message
from pullcord.notify.secrecy import revealed, unlogged
from pullcord.notify.settings import SecretUrlOptions

MOST_BUSY: Final = 4
"""Threads of one channel that may be at work at once: one whose deadline has passed cannot be stopped."""

_LEVELS: Final = {"info": "info", "success": "success", "warning": "warning", "error": "failure"}
_STATUS: Final = re.compile(r"error=(\d{3})\b")
_LOGGERS: Final = ("apprise", "urllib3.connectionpool")


class AppriseChannel:
    """Sends to one service, each message in a thread of its own. See `Channel`.

    A message that was not sent in time counts as not taken, and may arrive later all the same.

    Args:
        name: the channel's name.
        options: where the service's address is.
        timeout: seconds for one message.
    """

    kind = "apprise"

    def __init__(self, name: str, options: SecretUrlOptions, timeout: float) -> None:
        self.name = name
        self._reference = options.url
        self._timeout = timeout
        self._busy = 0

    async def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            DeliveryError: the service did not take it. Apprise does not say whether trying again makes sense, so
                this is never permanent.
        """
        if find_spec("apprise") is None:
            raise DeliveryError(
                'channels of kind "apprise" need an extra: pip install "pullcord[notify]", and restart the server'
            )
        url = revealed(self._reference).strip()
        if self._busy >= MOST_BUSY:
            raise DeliveryError(f"{self._busy} earlier messages are still on their way; the service hangs")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str | None] = loop.create_future()

        def work() -> None:
            try:
                trouble = _send(url, message, self._reference)
            except Exception as error:  # whatever it is, its words may hold the address
                trouble = f"apprise failed while it sent the message: {type(error).__name__}"
            _tell(loop, self._finish, done, trouble)

        self._busy += 1
        # No pool: Python waits for a pool's threads when it ends, and this one may hang.
        threading.Thread(target=copy_context().run, args=(work,), name=f"notify {self.name}", daemon=True).start()
        try:
            async with asyncio.timeout(self._timeout):
                trouble = await done
        except TimeoutError:
            raise DeliveryError(f"the service did not take it within {self._timeout:g} s") from None
        if trouble is not None:
            raise DeliveryError(trouble)

    def _finish(self, done: asyncio.Future[str | None], trouble: str | None) -> None:
        self._busy -= 1
        if not done.done():
            done.set_result(trouble)


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *arguments: object) -> None:
    # A loop that has ended has nobody who waits.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(what, *arguments)


def _send(url: str, message: Message, reference: str) -> str | None:
    """Send a message and return what is wrong, or None."""
    with unlogged(*_LOGGERS) as said:
        from apprise import Apprise, AppriseAsset

        # Without its own threads, which end with the process only once they are done; a redirect could take the
        # credentials elsewhere.
        asset = AppriseAsset(async_mode=False, service_timeout=0, http_redirects=False, app_id="Pullcord")
        service = Apprise(asset=asset)
        if not service.add(url) or len(service) != 1:
            return f"what {reference} holds is not one address of a service that Apprise knows; correct it"
        text = message.text if message.link is None else f"{message.text}\n\n{message.link}"
        result = service.notify(
            body=text or message.title,
            title=" ".join(message.title.split()),
            notify_type=_LEVELS[message.level],
            body_format="text",
            interpret_escapes=False,
        )
        if result:
            return None
        found = next(filter(None, map(_STATUS.search, said)), None)
        status = "" if found is None else f" ({found[1]})"
        return f"the service did not take it{status}; correct the address, and see that the service can be reached"
