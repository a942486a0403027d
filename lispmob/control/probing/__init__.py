"""Whether a pair of locators works, and how well: RLOC-probes, unanswered data, round trips. Pure."""
