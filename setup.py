"""Builds the C datapath, and what its machine allows: the BPF object of the ebpf tier, key wrap for LISP-SEC."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

BPF = Path("lispmob/datapath/bpf")
C = Path("lispmob/datapath/c")  # for what both compilers read
OBJECT = BPF / "lisp.bpf.o"
FLAGS = ("-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", "-mcpu=v3")


def build_bpf(into: Path) -> str | None:
    """Compile the programs; why not, when something is missing. Without them everything runs, but for the ebpf tier."""
    clang = shutil.which("clang")
    if clang is None:
        return "clang is not installed"
    headers = f"-I/usr/include/{platform.machine()}-linux-gnu"  # where Debian has <asm/types.h>
    probe = subprocess.run(
        [clang, "-target", "bpf", headers, "-fsyntax-only", "-x", "c", "-"],
        input="#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        return "libbpf's headers are not installed, or clang cannot compile for BPF"
    into.parent.mkdir(parents=True, exist_ok=True)
    folders = [f"-I{C}", f"-I{BPF}"]
    subprocess.run([clang, *FLAGS, headers, *folders, "-c", str(BPF / "lisp.bpf.c"), "-o", str(into)], check=True)
    strip = shutil.which("llvm-strip") or next(map(str, sorted(Path("/usr/bin").glob("llvm-strip-*"))), None)
    if strip is not None:  # debugging information, ten times the rest; what libbpf needs (.BTF) stays
        subprocess.run([strip, "-g", str(into)], check=True)
    return None


def why_no_crypto() -> str | None:
    """Why LISP-SEC has to be left out, or None. Without it everything else runs."""
    configured = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    compiler = [*shlex.split(configured), *shlex.split(os.environ.get("CFLAGS", ""))]
    if shutil.which(compiler[0]) is None:
        return f"{compiler[0]} is not installed"
    probe = subprocess.run(
        [*compiler, "-fsyntax-only", "-x", "c", "-"],
        input="#include <openssl/evp.h>\n#if OPENSSL_VERSION_NUMBER < 0x30000000L\n#error old\n#endif\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return "the headers of libcrypto 3 (libssl-dev) are not installed" if probe.returncode else None


class build_ext_and_bpf(build_ext):  # noqa: N801 (setuptools' own way)
    """The extension, then the object beside it."""

    def run(self) -> None:
        super().run()
        into = OBJECT if self.inplace or getattr(self, "editable_mode", False) else Path(self.build_lib) / OBJECT
        if problem := build_bpf(into):
            sys.stderr.write(f"built without the ebpf tier: {problem}\n")


missing = why_no_crypto()
os.environ["LISPMOB_LIBCRYPTO"] = "no" if missing else "yes"
CFFI_MODULES = ["lispmob/datapath/build_ffi.py:ffibuilder"]
if missing is None:
    CFFI_MODULES.append("lispmob/crypto/build_ffi.py:ffibuilder")
else:
    sys.stderr.write(f"built without LISP-SEC and sealed packets: {missing}\n")
setup(cffi_modules=CFFI_MODULES, cmdclass={"build_ext": build_ext_and_bpf})
