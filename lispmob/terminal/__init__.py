"""How the commands print: tables, widths, colours."""
