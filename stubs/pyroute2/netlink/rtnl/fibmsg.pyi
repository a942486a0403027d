from pyroute2.netlink import nlmsg

class fibmsg(nlmsg): ...  # noqa: N801
