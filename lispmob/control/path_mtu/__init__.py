"""How large packets may be between two locators: a search by probes (RFC 8899). Pure."""
