"""Networks as people have them: homes, offices, rented servers, other people's machines; each one a scenario.

`world.py` wires namespaces by hand, `scenario.py` says what a scenario is, and each other file holds the scenarios of
one kind of trouble. `python -m lispmob.lab.real` lists them and plays one. The demonstration and the tests play these.
"""
