"""The daemon as the control socket shows it: with what is derived from its parts."""

from __future__ import annotations

from typing import Protocol

from lispmob.lispd.parts import Parts
from lispmob.lispd.report.problem_watch import ProblemWatch
from lispmob.lispd.views.believing import Believing


class Shown(Parts, Protocol):
    """What the views need beyond the parts themselves."""

    problems: ProblemWatch
    believing: Believing
