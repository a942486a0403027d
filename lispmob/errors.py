"""The exception tree: what can go wrong, and who is to be told."""

from __future__ import annotations


class LispError(Exception):
    """The root of everything that this project raises on purpose."""


class MalformedMessage(LispError):
    """A peer sent octets that cannot be read: count it, drop it, go on.

    `counter` names the receive counter to add 1 to, such as "rx_truncated".
    """

    def __init__(self, counter: str, why: str) -> None:
        super().__init__(f"{why} ({counter})")
        self.counter = counter
        self.why = why


class AuthenticationFailed(LispError):
    """A message whose MAC, key or algorithm is not the configured one: count it, drop it, never answer."""


class ConfigError(LispError):
    """The configuration cannot be used; the text names file, line, column and key. Exit code 78 (EX_CONFIG)."""


class KernelRefused(LispError):
    """The kernel said no; the text names the operation, the errno and the capability or tool that is missing."""


class NotRunning(LispError):
    """The command line found no daemon; the text says how to start it."""
