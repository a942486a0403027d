"""Imports less than a whole library, so that a daemon starts faster and stays smaller (adapter).

All such ways are in this file. Each leaves nothing behind: a later import of the library works as usual.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Imports inside are made without garbage collection, now or later, and without TLS: 25 ms less of 180.

    asyncio loads OpenSSL if there is one, and works without; nothing here uses TLS.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with _in_place_of("ssl", None):
            yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def without_tls() -> Iterator[None]:
    """Imports inside find an empty module in place of `ssl`, which takes a megabyte."""
    importlib.import_module("asyncio")  # it would take the empty module for the real one
    with _in_place_of("ssl", ModuleType("ssl")):
        yield


@contextlib.contextmanager
def without_mocks() -> Iterator[None]:
    """Imports inside find a plain class in place of `unittest.mock.Mock`, which takes a megabyte."""
    stand_in = ModuleType("unittest")
    stand_in.mock = SimpleNamespace(Mock=object)  # type: ignore[attr-defined]
    with _in_place_of("unittest", stand_in):
        yield


@contextlib.contextmanager
def only_submodules_of(package: str, *, is_shared: bool = True) -> Iterator[None]:
    """Imports inside get submodules of the package without running its `__init__`, which loads all of them.

    Without `is_shared` a later import loads them again: for a package that finds its submodules among its attributes.
    """
    spec = None if package in sys.modules else importlib.util.find_spec(package)
    if spec is None:
        yield
        return
    before = set(sys.modules)
    with _in_place_of(package, importlib.util.module_from_spec(spec)):
        yield
    if not is_shared:
        for name in [name for name in sys.modules if name.startswith(f"{package}.") and name not in before]:
            del sys.modules[name]


@contextlib.contextmanager
def _in_place_of(name: str, stand_in: ModuleType | None) -> Iterator[None]:
    """Imports of `name` inside get the stand-in; None: they find no such module. A module that is loaded stays."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = stand_in  # type: ignore[assignment]  # None is how an import is told so
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
