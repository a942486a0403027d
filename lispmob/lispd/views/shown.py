"""The daemon as the views use it: its parts, and values derived from them."""

from __future__ import annotations

from typing import Protocol

from lispmob.lispd.parts import Parts
from lispmob.lispd.report.problem_watch import ProblemWatch
from lispmob.lispd.views.believing import Believing


class Shown(Parts, Protocol):
    """What the views need in addition to the parts."""

    problems: ProblemWatch
    believing: Believing
