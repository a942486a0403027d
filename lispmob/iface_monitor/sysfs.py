"""Properties of interfaces in /sys/class/net that netlink does not report.

The /sys of another network namespace has other interfaces with the same names: an entry counts only if it has the same
index.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Final

from lispmob.iface_monitor.link_type import SILENT, DriverWords

SYS: Final = Path("/sys/class/net")
_OF_HARDWARE: Final = frozenset({"wlan", "wwan", "bluetooth", "dsa"})


def interface_names() -> list[str]:
    """Every interface. Raises OSError where /sys is closed."""
    return sorted(path.name for path in SYS.iterdir() if (path / "ifindex").exists())


def driver_words(name: str, ifindex: int, root: Path = SYS) -> DriverWords:
    """The type of an interface by its driver, and whether it is on USB."""
    with contextlib.suppress(OSError, ValueError):
        here = root / name
        told = _words(here / "uevent")
        if told.get("IFINDEX") == str(ifindex):
            device = _words(here / "device" / "uevent")
            return DriverWords(
                devtype=told.get("DEVTYPE", ""),
                is_wireless=(here / "wireless").exists() or (here / "phy80211").exists(),
                is_usb=device.get("DEVTYPE") == "usb_interface",
            )
    return SILENT


def kind(name: str) -> str:
    """rtnetlink's word for the kind, as far as /sys has it; empty for hardware."""
    with contextlib.suppress(OSError, ValueError):
        if (SYS / name / "tun_flags").exists():
            return "tun"
        devtype = _words(SYS / name / "uevent").get("DEVTYPE", "")
        return "" if devtype in _OF_HARDWARE else devtype
    return ""


def hardware(name: str) -> int:
    """The link layer's ARPHRD number; 0 if unknown."""
    with contextlib.suppress(OSError, ValueError):
        return int((SYS / name / "type").read_text("ascii"))
    return 0


def _words(path: Path) -> dict[str, str]:
    """The lines KEY=value of a file; none if there is no such file."""
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        return {}
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
