"""Check web sites in parallel: an async flow whose steps run side by side.

What it shows: `asyncio.gather` over a recorded async step with retries, a URL that is validated before the run exists,
and a typed report. A site that does not answer is a row in the report; only when none answers does the run fail. After
a crash the sites that were checked already are not asked again. The default inputs need no internet: they ask the
Pullcord server itself, and a port where nobody listens. Your own: `--inputs FILE` with {"urls": ["https://…", …]}.

    pullcord serve examples/
    pullcord run site-health --wait
"""

import asyncio
import ssl
import time
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, HttpUrl

import pullcord as pc

MAX_HEAD = 64 * 1024  # a status line and headers are never longer
OFFLINE = [HttpUrl(f"http://127.0.0.1:{rest}") for rest in ("8321/healthz", "8321/readyz", "9/")]


def without_password(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError("leave out user and password: inputs are kept and shown")
    return url


Url = Annotated[HttpUrl, AfterValidator(without_password)]


class Answer(BaseModel):
    """What the step records about a site that answered, with whatever status."""

    status: int
    milliseconds: float
    server: str | None = None
    certificate_days: int | None = Field(default=None, description="Days until the TLS certificate expires")
    checked_at: datetime


class Site(BaseModel):
    url: str
    healthy: bool
    answer: Answer | None = None
    problem: str | None = None


class Report(BaseModel):
    healthy: int
    unhealthy: int
    unreachable: int
    slowest: str = Field(description="The site that took longest to answer")
    sites: list[Site] = Field(description="In the order of the input")


@pc.flow(name="site-health", concurrency=None, tags=["example", "async"], timeout="10m")
async def site_health(
    urls: Annotated[list[Url], Field(min_length=1, max_length=200, description="The sites to check")] = OFFLINE,
    timeout: Annotated[float, Field(gt=0, le=60, description="Seconds a site may take to answer")] = 5.0,
    parallel: Annotated[int, Field(ge=1, le=50, description="Sites to check at the same time")] = 10,
) -> Report:
    """Ask every site once and report **status**, response time and the days its certificate has left."""
    distinct = list(dict.fromkeys(map(str, urls)))
    turn = asyncio.Semaphore(parallel)
    done = 0

    async def look_at(url: str) -> Site:
        nonlocal done
        async with turn:
            try:
                answer = await check_site(url, timeout)
                problem = None if answer.status < 400 else f"HTTP status {answer.status}"
                site = Site(url=url, healthy=problem is None, answer=answer, problem=problem)
            except ConnectionError as error:  # what the step raises when all its tries are used up
                site = Site(url=url, healthy=False, problem=str(error))
        done += 1
        pc.progress(done, len(distinct), url)
        print(f"{url}: {site.problem or 'healthy'}")
        return site

    sites = await asyncio.gather(*(look_at(url) for url in distinct))
    answered = {site.url: site.answer for site in sites if site.answer}
    if not answered:
        raise ConnectionError(f"none of the {len(sites)} sites answered; the first one: {sites[0].problem}")
    healthy = sum(site.healthy for site in sites)
    return Report(
        healthy=healthy,
        unhealthy=len(answered) - healthy,
        unreachable=len(sites) - len(answered),
        slowest=max(answered, key=lambda url: answered[url].milliseconds),
        sites=sites,
    )


@pc.step(retries=2, delay="500ms")
async def check_site(url: str, timeout: float) -> Answer:
    """Ask once. Any HTTP answer is a result; no answer is an error, so it is tried again."""
    try:
        async with asyncio.timeout(timeout):
            return await ask(url)
    except TimeoutError:
        raise ConnectionError(f"no answer within {timeout:g} s") from None
    except (OSError, ValueError, EOFError, asyncio.LimitOverrunError) as error:  # refused, no such host, TLS, no HTTP
        raise ConnectionError(f"{type(error).__name__}: {error}") from None


async def ask(url: str) -> Answer:
    """Send one GET request and read the head of the answer; redirects are not followed."""
    parts = urlsplit(url)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    began = time.perf_counter()
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure, limit=MAX_HEAD)
    try:
        lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", "User-Agent: pullcord", "Connection: close"]
        writer.write("\r\n".join([*lines, "", ""]).encode("ascii"))
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        milliseconds = (time.perf_counter() - began) * 1000
        certificate = writer.get_extra_info("peercert")
    finally:
        writer.close()
    status_line, *lines = head.split("\r\n")
    protocol, _, rest = status_line.partition(" ")
    if not protocol.startswith("HTTP/"):
        raise ValueError("this is not an HTTP server")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(
        status=int(rest[:3]),
        milliseconds=round(milliseconds, 1),
        server=headers.get("server"),
        certificate_days=days_left(certificate["notAfter"]) if certificate else None,
        checked_at=datetime.now(UTC),
    )


def days_left(not_after: str) -> int:
    return int((ssl.cert_time_to_seconds(not_after) - time.time()) // 86_400)
