"""The words for a registration that does not stand."""

from __future__ import annotations

from lispmob.service.registration_problems import RegistrationProblems

EID, SERVER = "10.1.0.1/32", "198.51.100.1"


def told(problems: RegistrationProblems, kind: str, **fields: object) -> str | None:
    return problems.on_event(kind, {"eid": EID, "map_server": SERVER, **fields})


def test_one_lost_answer_is_no_problem_and_two_are_told_once() -> None:
    problems = RegistrationProblems()

    said = [told(problems, "register-timeout", tries=tries) for tries in (1, 2, 3)]

    assert said[0] is None
    assert said[1] is not None
    assert said[1].startswith(f"{EID} is not registered at {SERVER}: no answer to 2 Map-Registers: the key differs")
    assert said[2] is None
    assert (problems.of(EID, SERVER) or "").startswith("no answer to 3 Map-Registers")


def test_a_confirmation_ends_the_problem() -> None:
    problems = RegistrationProblems()
    told(problems, "register-timeout", tries=2)

    told(problems, "registered", tries=3)

    assert problems.of(EID, SERVER) is None


def test_silence_does_not_hide_what_a_refusal_said() -> None:
    problems = RegistrationProblems()
    told(problems, "auth-failed", text="Map-Notify refused: the key differs")

    assert told(problems, "register-timeout", tries=4) is None
    assert problems.of(EID, SERVER) == "Map-Notify refused: the key differs"


def test_one_map_server_does_not_answer_for_another() -> None:
    problems = RegistrationProblems()
    told(problems, "register-timeout", tries=2)

    assert problems.of(EID, "198.51.100.2") is None
    assert problems.of("10.1.0.2/32", SERVER) is None
