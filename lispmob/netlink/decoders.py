"""Decodes links, addresses, routes and rules with all their attributes, by pyroute2's message classes.

Its requests are in iproute.py, which is imported late.
"""

from __future__ import annotations

from typing import Final

from lispmob.netlink.message import RTM_DELROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE, RTM_NEWRULE, Raw
from lispmob.partial_imports import only_submodules_of

# The whole of pyroute2 takes 88 ms and 13 MB; these message types take 15 ms.
with only_submodules_of("pyroute2"):
    from pyroute2.netlink import nlmsg
    from pyroute2.netlink.rtnl.fibmsg import fibmsg
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

_MESSAGES: Final[dict[int, type[nlmsg]]] = {
    RTM_NEWLINK: ifinfmsg,
    RTM_NEWADDR: ifaddrmsg,
    RTM_NEWROUTE: rtmsg,
    RTM_DELROUTE: rtmsg,
    RTM_NEWRULE: fibmsg,
}


def decode(raw: Raw) -> nlmsg:
    """Decode the message with all its attributes, by pyroute2."""
    message = _MESSAGES[raw.type](raw.data)
    message.decode()
    return message
