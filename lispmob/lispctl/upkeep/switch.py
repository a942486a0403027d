"""lispctl up and down: join the overlay again, or leave it, for the user at this machine."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from lispmob.lispctl.command import Command, no_run

UNIT = "lispd.service"


def add_up_arguments(parser: ArgumentParser) -> None:
    """Text for its help."""
    parser.epilog = (
        "polkit lets the user at this machine do it, and asks others for a password. Exit codes: 0 lispd runs; 1 "
        "it does not, or there is no systemd; 77 not permitted."
    )


def add_down_arguments(parser: ArgumentParser) -> None:
    """Text for its help."""
    parser.epilog = (
        "Until `lispctl up`, or the next start of the machine. Connections to EIDs stand still, and end unless it "
        "comes back soon. Exit codes: 0 lispd has ended; 1 it has not, or there is no systemd; 77 not permitted."
    )


def run_up(_arguments: Namespace) -> int:
    """Start lispd. Raises LispError."""
    from lispmob.bus.units import switch_once

    switch_once(UNIT, on=True)
    print("back in the overlay: lispctl status")
    return 0


def run_down(_arguments: Namespace) -> int:
    """Stop lispd. Raises LispError."""
    from lispmob.bus.units import switch_once

    switch_once(UNIT, on=False)
    print("left the overlay; to come back: lispctl up")
    return 0


UP = Command("up", "come back to the overlay: start lispd", no_run, add_up_arguments, alone=run_up)
DOWN = Command("down", "leave the overlay: stop lispd until `up`", no_run, add_down_arguments, alone=run_down)
