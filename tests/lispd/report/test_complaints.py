"""What events say against registrations and RTRs, and which events withdraw it."""

from __future__ import annotations

import pytest

from lispmob.lispd.report.complaints import Complaints

EID, SERVER, RLOC, RTR = "10.1.0.1/32", "198.51.100.1", "192.168.1.5", "198.51.100.9"


@pytest.mark.parametrize("kind", ["auth-failed", "register-refused"])
@pytest.mark.parametrize("end", ["registered", "withdrawn"])
def test_a_refusal_stands_until_the_registration_does_or_is_not_wanted(kind: str, end: str) -> None:
    complaints = Complaints()
    complaints.on_event(kind, {"eid": EID, "map_server": SERVER, "text": "no"})

    complaints.on_event(end, {"eid": EID, "map_server": "198.51.100.2"})
    assert complaints.refusal(EID, SERVER) == "no"
    complaints.on_event(end, {"eid": EID, "map_server": SERVER})
    assert complaints.refusal(EID, SERVER) is None


def failed(next_rtr: str | None) -> Complaints:
    complaints = Complaints()
    complaints.on_event("rtr-failed", {"rloc": RLOC, "rtr": RTR, "next": next_rtr})
    return complaints


def test_an_rtr_that_fails_while_another_one_is_left_is_no_complaint() -> None:
    assert failed("198.51.100.10").failed_rtr(RLOC) is None
    assert failed(None).failed_rtr(RLOC) == RTR


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("registered", {"eid": EID, "map_server": SERVER, "rtr": RTR}),
        ("natt-state", {"rloc": RLOC, "to": "relayed"}),
        ("natt-state", {"rloc": RLOC, "to": "direct"}),
        ("natt-state", {"rloc": RLOC, "to": "idle"}),
    ],
)
def test_the_word_about_an_rtr_ends_when_it_answers_or_is_not_needed(kind: str, fields: dict[str, object]) -> None:
    complaints = failed(None)

    complaints.on_event("natt-state", {"rloc": RLOC, "to": "registering"})
    assert complaints.failed_rtr(RLOC) == RTR
    complaints.on_event(kind, fields)
    assert complaints.failed_rtr(RLOC) is None
