"""Real networks: the scenarios of lispmob/lab/real, several at a time, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from lispmob.lab.demo.stage import Stage
from lispmob.lab.process import module
from lispmob.lab.real.catalogue import SCENARIOS
from lispmob.lab.real.scenario import Scenario
from lispmob.lab.report import Check, fact

CLAIMS: Final = tuple(scenario.check for scenario in SCENARIOS)
_AT_A_TIME: Final = 4  # a scenario mostly waits
_LONGEST_S: Final = 60.0


def play(stage: Stage) -> None:
    """Play all scenarios; one that fails leaves its claim open and does not stop the others."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for scenario, (check, words) in zip(SCENARIOS, pool.map(_play, SCENARIOS), strict=True):
            stage.report.check(check)
            stage.screen.say(f"  {scenario.title}: {_verdict(check)}")
            if words:
                stage.report.event("real-failed", time.monotonic(), name=scenario.name, why=words)


def _play(scenario: Scenario) -> tuple[Check, str]:
    """The check, and the error output of the process."""
    line = module("lispmob.lab.real", scenario.name)
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        return fact(scenario.check, ok=False), f"not done after {_LONGEST_S} s"
    if not done.stdout.strip():
        return fact(scenario.check, ok=False), done.stderr.strip()[-2000:]
    answer = json.loads(done.stdout)
    return Check(**answer), ""


def _verdict(check: Check) -> str:
    measured = "" if check.value is None else f", {check.value} {check.unit}"
    return f"{check.verdict.value}{measured}"
