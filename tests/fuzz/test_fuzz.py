"""A few seconds of fuzzing in every run of the tests; `make fuzz RUNS=...` runs as long as wanted."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pkgutil
import random
import subprocess
import sys
from pathlib import Path

import pytest

import lispmob.wire
from tests.fuzz import build, corpus
from tests.fuzz.targets import TARGETS, try_all, try_one

ROOT = Path(__file__).resolve().parents[2]
REGRESSIONS = Path(__file__).parent / "regressions"  # inputs that once made a target fail
RUNS = int(os.environ.get("FUZZ_RUNS", "20000"))


def run(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    crashes = [path.read_bytes().hex() for path in directory.glob("crash-*")]
    assert done.returncode == 0, f"{crashes}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("name", build.TARGETS)
def test_no_octets_harm_the_c_side(name: str, tmp_path: Path) -> None:
    try:
        program = build.build(name, tmp_path)
    except build.NoFuzzer as why:
        pytest.skip(str(why))
    corpus.write(tmp_path)
    options = [f"-runs={RUNS}", "-max_len=1600", "-seed=1", f"-artifact_prefix={tmp_path}/", "-max_total_time=20"]

    run([str(program), *map(str, sorted(REGRESSIONS.iterdir()))], tmp_path)
    run([str(program), str(tmp_path / "data"), *options], tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="there is no Atheris for this Python")
def test_no_octets_harm_a_decoder(tmp_path: Path) -> None:
    corpus.write(tmp_path)
    options = [f"-runs={RUNS // 4}", "-max_len=1600", "-seed=1", f"-artifact_prefix={tmp_path}/", "-max_total_time=20"]

    run([sys.executable, "-m", "tests.fuzz.wire", str(tmp_path / "control"), *options], tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_a_captured_message_that_is_cut_or_changed_is_read_or_refused(name: str) -> None:
    chance = random.Random(name)
    payloads = corpus.control_payloads()[:60] + corpus.data_payloads()[:20] + corpus.flow_payloads()
    for payload in payloads:
        try_one(name, payload)
        for _ in range(8):
            changed = bytearray(payload)
            for _ in range(chance.randrange(1, 4)):
                if changed:
                    changed[chance.randrange(len(changed))] = chance.choice(
                        (0, 1, 0x40, 0x7F, 0xFF, chance.randrange(256))
                    )
            try_one(name, bytes(changed[: chance.randrange(len(changed) + 1)]))
            try_one(name, bytes(changed))


def test_every_decoder_of_the_codec_is_a_target() -> None:
    """A class with `decode` that no target reads would not be fuzzed."""
    classes = {
        found
        for module in pkgutil.iter_modules(lispmob.wire.__path__)
        for found in vars(importlib.import_module(f"lispmob.wire.{module.name}")).values()
        if inspect.isclass(found) and "decode" in vars(found) and not found.__name__.startswith("_")
    }
    source = Path(inspect.getfile(try_all)).read_text()

    missing = sorted(class_.__name__ for class_ in classes if f"{class_.__name__}.decode" not in source)
    assert missing == []
