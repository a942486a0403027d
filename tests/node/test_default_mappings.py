"""Where packets go while no Map-Resolver can be asked: to the RTRs, in each family and Instance-ID of ours."""

from __future__ import annotations

from lispmob.natt.plan import NattPlan, Relay
from lispmob.node.default_mappings import default_mappings
from tests.control.support import ip, prefix

EIDS = (prefix("10.1.0.1/32"), prefix("10.1.0.2/32"), prefix("[7]2001:db8::1/128"))
RELAYS = (Relay(ip("192.0.2.1"), 4341, 1, 80), Relay(ip("192.0.2.2"), 4341, 2, 20))


def test_each_family_and_instance_of_ours_goes_to_the_rtrs() -> None:
    made = default_mappings(NattPlan(defaults=RELAYS, asks_mapping_system=False), EIDS)

    wanted = [("192.0.2.1", 1, 80), ("192.0.2.2", 2, 20)]
    assert [str(record.eid_prefix) for record in made] == ["0.0.0.0/0", "[7]::/0"]
    assert all([(str(to.ip), to.priority, to.weight) for to in record.locators] == wanted for record in made)


def test_nothing_is_by_default_while_the_mapping_system_answers_or_there_is_no_rtr() -> None:
    assert default_mappings(NattPlan(defaults=RELAYS, asks_mapping_system=True), EIDS) == []
    assert default_mappings(NattPlan(asks_mapping_system=False), EIDS) == []
