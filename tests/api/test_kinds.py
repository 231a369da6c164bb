"""Trigger kinds that other packages bring: one that fails is told, and routes of theirs come after our own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullcord.cli.checks import examine
from tests.api.server import FLOWS, Api, Server, checked

CODE = """
from starlette.responses import PlainTextResponse
from starlette.routing import Route


class Weather:
    def init(self, deps):
        self.scheduler = deps["scheduler"]

    def start(self):
        pass

    def stop(self):
        pass

    def routes(self):
        async def answer(request):
            return PlainTextResponse("rain")

        return [Route("/weather", answer), Route("/v1/flows", answer)]


class Broken(Weather):
    def init(self, deps):
        raise OSError("the weather station is away")
"""
POINTS = "[pullcord.triggers]\nweather = weather_kind:Weather\nbroken = weather_kind:Broken\nabsent = weather_kind:No\n"


@pytest.fixture(scope="module")
def weather(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server beside which a package with trigger kinds is installed."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "weather_kind.py").write_text(CODE)
    about: Path = folder / "weather_kind-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: weather-kind\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    sys.path.insert(0, str(folder))
    try:
        with Server(tmp_path_factory.mktemp("kinds") / "data", FLOWS) as running:
            yield running
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("weather_kind", None)


@pytest.fixture
def there(weather: Server) -> Iterator[Api]:
    with weather.client() as client:
        yield client


def test_a_kind_that_fails_is_told_and_stops_nobody(there: Api) -> None:
    report = there.get("/readyz")
    assert report["ready"]
    parts = {part["name"]: part for part in report["parts"]}
    assert parts["trigger kind broken"] == {
        "name": "trigger kind broken",
        "ready": False,
        "detail": "it could not be set up: OSError: the weather station is away",
    }
    assert "AttributeError" in parts["trigger kind absent"]["detail"]
    assert "trigger kind weather" not in parts


def test_doctor_finds_it(weather: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULLCORD_URL", raising=False)
    found = [finding for finding in examine(weather.data_dir) if finding.name == "triggers"]
    assert {finding.state for finding in found} == {"wrong"}
    assert "trigger kind broken: it could not be set up: OSError" in " ".join(finding.text for finding in found)
    assert len(found) == 2


def test_its_routes_are_served_and_do_not_shadow_our_own(there: Api) -> None:
    assert there.http.get("/weather").text == "rain"
    assert set(checked(there.http.get("/v1/flows"), 200)) == {"items", "next", "failures"}
    assert "/weather" not in there.get("/openapi.json")["paths"]
