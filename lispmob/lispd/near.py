"""What the check of sources has to know of this host, its networks, and those who pass on packets for others; pure."""

from __future__ import annotations

from collections.abc import Iterable

from lispmob.config.node import NodeFile
from lispmob.datapath.model import Near
from lispmob.iface_monitor.snapshot import NetworkState, Uplink
from lispmob.natt.plan import NattPlan
from lispmob.wire.address import EidPrefix


def near(file: NodeFile, network: NetworkState, uplinks: Iterable[Uplink], plan: NattPlan) -> Near:
    """For the datapath, of this moment. A network of length 0 is no network that anybody could be a neighbour in."""
    present = {uplink.ifindex for uplink in uplinks}
    links = (address for address in network.addresses if address.ifindex in present and address.prefix_len)
    proxies = (*(proxy_etr.address for proxy_etr in file.proxy_etrs), *file.proxy_itrs, *file.natt.rtrs, *plan.rtrs)
    return Near(
        own=frozenset(address.address for address in network.addresses),
        links=frozenset(EidPrefix.make(link.address, link.prefix_len) for link in links),
        proxies=frozenset(proxies),
    )
