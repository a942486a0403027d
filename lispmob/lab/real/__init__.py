"""Scenarios of real networks: homes, offices, rented servers, hosts with other network software.

`world.py` wires namespaces by hand, `scenario.py` defines a scenario, and each other file holds the scenarios of one
kind of problem. `python -m lispmob.lab.real` lists them and plays one. The demonstration and the tests play them too.
"""
