"""D-Bus shows the same as `lispctl status`: the verdict, the headline, and each problem with its remedy."""

from __future__ import annotations

import msgspec

from lispmob.api.dbus_values import SIGNATURES, marshal, properties
from lispmob.api.schema import Problem
from tests.api.fake_backend import FakeBackend

DEAD = Problem(
    key="rtr-dead",
    severity="broken",
    what="the RTR 198.51.100.1 does not answer wlan0",
    cause="everything goes through it",
    remedy="see whether it is up",
    subject="wlan0 192.168.1.5",
    since_s=12.5,
)


def shown(*problems: Problem) -> dict[str, object]:
    backend = FakeBackend()
    backend.verdict, backend.headline = "not-working", "not working: the RTR 198.51.100.1 does not answer wlan0"
    backend.problems = list(problems)
    return properties(backend.status())


def test_a_problem_is_a_dictionary_with_its_key_its_cause_and_its_remedy() -> None:
    found = shown(DEAD)

    assert (found["Verdict"], found["Headline"]) == (
        "not-working",
        "not working: the RTR 198.51.100.1 does not answer wlan0",
    )
    assert found["Problems"] == [{key: value for key, value in msgspec.to_builtins(DEAD).items() if key != "since_s"}]


def test_a_problem_that_lasts_is_no_news_of_each_second() -> None:
    assert shown(DEAD) == shown(msgspec.structs.replace(DEAD, since_s=99.0))


def test_the_types_on_the_bus_are_those_that_are_announced() -> None:
    found = shown(DEAD)

    marshalled = marshal(SIGNATURES["Problems"], found["Problems"], lambda signature, value: (signature, value))

    assert marshalled[0]["remedy"] == ("s", "see whether it is up")
    assert {SIGNATURES[key] for key in ("Verdict", "Headline")} == {"s"}
