"""Our rules for polkit, run by the JavaScript engine of a browser in place of polkitd's."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.hub.web.browser import browser, why_no_browser

RULES = Path(__file__).resolve().parents[2] / "packaging" / "polkit"
UNITS = "org.freedesktop.systemd1.manage-units"
SITS_HERE = {"user": "anna", "local": True, "active": True}

pytestmark = pytest.mark.skipif(why_no_browser() is not None, reason=why_no_browser() or "")

Case = tuple[str, dict[str, str], dict[str, Any], bool]
CASES: list[Case] = [
    (UNITS, {"unit": "lispd.service", "verb": "start"}, SITS_HERE, True),
    (UNITS, {"unit": "lispd.service", "verb": "stop"}, SITS_HERE, True),
    (UNITS, {"unit": "lispd.service", "verb": "restart"}, SITS_HERE, False),
    (UNITS, {"unit": "lisphub.service", "verb": "stop"}, SITS_HERE, False),
    (UNITS, {"unit": "ssh.service", "verb": "stop"}, SITS_HERE, False),
    (UNITS, {}, SITS_HERE, False),
    (UNITS, {"unit": "lispd.service", "verb": "stop"}, {**SITS_HERE, "active": False}, False),
    (UNITS, {"unit": "lispd.service", "verb": "stop"}, {**SITS_HERE, "local": False}, False),
    ("org.freedesktop.systemd1.manage-unit-files", {"unit": "lispd.service", "verb": "start"}, SITS_HERE, False),
    ("org.freedesktop.resolve1.set-domains", {}, {"user": "lispmob"}, True),
    ("org.freedesktop.resolve1.set-domains", {}, SITS_HERE, False),
    ("org.freedesktop.resolve1.register-service", {}, {"user": "lispmob"}, False),
    ("org.freedesktop.NetworkManager.reload", {}, {"user": "lispmob"}, False),
]


def test_who_sits_here_may_start_and_stop_lispd_alone_and_lispd_may_tell_resolved_alone() -> None:
    rules = "\n".join(path.read_text() for path in sorted(RULES.glob("*.rules")))
    asked = [[action, details, subject] for action, details, subject, _ in CASES]
    script = (
        "(() => { const rules = []; const polkit = {Result: {YES: 'yes'}, addRule: rule => rules.push(rule)};\n"
        f"{rules}\n"
        f"return {json.dumps(asked)}.map(([id, details, subject]) => rules.some(rule =>"
        " rule({id: id, lookup: name => details[name]}, subject) === 'yes')); })()"
    )

    async def main() -> Any:
        async with asyncio.timeout(60), browser() as tab:
            return await tab.ask(script)

    assert asyncio.run(main()) == [is_allowed for *_, is_allowed in CASES]
