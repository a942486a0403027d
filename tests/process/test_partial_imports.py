"""What lispd leaves out of the libraries that it uses, and that a later import of them finds everything."""

from __future__ import annotations

import subprocess
import sys

import pytest

LISPD = "import sys; import lispmob.__main__, lispmob.netlink.iproute; "
HEAVY = ("ssl", "unittest", "difflib", "yaml.cyaml", "yaml.constructor", "pyroute2.ndb", "sqlite3", "rich")


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_lispd_loads_nothing_of_a_library_that_it_does_not_use() -> None:
    assert run(LISPD + f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))") == ""


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("import yaml; print(yaml.safe_load('a: [1, 2]'))", "{'a': [1, 2]}"),
        ("import ssl; print(ssl.create_default_context().verify_mode.name)", "CERT_REQUIRED"),
        ("from unittest import mock; print(mock.Mock(return_value=3)())", "3"),
        ("import pyroute2; print(pyroute2.NDB.__name__)", "NDB"),
        ("import asyncio.sslproto; print(asyncio.sslproto.SSLProtocol.__name__)", "SSLProtocol"),
    ],
)
def test_a_later_import_has_the_whole_library(code: str, answer: str) -> None:
    assert run(LISPD + code) == answer


def test_a_module_that_is_loaded_already_is_the_one_that_an_import_finds() -> None:
    code = "import unittest.mock, ssl, yaml, sys; before = unittest, ssl, yaml; import lispmob.__main__; "
    code += "import lispmob.netlink.iproute; print(before == (sys.modules['unittest'], sys.modules['ssl'], yaml))"

    assert run(code) == "True"
