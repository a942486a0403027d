"""Netlink: the package that opens its sockets, sends requests, reads listings and turns refusals into errors.

`message.py` has the octets, `connection.py` the sockets, `decoders.py` pyroute2's message classes, and `iproute.py` its
requests, which are for code that changes addresses and routes and can wait for it: the node's kernel plan and the hub.
Everywhere else pyroute2 does not serve. Place by place:

- `iface_monitor/netlink.py`: its sockets take no BPF filter, so 60,000 routes of another program would wake us all up.
- `iface_monitor/rtnetlink.py`: it decodes a whole listing. We decode what is new, and leave the listing of a full table
  behind its first default route. Its listings are coroutines, so that other work runs in the middle of a move.
- `iface_monitor/nexthops.py`: it does not know nexthop objects.
- `iface_monitor/neighbours.py`, `iface_monitor/kernel_choice.py`, `mh/kernel/route_query.py`: the kernel answers in the
  call; a coroutine would take turns of the loop in the middle of a move.
- `iface_monitor/polling.py`: it binds its sockets, and here a sandbox refuses bind().
- `mh/kernel/rule_message.py`: its rules have no FRA_DSCP, FRA_SPORT_MASK, FRA_DPORT_MASK and later ones. A copy of
  another program's rule would differ from it.
- `mh/kernel/conntrack.py`, `mh/kernel/flow_table.py`: its NFCTSocket decodes every flow of a table in which one is
  looked for, and takes 20 ms to import beyond what is loaded.
- `mh/kernel/open_sockets.py`: the same holds for DiagSocket. It is asked in a thread, beside the loop its calls need.
- `mh/kernel/chain_watch.py`: it decodes rules of nftables that we only compare with some numbers and names.
- `mh/kernel/mark_listing.py`: it asks whether nftables has any table, before the loop has anything else to do.
- `datapath/device/tun.py`: two requests when the device is made, 90 ms before its requests could be imported.
"""
