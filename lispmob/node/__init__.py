"""The whole mobile node as one machine: it joins `control/` (mapping) and `natt/` (NAT traversal). Pure."""
