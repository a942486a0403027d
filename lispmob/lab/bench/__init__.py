"""Benchmarks: compares every tier of the datapath with bare veth, kernel VXLAN and a plain TUN loop, in one run."""
