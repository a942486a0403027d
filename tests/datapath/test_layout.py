"""The structs that the C side, the BPF programs and Python share have the same layout in all compilers."""

from __future__ import annotations

import re
import shutil
import subprocess
from enum import IntEnum
from pathlib import Path

import pytest

from lispmob.datapath import marshal, model, tier
from lispmob.datapath.build_ffi import C_DIRECTORY, C_FLAGS, DIRECTORY, PREAMBLE, STRUCTS
from lispmob.wire import header
from tests.datapath import btf
from tests.datapath.binding import ffi, lib
from tests.datapath.oracle import packet as oracle
from tests.datapath.oracle import spread

ROOT = Path(__file__).parents[2]
HEADERS = (f"-I{ROOT / C_DIRECTORY}", f"-I{ROOT / DIRECTORY}")
SHARED = (ROOT / DIRECTORY / "bpf" / "shared.h").read_text()
NAMES = re.findall(r"^struct (lm_\w+) \{", SHARED, re.MULTILINE)

needs_object = pytest.mark.skipif(not tier.OBJECT.exists(), reason="built without clang or libbpf's headers")


def complaints_of(compiler: str, source: str, *flags: str) -> list[str]:
    """The errors of a compiler about the assertions of a source."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    command = [compiler, *C_FLAGS, *flags, *HEADERS, "-fsyntax-only", "-x", "c", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    lines = [line.strip() for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == 0 or lines, done.stderr
    return lines


def asserted(layouts: dict[str, btf.Layout], includes: str) -> str:
    """A source that compiles only if all these layouts are right."""
    lines = ["#include <stddef.h>", includes]
    for name, layout in layouts.items():
        lines.append(f'_Static_assert(sizeof(struct {name}) == {layout.size}, "{name}");')
        lines += [
            f'_Static_assert(offsetof(struct {name}, {member}) == {offset}, "{name}.{member}");'
            for member, offset in layout.offsets.items()
        ]
    return "\n".join(lines) + "\n"


def of_object() -> dict[str, btf.Layout]:
    found = btf.structs(tier.OBJECT)
    return {name: found[name] for name in NAMES if name in found}


def of_python() -> dict[str, btf.Layout]:
    """The layouts that cffi used when the extension was built."""
    kinds = {name: ffi.typeof(f"struct {name}") for name in STRUCTS.split()}
    return {
        name: btf.Layout(ffi.sizeof(kind), {member: field.offset for member, field in kind.fields})
        for name, kind in kinds.items()
    }


@needs_object
@pytest.mark.parametrize("compiler", ["cc", "clang", "musl-gcc", "aarch64-linux-gnu-gcc", "arm-linux-gnueabihf-gcc"])
def test_the_programs_and_the_threads_see_the_same_octets(compiler: str) -> None:
    flags = ("-isystem", "/usr/include", "-isystem", "/usr/include/x86_64-linux-gnu") if compiler == "musl-gcc" else ()

    assert complaints_of(compiler, asserted(of_object(), '#include "bpf/shared.h"'), *flags) == []


@needs_object
def test_every_shared_struct_is_one_that_the_programs_use() -> None:
    assert set(NAMES) - set(of_object()) == set()


@needs_object
def test_a_member_that_has_moved_is_found() -> None:
    layouts = of_object()
    state = layouts["lm_shared_state"]
    moved = btf.Layout(state.size, {**state.offsets, "routes": state.offsets["routes"] + 4})

    found = complaints_of("cc", asserted({"lm_shared_state": moved}, '#include "bpf/shared.h"'))

    assert len(found) == 1
    assert "lm_shared_state.routes" in found[0]


def test_python_sees_the_structs_as_the_c_side_has_them_now() -> None:
    layouts = of_python()

    assert {"lm_punt", "lm_uplink_spec", "lm_locator_spec", "lm_config", "lm_install"} <= set(layouts)
    assert complaints_of("cc", asserted(layouts, PREAMBLE)) == []


def test_numbers_that_the_protocol_and_the_datapath_both_have_are_the_same() -> None:
    assert (lib.LM_PORT_DATA, lib.LM_PORT_CONTROL) == (header.DATA_PORT, header.CONTROL_PORT)
    assert spread.NEVER == lib.LM_PRIORITY_NEVER
    assert model.DATA_PORT == lib.LM_PORT_DATA


@pytest.mark.parametrize("kind", [oracle.DataVerdict, oracle.IcmpKind])
def test_the_oracle_numbers_its_verdicts_as_c_does(kind: type[IntEnum]) -> None:
    prefix = {"DataVerdict": "LM_DATA_", "IcmpKind": "LM_ICMP_"}[kind.__name__]

    assert {member.name: member.value for member in kind} == {
        member.name: getattr(lib, prefix + member.name) for member in kind
    }


def test_every_report_of_the_datapath_has_a_value_in_python() -> None:
    kinds = ffi.typeof("enum lm_punt_kind").elements

    assert set(kinds) == set(marshal.PUNTS)
