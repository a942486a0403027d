"""A flow as lispctl shows it: flows to names have a name and a class."""

from __future__ import annotations

import pytest

from lispmob.api.backend import ApiError
from lispmob.api.steering.schema import FlowParams
from lispmob.lispd.explain.why import read_flow
from lispmob.mh.policy import Policy, Rule, Uplink, Via
from lispmob.mh.selector import Selector


def asked(flow_name: str | None = None, flow_class: str | None = None) -> FlowParams:
    return FlowParams(
        destination="10.99.0.2", source="10.99.0.1", protocol="udp", flow_name=flow_name, flow_class=flow_class
    )


def test_a_flow_to_a_name_is_judged_by_the_rules_about_flows() -> None:
    rule = Rule("calls", Selector(flow_name="voice*", flow_classes=("voice",)), (Via("eth0"),))
    compiled = Policy((rule,)).compile([Uplink("eth0", 2)])

    voice = compiled.evaluate(read_flow(asked(flow_name="Voice.nas", flow_class="voice"), None))
    plain = compiled.evaluate(read_flow(asked(flow_name="voice.nas"), None))

    assert voice.uplinks == ("eth0",)
    assert plain.rule is None
    assert plain.steps[-1] == "no rule matches: what its class prefers, else priority and weight decide"


@pytest.mark.parametrize("words", [{"flow_class": "voice"}, {"flow_name": "x", "flow_class": "fast"}])
def test_a_class_without_a_flow_and_one_that_is_none_are_refused(words: dict[str, str]) -> None:
    with pytest.raises(ApiError, match="flow_class"):
        read_flow(asked(**words), None)
