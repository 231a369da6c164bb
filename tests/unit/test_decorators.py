"""`@pc.flow` and `@pc.step`: with and without parentheses, names, settings, and what cannot work is refused at once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import pullcord as pc
from pullcord.core.concurrency import Concurrency
from pullcord.core.errors import DefinitionError, UsageError
from pullcord.core.flow import Flow
from pullcord.core.retry import NO_RETRY
from pullcord.core.step import Step


def double_it(x: int, by: int = 2) -> int:
    """Multiply."""
    return x * by


async def double_later(x: int) -> int:
    return x * 2


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Callable:
    def __call__(self) -> int:
        return 1


@pytest.mark.parametrize("made", [pc.flow(double_it), pc.flow()(double_it)], ids=["bare", "called"])
def test_a_flow_with_and_without_parentheses(made: Flow[Any, int]) -> None:
    assert made.name == "double-it"
    assert made.description == "Multiply."
    assert made.settings.concurrency == Concurrency(1)
    assert made.settings.retry == NO_RETRY
    assert made.settings.timeout is None
    assert made.settings.tags == ()
    assert made.settings.isolated is False
    assert made.version is None
    assert not made.is_async


@pytest.mark.parametrize("made", [pc.step(double_it), pc.step()(double_it)], ids=["bare", "called"])
def test_a_step_with_and_without_parentheses(made: Step[Any, int]) -> None:
    assert made.name == "double_it"
    assert made.retry == NO_RETRY
    assert made.timeout is None
    assert made.explicit_key((1,), {}) is None


@pytest.mark.parametrize("declare", [pc.flow, pc.step])
def test_outside_a_run_it_is_the_plain_function(declare: Any) -> None:
    sync, later = declare(double_it), declare(double_later)
    assert sync(3) == 6
    assert sync(x=3, by=3) == 9
    assert later.is_async
    assert asyncio.run(later(4)) == 8
    assert sync.__name__ == "double_it"
    assert sync.__doc__ == "Multiply."
    assert inspect.signature(sync) == inspect.signature(double_it)


@pytest.mark.parametrize("declare", [pc.flow, pc.step])
@pytest.mark.parametrize(
    "target", [generator, async_generator, Callable(), Callable, print, "name", 5], ids=lambda target: str(target)[:20]
)
def test_what_is_no_plain_function_is_refused(declare: Any, target: Any) -> None:
    with pytest.raises(DefinitionError):
        declare(target)
    with pytest.raises(DefinitionError):
        declare(name="other")(target)


@pytest.mark.parametrize(
    ("function_name", "flow_name"), [("a_b_c", "a-b-c"), ("_hidden_", "hidden"), ("ETL2", "ETL2"), ("x", "x")]
)
def test_a_flow_is_called_like_its_function_with_dashes(function_name: str, flow_name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def {function_name}(): pass", namespace)
    assert pc.flow(namespace[function_name]).name == flow_name


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "0", "x" * 100])
def test_names_that_a_flow_may_have(name: str) -> None:
    assert pc.flow(name=name)(double_it).name == name


@pytest.mark.parametrize("name", ["-a", ".a", "a b", "a/b", "ü", "a\n", "x" * 101, "a\0", "_"])
def test_names_that_a_flow_may_not_have(name: str) -> None:
    with pytest.raises(DefinitionError, match="no flow name"):
        pc.flow(name=name)(double_it)


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(DefinitionError, match="no flow name"):
        pc.flow(lambda: 1)
    assert pc.flow(name="named")(lambda: 1).name == "named"


@pytest.mark.parametrize("value", [1, 2, 1000, None])
def test_concurrency_that_makes_sense(value: int | None) -> None:
    assert pc.flow(concurrency=value)(double_it).settings.concurrency == Concurrency(value)


@pytest.mark.parametrize("value", [0, -1, True, False, 1.5, "2", {"x": 2}, {1: 2}, {"limit": 2, "group": {"x": 2}}])
def test_concurrency_that_does_not(value: Any) -> None:
    with pytest.raises(DefinitionError, match="concurrency"):
        pc.flow(concurrency=value)


@pytest.mark.parametrize("policy", [[], {}, None, 1, "QUEUE"])
def test_a_policy_that_there_is_not(policy: Any) -> None:
    with pytest.raises(DefinitionError, match="on_conflict must be one of"):
        pc.Concurrency(on_conflict=policy)


def test_the_settings_reach_the_manifest() -> None:
    made = pc.flow(
        concurrency=3,
        retries=pc.Retry(limit=2, delay="5s"),
        timeout="2h",
        tags=["b", "a", "b"],
        isolated=True,
        rate=pc.Rate(limit=10, per="1m"),
        max_queued=7,
        queue_ttl="1h",
        suspend_after=3,
        notify=[pc.on_failure("ops")],
        version="7",
        keep=pc.Keep(runs="30d", count=1000, logs="forever"),
    )(double_it)
    assert made.version == "7"
    assert made.settings.as_json() == {
        "concurrency": {"limit": 3, "key": None, "on_conflict": "queue", "group": None},
        "retries": {
            "limit": 2,
            "delay": 5.0,
            "backoff": 2.0,
            "jitter": True,
            "max_delay": 3600.0,
            "retry_on": None,
            "start": "failed",
        },
        "timeout": 7200.0,
        "tags": ["b", "a"],
        "isolated": True,
        "notify": [{"event": "run.failed", "channels": ["ops"]}],
        "keep": {"runs": 30 * 86_400.0, "logs": "forever", "count": 1000},
        "rate": {"limit": 10, "per": 60.0, "by": "flow", "on_limit": "reject"},
        "max_queued": 7,
        "queue_ttl": 3600.0,
        "suspend_after": 3,
    }


@pytest.mark.parametrize("declare", [pc.flow, pc.step])
@pytest.mark.parametrize("timeout", [0, "0s", -1, "soon", True])
def test_a_timeout_must_be_a_positive_duration(declare: Any, timeout: Any) -> None:
    with pytest.raises(DefinitionError, match="timeout"):
        declare(timeout=timeout)(double_it)


@pytest.mark.parametrize("declare", [pc.flow, pc.step])
@pytest.mark.parametrize("retries", [-1, 1001, True, "3", 1.5])
def test_retries_must_be_a_number_or_a_rule(declare: Any, retries: Any) -> None:
    with pytest.raises(DefinitionError, match="retries"):
        declare(retries=retries)(double_it)


@pytest.mark.parametrize("tags", ["finance", ["a", ""], [1], [None]])
def test_tags_must_be_a_list_of_words(tags: Any) -> None:
    with pytest.raises(DefinitionError, match="tags"):
        pc.flow(tags=tags)


def test_a_number_of_retries_and_a_delay_make_a_rule() -> None:
    assert pc.step(retries=2, delay="3s")(double_it).retry == pc.Retry(limit=2, delay=3)
    assert pc.step(retries=pc.Retry(limit=4))(double_it).retry == pc.Retry(limit=4)


def test_an_explicit_key_is_a_pattern_over_the_parameters_or_a_function() -> None:
    pattern = pc.step(key="{x}/{by}")(double_it)
    assert pattern.explicit_key((1,), {}) == "1/2"
    assert pattern.explicit_key((), {"by": 5, "x": 4}) == "4/5"
    assert pc.step(key=lambda x, by=2: f"k{x * by}")(double_it).explicit_key((3,), {}) == "k6"


@pytest.mark.parametrize("key", ["{order_id}", "{0}", "{x.missing}"])
def test_a_key_that_names_no_parameter_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match="does not fit its parameters"):
        pc.step(key=key)(double_it).explicit_key((1,), {})


def test_a_method_can_be_a_step() -> None:
    class Shop:
        price = 3

        @pc.step
        def total(self, count: int) -> int:
            return self.price * count

    assert Shop().total(2) == 6
    assert Shop.total.name == "total"


def test_annotations_may_name_what_is_defined_later() -> None:
    namespace: dict[str, Any] = {"pc": pc}
    exec(
        "from __future__ import annotations\n"
        "@pc.flow\ndef early(x: Later) -> Later: return x\n"
        "from pydantic import BaseModel\nclass Later(BaseModel):\n    n: int\n",
        namespace,
    )
    made: Flow[Any, Any] = namespace["early"]
    arguments = made.inputs.arguments('{"x": {"n": 1}}')
    assert made.codec.decode(made.codec.encode(arguments["x"])) == arguments["x"]


@pytest.mark.parametrize("name", ["a\ud800", "a\0b", 5])
def test_a_step_name_is_text_that_can_be_kept(name: Any) -> None:
    with pytest.raises(DefinitionError, match="no step name"):
        pc.step(name=name)(double_it)
