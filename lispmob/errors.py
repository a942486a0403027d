"""The exception tree: the kinds of errors, and how each is handled."""

from __future__ import annotations


class LispError(Exception):
    """The base of all exceptions that this project raises."""


class MalformedMessage(LispError):
    """A peer sent an invalid message: count it, drop it, continue.

    `counter` names the receive counter to increment, such as "rx_truncated".
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
    """The kernel refused; the text names the operation, the errno and the missing capability or tool."""


class NotRunning(LispError):
    """The command line found no daemon; the text says how to start it."""
