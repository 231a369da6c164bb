"""What tests of channels share: certificates, a message, secrets in the environment."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pullcord.notify.message import Message

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@dataclass(frozen=True)
class Certificate:
    """A certificate of this machine that signs itself.

    Attributes:
        path: what senders have to believe.
        server: for a server's sockets.
    """

    path: str
    server: ssl.SSLContext


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    return made(folder, "DNS:localhost,IP:127.0.0.1")


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate of somebody else."""
    return made(tmp_path_factory.mktemp("tls"), "DNS:elsewhere.example")


def made(folder: Path, names: str) -> Certificate:
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=test", "-addext", f"subjectAltName={names}", "-keyout", "key.pem", "-out", "cert.pem",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return Certificate(str(folder / "cert.pem"), context)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name can be looked up: a real DNS may take longer to say so than a channel waits."""

    def unknown(host: Any, *_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, f"{host} is not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)


@pytest.fixture
def message() -> Message:
    return Message(
        id="01a1fd0d-b69b-74ff-b4b6-1190904a12d2",
        event="run.failed",
        at=1_792_000_000_123_456,
        level="error",
        title="nightly failed",
        text="ValueError: no rows\nLook at the log, then run it again.",
        flow="nightly",
        link="https://pullcord.example/runs/1",
        data={"run": {"id": "1", "state": "failed"}},
    )


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", WHSEC)
    monkeypatch.setenv("HOOK_SECRET_2", OTHER)
