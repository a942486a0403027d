"""The OpenWrt recipe, as far as it can be checked without OpenWrt: make reads it, and the init script is right."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest

from tests.packaging.machine import ROOT

RECIPE: Final = ROOT / "packaging" / "openwrt"
INIT: Final = RECIPE / "files" / "lispd.init"

# OpenWrt's own files, as far as the recipe uses them: they print what it defines.
_RULES: Final = "INCLUDE_DIR:=$(TOPDIR)/include\n"
_BUILD: Final = """define Py3Package
endef
define BuildPackage
$(foreach word,PKG_NAME PKG_VERSION PKG_SOURCE PKG_LICENSE,$(info $(word)=$($(word))))
$(eval $(call Package/$(1)))
$(info DEPENDS=$(DEPENDS))
$(foreach line,conffiles,$(info CONF=$(strip $(call Package/$(1)/$(line)))))
$(info $(call Py3Package/$(1)/install,ROOT))
endef
all:
"""
# procd's functions: each prints its arguments.
_PROCD: Final = """for verb in procd_open_instance procd_set_param procd_close_instance; do
  eval "$verb() { echo $verb \\"\\$@\\"; }"
done
logger() { shift 3; echo "$@" >&2; }
"""


def shells() -> list[list[str]]:
    """OpenWrt's is BusyBox's ash; dash is closest to it."""
    found = [[shell] for shell in ("dash",) if shutil.which(shell)]
    return found + ([["busybox", "ash"]] if shutil.which("busybox") else [])


@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing: install the Debian package make")
def test_make_reads_the_recipe_and_it_installs_what_is_there(tmp_path: Path) -> None:
    for path, text in (
        ("rules.mk", _RULES),
        ("include/package.mk", ""),
        ("feeds/packages/lang/python/python3-package.mk", _BUILD),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="ascii")
    command = [
        "make",
        "-s",
        "-f",
        str(RECIPE / "Makefile"),
        f"TOPDIR={tmp_path}",
        "INSTALL_BIN=bin",
        "INSTALL_CONF=conf",
    ]
    done = subprocess.run(command, cwd=RECIPE, capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if re.match(r"[A-Z_]+=", line))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert told["PKG_NAME"] == project["name"]
    assert told["PKG_VERSION"] == project["version"]
    assert told["PKG_SOURCE"] == f"{project['name']}-{project['version']}.tar.gz"
    assert told["CONF"] == "/etc/lispmob/lispd.conf"
    needed = {re.split(r"[<>=! ;]", dependency)[0].lower() for dependency in project["dependencies"]}
    optional = {"dbus-next", "setuptools"}
    recipe_names = {"pyyaml": "yaml"}
    for name in needed - optional:
        assert f"+python3-{recipe_names.get(name, name)}" in told["DEPENDS"].split()
    installed = [line.strip() for line in done.stdout.splitlines()]
    assert "bin ./files/lispd.init ROOT/etc/init.d/lispd" in installed
    assert "conf /conf/lispd.conf ROOT/etc/lispmob/lispd.conf" in installed
    assert INIT.exists()
    assert (ROOT / "conf" / "lispd.conf").exists()


@pytest.mark.parametrize("shell", shells(), ids=" ".join)
@pytest.mark.parametrize(("key", "is_started"), [("CHANGE-ME", False), ("a key of our own", True)])
def test_the_init_script_starts_lispd_under_procd_once_the_configuration_is_edited(
    tmp_path: Path, shell: list[str], key: str, is_started: bool
) -> None:
    config = tmp_path / "lispd.conf"
    config.write_text((ROOT / "conf" / "lispd.conf").read_text("utf-8").replace("CHANGE-ME", key), encoding="utf-8")
    script = INIT.read_text("ascii").replace("/etc/lispmob/lispd.conf", str(config))
    (tmp_path / "run").write_text(f"set -eu\n{_PROCD}{script}\nstart_service\n", encoding="ascii")

    done = subprocess.run([*shell, str(tmp_path / "run")], capture_output=True, text=True, timeout=10, check=False)

    assert done.returncode == 0
    assert ("CHANGE-ME" in done.stderr) == (not is_started)
    said = done.stdout.splitlines()
    if not is_started:
        assert said == []
        return
    assert said[0] == "procd_open_instance"
    assert "procd_set_param command /usr/bin/lispd" in said
    assert "procd_set_param reload_signal HUP" in said
    assert said[-1] == "procd_close_instance"
    assert script.startswith("#!/bin/sh /etc/rc.common\n")
    assert "USE_PROCD=1" in script.splitlines()
