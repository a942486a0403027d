"""Benchmarks: every tier of the datapath beside bare veth, kernel VXLAN and a plain TUN loop, in one run."""
