from collections.abc import Iterator

from pyroute2.netlink import nlmsg

class MarshalRtnl:
    def parse(self, data: bytes) -> Iterator[nlmsg]: ...
