"""The demonstration: a hub and two nodes that roam, on real packets. `python -m lispmob.lab.demo`."""
