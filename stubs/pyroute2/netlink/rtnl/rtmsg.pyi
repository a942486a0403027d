from pyroute2.netlink import nlmsg

class rtmsg(nlmsg): ...  # noqa: N801
