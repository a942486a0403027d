"""The notifications of a systemd service of Type=notify: READY, RELOADING, STOPPING, STATUS, WATCHDOG."""

from __future__ import annotations

import asyncio
import os
import socket
import time


def notify(*lines: str) -> bool:
    """Send lines such as "READY=1" to the service manager. False, and nothing happens, when there is none."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    if path.startswith("@"):  # an abstract socket
        path = "\0" + path[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            sender.sendto("\n".join(line.replace("\n", " ") for line in lines).encode(), path)
    except OSError:  # a manager that went away is no reason to stop
        return False
    return True


def ready(status: str) -> bool:
    """Start-up or a reload is complete; `status` is the line that `systemctl status` shows."""
    return notify("READY=1", f"STATUS={status}")


def reloading() -> bool:
    """A reload begins; `ready()` ends it."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    return notify("RELOADING=1", f"MONOTONIC_USEC={microseconds}")


def stopping() -> bool:
    """Shutdown begins."""
    return notify("STOPPING=1")


def status(text: str) -> bool:
    """A new line for `systemctl status`."""
    return notify(f"STATUS={text}")


def watchdog() -> bool:
    """We are alive. Due every `watchdog_interval_s()`."""
    return notify("WATCHDOG=1")


async def keep_alive(every_s: float) -> None:
    """Notify the watchdog periodically that the loop runs. Run it only if the unit asks for it."""
    while True:
        watchdog()
        await asyncio.sleep(every_s)


def watchdog_interval_s() -> float | None:
    """How often to call `watchdog()`: half of the unit's interval; None if it does not watch this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 2e6 if text.isdecimal() and int(text) > 0 else None
