"""Who may hold which name: by the configuration, and by default. Pure except for user names."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Iterable

from lispmob.config.flows import FlowNameSection, FlowsSection
from lispmob.flow.auth import FlowKey, IpAddress
from lispmob.flow.holder import HeldName
from lispmob.flow.name import fold


def user_name(uid: int) -> str:
    """The name of a user, or the number of a user without one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_names(group_ids: Iterable[int]) -> frozenset[str]:
    """The names of groups; those without one are left out."""
    found = set()
    for group_id in group_ids:
        try:
            found.add(grp.getgrgid(group_id).gr_name)
        except KeyError:
            continue
    return frozenset(found)


def why_not(name: str, user: str, groups: frozenset[str], section: FlowNameSection | None) -> str | None:
    """Why this user may not hold a name, as a sentence; None if allowed. Root and the control group are not checked.

    A configured name belongs to the users and groups in its entry; any other name must begin with the user's own and a
    hyphen, as `alice-notes` does.
    """
    if section is not None:
        if user in section.users or groups & set(section.groups):
            return None
        return f"{name} is kept for others: add 'user: [{user}]' to its entry in flows.names of lispd.conf"
    if fold(name).startswith(fold(f"{user}-")) and len(name) > len(user) + 1:
        return None
    return f"{user} may hold names that begin with '{user}-'; for others add an entry to flows.names of lispd.conf"


def held_name(
    name: str,
    owner: str,
    flows: FlowsSection,
    is_overlay: Callable[[IpAddress], bool],
    *,
    asks_program: bool,
    backlog: int,
) -> HeldName:
    """The name for the holder's machine, with the configured rules about callers."""
    section = section_of(name, flows)
    callers = section.callers if section is not None else ()

    def may_call(caller: IpAddress) -> bool:
        if not is_overlay(caller):
            return False
        return not callers or any(caller.version == prefix.version and caller in prefix for prefix in callers)

    return HeldName(name, owner, may_call, asks_program=asks_program, key=key_of_name(name, flows), backlog=backlog)


def key_of_name(name: str, flows: FlowsSection) -> FlowKey | None:
    """The key that a caller of a name has to know."""
    section = section_of(name, flows)
    return next((key.to_key() for key in flows.keys if section is not None and key.name == section.key), None)


def section_of(name: str, flows: FlowsSection) -> FlowNameSection | None:
    """The configuration of a name."""
    return next((section for section in flows.names if fold(section.name) == fold(name)), None)
