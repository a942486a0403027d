"""Is a pair of locators alive, and how good is it: RLOC-probes, silence, round trips. Pure."""
