"""The networks of containers and virtual machines of this host, by the bridges that their engines make; pure.

Docker, podman, CNI, libvirt, LXD and others attach their guests to a bridge, give it a private network, and translate
what leaves. These bridges have names of a fixed form; a bridge with another name may be a household's network.
"""

from __future__ import annotations

import re
from typing import Final

from lispmob.iface_monitor.snapshot import NetworkState
from lispmob.wire.address import IpNetwork

_BRIDGES: Final = re.compile(
    r"docker\d+|docker_gwbridge|br-[0-9a-f]{12}"  # Docker; podman with Docker's names
    r"|podman\d+|cni\d+|cni-podman\d+|nerdctl\d+"
    r"|virbr\d+|lxdbr\d+|lxcbr\d+|incusbr\d+|waydroid\d+|mpqemubr\d+"
)


def container_networks(state: NetworkState) -> tuple[IpNetwork, ...]:
    """The private networks on bridges of container engines, in order. An uplink is none of them."""
    bridges = {
        link.ifindex
        for link in state.links
        if link.kind == "bridge"
        and _BRIDGES.fullmatch(link.name)
        and not (state.routes_of(link.ifindex, 4) or state.routes_of(link.ifindex, 6))
    }
    found = {
        local.subnet
        for local in state.addresses
        if local.ifindex in bridges and local.is_private and local.prefix_len < local.address.max_prefixlen
    }
    return tuple(sorted(found, key=lambda network: (network.version, int(network.network_address), network.prefixlen)))
