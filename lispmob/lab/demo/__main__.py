"""`python -m lispmob.lab.demo`: play the chapters, print the measurements, remove everything.

Exit code: 0 when everything that was claimed happened (a figure beyond its goal is reported, and does not change the
code), 1 when a claim did not happen, 77 when this machine cannot make namespaces, 130 when it was interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from lispmob.errors import LispError
from lispmob.lab import host_network, namespace
from lispmob.lab.build import Lab
from lispmob.lab.demo.chapters import CHAPTERS, Chapter
from lispmob.lab.demo.screen import LiveScreen, PlainScreen, open_screen
from lispmob.lab.demo.stage import Stage
from lispmob.lab.demo.summary import checks_table, moves_table
from lispmob.lab.report import Machine, Report, fact
from lispmob.lab.topology import roaming

EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 77
EXIT_INTERRUPTED: Final = 130
# Two minutes, including the removal, for the chapters without a time of their own.
_LONGEST_RUN_S: Final = 115
_OUTPUT: Final = Path("build/demo")


class Interrupted(BaseException):
    """A signal asked us to end. It is no Exception, so that no chapter catches it."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lispmob.lab.demo",
        description="A hub and two nodes that roam, with real packets between network namespaces. Needs root.",
    )
    names = [chapter.name for chapter in CHAPTERS if not chapter.is_needed]
    parser.add_argument(
        "--chapter", action="append", choices=names, help="play this chapter only; may be given several times"
    )
    parser.add_argument("--output", type=Path, default=_OUTPUT, metavar="DIR", help="where report and picture go")
    parser.add_argument("--plain", action="store_true", help="lines instead of the live table, on a terminal too")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    if reason := namespace.why_unavailable():
        print(f"demo: {reason}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    wanted = arguments.chapter or [chapter.name for chapter in CHAPTERS]
    chapters = [chapter for chapter in CHAPTERS if chapter.is_needed or chapter.name in wanted]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, _interrupt)
    longest_s = _LONGEST_RUN_S + sum(chapter.extra_s for chapter in chapters)
    signal.alarm(longest_s)
    report = Report(time.monotonic(), Machine.here())
    try:
        _perform(chapters, report, arguments.output, PlainScreen() if arguments.plain else open_screen())
    except Interrupted as why:
        print(f"demo: {why}", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        signal.alarm(0)
    return 0 if report.has_succeeded else EXIT_FAILED


def _perform(chapters: Sequence[Chapter], report: Report, output: Path, screen: PlainScreen | LiveScreen) -> None:
    if swept := namespace.sweep():
        print(f"removed what an earlier run left behind: {', '.join(swept)}")
    before = host_network.listing()
    stage: Stage | None = None
    problem = ""
    try:
        with tempfile.TemporaryDirectory(prefix="lispmob-demo-") as directory, Lab(roaming()) as lab, screen:
            stage = Stage(lab, report, screen, Path(directory), output)
            try:
                play(stage, chapters)
            finally:
                stage.close()
    except LispError as error:
        problem = str(error)
    finally:
        # Written also after an interruption: a claim that was not measured is reported as not having happened.
        report.claim(claim for chapter in chapters for claim in chapter.claims)
        _compare_host(report, before)
        report.write(output / "report.json")
    if problem:
        print(f"demo: {problem}", file=sys.stderr)
    _summarise(report, stage, output)


def play(stage: Stage, chapters: Sequence[Chapter]) -> None:
    """Begin the long chapters, play all in turn, wait for those in the background, then play the last ones alone."""
    for chapter in chapters:
        if chapter.begin is not None:
            _attempt(stage, chapter, chapter.begin)
    for chapter in [part for part in chapters if not part.is_last]:
        _open(stage, chapter)
    for chapter in chapters:
        if chapter.end is not None:
            stage.screen.say(f"{chapter.title}, what went on beside the others")
            _attempt(stage, chapter, chapter.end)
    for chapter in [part for part in chapters if part.is_last]:
        _open(stage, chapter)


def _open(stage: Stage, chapter: Chapter) -> None:
    stage.report.event("chapter", time.monotonic(), name=chapter.name)
    stage.screen.say(f"{chapter.title}")
    _attempt(stage, chapter, chapter.play)


def _attempt(stage: Stage, chapter: Chapter, part: Callable[[Stage], None]) -> None:
    try:
        part(stage)
        stage.check_services()
    except (LispError, OSError) as error:
        if chapter.is_needed:
            raise
        # The others may still succeed; this chapter's claims are reported as not having happened.
        stage.report.event("chapter-failed", time.monotonic(), name=chapter.name, why=str(error))
        stage.screen.say(f"  failed: {error}")


def _compare_host(report: Report, before: str) -> None:
    changed = host_network.difference(before, host_network.listing())
    left = namespace.ours()
    count = len(changed.splitlines()) + len(left)
    report.check(fact("host-network.unchanged", ok=count == 0, value=count, unit="differences", goal=0))
    if count:
        report.event("host-network-changed", time.monotonic(), difference=changed, namespaces=left)
        print(f"the host's network is not what it was:\n{changed}\n{' '.join(left)}", file=sys.stderr)


def _summarise(report: Report, stage: Stage | None, output: Path) -> None:
    screen = PlainScreen()
    if stage is not None and stage.handovers:
        screen.table(moves_table(stage.handovers))
    screen.table(checks_table(report.checks))
    print(f"\nreport: {output / 'report.json'}")
    if stage is None:
        return
    try:
        from lispmob.lab.charts import draw

        draw(stage.pictured(), output / "timeline.svg")
    except ImportError as error:
        print(f"no picture: {error}; install it with: pip install 'lispmob[demo]'", file=sys.stderr)
    else:
        print(f"picture: {output / 'timeline.svg'}")


def _interrupt(number: int, _frame: FrameType | None) -> None:
    # A second signal must not interrupt the removal.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGALRM:
        raise Interrupted("not done in the time that it may take: given up")
    raise Interrupted(f"interrupted by {signal.Signals(number).name}")


if __name__ == "__main__":
    sys.exit(main())
