"""The addresses near us, for the check of sources: this host, its networks, and proxies; pure."""

from __future__ import annotations

from collections.abc import Iterable

from lispmob.config.node import NodeFile
from lispmob.datapath.model import Near
from lispmob.iface_monitor.snapshot import NetworkState, Uplink
from lispmob.natt.plan import NattPlan
from lispmob.wire.address import EidPrefix


def near(file: NodeFile, network: NetworkState, uplinks: Iterable[Uplink], plan: NattPlan) -> Near:
    """The present values for the datapath. A network of length 0 has no neighbours, so it is left out."""
    present = {uplink.ifindex for uplink in uplinks}
    links = (address for address in network.addresses if address.ifindex in present and address.prefix_len)
    proxies = (*(proxy_etr.address for proxy_etr in file.proxy_etrs), *file.proxy_itrs, *file.natt.rtrs, *plan.rtrs)
    return Near(
        own=frozenset(address.address for address in network.addresses),
        links=frozenset(EidPrefix.make(link.address, link.prefix_len) for link in links),
        proxies=frozenset(proxies),
    )
