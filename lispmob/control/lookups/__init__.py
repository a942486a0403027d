"""Looking EIDs up in the mapping system."""
