"""What is wrong, in one list: each problem with its cause and its remedy, derived from evidence. Pure."""
