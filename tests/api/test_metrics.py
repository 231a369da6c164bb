"""The metrics: what is documented is exposed, what is exposed is documented, and the figures are right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import pullcord
from pullcord.api.metrics import COUNTER, HISTOGRAM, METRICS
from tests.api.server import Api, Hold, Server, events_of
from tests.system.processes import poll

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = DOCS / "how-to" / "watch-with-prometheus.md"
OF_A_HISTOGRAM = ("_bucket", "_sum", "_count")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scrape:
    """What one look at `/metrics` gave."""

    def __init__(self, api: Api) -> None:
        response = api.http.get("/metrics")
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.families = list(text_string_to_metric_families(response.text))
        self._samples: Samples = {}
        for family in self.families:
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self._samples, f"{key} comes twice"
                self._samples[key] = sample.value

    def __call__(self, name: str, **labels: str) -> float:
        return self._samples.get((name, frozenset(labels.items())), 0.0)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Scrape]]:
    """A server on which all kinds of things have happened, and what it says of them."""
    hold = Hold()
    with Server(tmp_path_factory.mktemp("scene") / "data") as server, server.client() as api:
        for _ in range(3):
            api.run("steps", {"first": 1})
        failed = api.run("fail")
        api.run("flaky")
        api.run("add", {"a": 1}, test=True)
        api.submit("add", {"a": 1}, dry_run=True)
        api.submit("nothing-of-that-name", status=404)
        api.submit("add", {"a": "x"}, status=422)
        api.submit("add", {"a": 1}, idempotency_key="k")
        api.submit("add", {"a": 1}, status=200, idempotency_key="k")
        events_of(api, failed["id"])
        api.http.request("PROPFIND", "/v1/runs")
        api.http.get("/v1/no/such/address")
        running = api.submit("one-by-one", {"port": hold.port})["run_id"]
        held = hold.begun()
        waiting = api.submit("one-by-one", {"port": hold.port})["run_id"]
        yield server, Scrape(api)
        api.post(f"/v1/runs/{waiting}/cancel")
        held.release()
        api.ended(running)
    hold.close()


@pytest.fixture
def scraped(scene: tuple[Server, Scrape]) -> Scrape:
    """What the server of the scene says."""
    return scene[1]


def test_what_is_exposed_is_documented_and_the_other_way_round(scraped: Scrape) -> None:
    ours = {
        family.name + ("_total" if family.type == COUNTER else ""): family
        for family in scraped.families
        if family.name.startswith("pullcord_")
    }
    assert ours.keys() == METRICS.keys()
    page = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    # Nothing went wrong yet, and nobody is told of anything.
    empty = {
        "pullcord_worker_replacements_total", "pullcord_store_failures_total", "pullcord_notifications_sent_total",
    }  # fmt: skip
    for name, family in ours.items():
        metric = METRICS[name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert f"| `{name}` | {metric.kind} |" in page
        labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert labels == (set() if name in empty else {frozenset(metric.labels)}), name


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_names_are_as_prometheus_wants_them(metric: object) -> None:
    each = METRICS[metric.name]  # type: ignore[attr-defined]
    assert re.fullmatch(r"pullcord_[a-z0-9_]+", each.name)
    assert each.name.endswith("_total") is (each.kind == COUNTER)
    assert not each.name.endswith(("_ms", "_milliseconds", "_mb", "_kb", *OF_A_HISTOGRAM))
    assert each.help.endswith(".")


def test_requests_are_counted_by_what_became_of_them(scraped: Scrape) -> None:
    def requests(outcome: str, code: str = "") -> float:
        return scraped("pullcord_requests_total", outcome=outcome, code=code, trigger="manual")

    assert requests("admitted") == 9  # the dry run is not one of them
    assert requests("replayed") == 1
    assert requests("rejected", "unknown_flow") == 1
    assert requests("rejected", "invalid_inputs") == 1


def test_runs_are_counted_by_flow_without_test_runs(scraped: Scrape) -> None:
    def ended(flow: str, state: str) -> float:
        return scraped("pullcord_runs_ended_total", flow=flow, state=state)

    assert [ended("steps", state) for state in ("succeeded", "failed", "cancelled")] == [3, 0, 0]
    assert ended("fail", "failed") == 1
    assert (ended("flaky", "succeeded"), scraped("pullcord_run_retries_total", flow="flaky")) == (1, 1)
    for name in ("pullcord_run_duration_seconds", "pullcord_run_queue_seconds"):
        assert scraped(f"{name}_count", flow="steps") == 3
        assert scraped(f"{name}_bucket", flow="steps", le="+Inf") == 3
    assert scraped("pullcord_run_duration_seconds_sum", flow="steps") > 0
    assert scraped("pullcord_run_duration_seconds_count", flow="one-by-one") == 0
    assert scraped("pullcord_run_longest_seconds", flow="one-by-one") > 0
    assert scraped("pullcord_steps_total", state="succeeded") == 3 * 2 + 1


def test_what_goes_on_now(scraped: Scrape) -> None:
    assert scraped("pullcord_runs", state="running") == 1
    assert scraped("pullcord_runs", state="queued") == 1
    assert scraped("pullcord_queue_oldest_seconds") > 0
    assert scraped("pullcord_worker_runs", location="flows") == 1
    assert scraped("pullcord_worker_room_used", location="flows", way="async") == 1
    assert scraped("pullcord_worker_room", location="flows", way="async") == 500
    assert scraped("pullcord_workers", location="flows", role="control") == 1
    assert scraped("pullcord_workers", location="flows", role="shared") == 1
    assert scraped("pullcord_location_up", location="flows") == 1
    assert scraped("pullcord_flows", location="flows") >= 14
    assert scraped("pullcord_build_info", version=pullcord.__version__, python=_python()) == 1


def _python() -> str:
    from platform import python_version

    return python_version()


def test_the_store_is_measured(scene: tuple[Server, Scrape]) -> None:
    server, scraped = scene
    assert scraped("pullcord_store_up") == 1
    assert 9 < scraped("pullcord_commits_total") <= server.app.store.commits
    assert scraped("pullcord_commit_duration_seconds_count") == scraped("pullcord_commits_total")
    assert scraped("pullcord_commit_commands_sum") > 9
    assert scraped("pullcord_store_size_bytes") >= (server.data_dir / "pullcord.db").stat().st_size > 0
    assert scraped("pullcord_data_free_bytes") > 0


def test_calls_are_counted_by_route(scraped: Scrape) -> None:
    def calls(method: str, route: str, status: int) -> float:
        return scraped("pullcord_http_requests_total", method=method, route=route, status=str(status))

    assert calls("POST", "/v1/runs", 422) == 1
    assert calls("POST", "/v1/runs", 404) == 1
    assert calls("GET", "/v1/runs/{run_id}/events", 200) == 1
    assert calls("(other)", "/v1/runs", 405) == 1
    assert calls("GET", "(other)", 404) == 1
    assert scraped("pullcord_http_request_duration_seconds_count", route="/v1/runs") >= 11
    assert scraped("pullcord_http_request_duration_seconds_count", route="/v1/runs/{run_id}/events") == 0
    assert scraped("pullcord_http_streams") == 0


def test_a_stream_is_open_while_somebody_reads_it(api: Api, hold: Hold) -> None:
    def none_is_open() -> bool:
        # The server closes a stream a moment after its reader has its end, or has gone away.
        return Scrape(api)("pullcord_http_streams") == 0

    poll(none_is_open)
    run_id = api.submit("hold", {"port": hold.port})["run_id"]
    held = hold.begun()
    with api.http.stream("GET", f"/v1/runs/{run_id}/events") as response:
        lines = response.iter_lines()
        assert next(lines)
        assert Scrape(api)("pullcord_http_streams") == 1
        held.release()
        assert list(lines)
    poll(none_is_open)


def test_a_run_that_is_cancelled_before_it_started_is_counted(api: Api, hold: Hold) -> None:
    def cancelled() -> float:
        return Scrape(api)("pullcord_runs_ended_total", flow="one-by-one", state="cancelled")

    before = cancelled()
    first = api.submit("one-by-one", {"port": hold.port})["run_id"]
    held = hold.begun()
    second = api.submit("one-by-one", {"port": hold.port})["run_id"]
    api.post(f"/v1/runs/{second}/cancel")
    held.release()
    api.ended(first)
    assert cancelled() == before + 1


def test_counters_only_rise(api: Api) -> None:
    before = Scrape(api)
    api.run("steps", {"first": 1})
    after = Scrape(api)
    for family in before.families:
        if family.type in (COUNTER, HISTOGRAM) and family.name.startswith("pullcord_"):
            for sample in family.samples:
                assert after(sample.name, **sample.labels) >= sample.value


def test_the_alert_rules_ask_for_metrics_that_there_are() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```yaml file=(\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    rules = yaml.safe_load(blocks["pullcord-alerts.yml"])["groups"][0]["rules"]
    assert len(rules) >= 8
    assert yaml.safe_load(blocks["prometheus.yml"])["rule_files"] == ["pullcord-alerts.yml"]
    known = METRICS.keys() | {
        name + suffix for name, metric in METRICS.items() if metric.kind == HISTOGRAM for suffix in OF_A_HISTOGRAM
    }
    for rule in rules:
        asked = set(re.findall(r"pullcord_\w+", rule["expr"]))
        assert asked <= known and (asked or rule["alert"] == "PullcordDown"), rule
    assert set(re.findall(r"`?(pullcord_\w+)", text)) <= known
    labels = {label for metric in METRICS.values() for label in metric.labels} | {"job", "le"}
    for selector in re.findall(r"\w\{([^}]*)\}", text):
        assert set(re.findall(r"(\w+)=~?\"", selector)) <= labels
