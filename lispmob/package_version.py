"""The version of the installed package, for `--version` and for the status."""

from __future__ import annotations


def package_version() -> str:
    """Such as "0.1.0"; "unpackaged" when run from the sources."""
    from importlib.metadata import PackageNotFoundError, version  # late: 15 ms, needed only for --version and status

    try:
        return version("lispmob")
    except PackageNotFoundError:
        return "unpackaged"
