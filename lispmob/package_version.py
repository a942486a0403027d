"""The version of the installed package, for `--version` and for the status."""

from __future__ import annotations


def package_version() -> str:
    """Such as "0.1.0"; "unpackaged" where the sources run by themselves."""
    from importlib.metadata import PackageNotFoundError, version  # late: 15 ms, and only who asks needs it

    try:
        return version("lispmob")
    except PackageNotFoundError:
        return "unpackaged"
