"""Tools that stand beside lispd and need none: lig asks the mapping system, lisp-echo measures what arrives."""
