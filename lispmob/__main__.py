"""The command `lispd`, also `python -m lispmob`: reads the configuration, runs the daemon, reports how it ended."""

from __future__ import annotations

import sys

from lispmob.partial_imports import quick_imports

with quick_imports():
    import asyncio
    import logging
    import signal
    import socket
    from pathlib import Path
    from typing import Final

    from lispmob import logs
    from lispmob.config.doubts import doubts, doubts_on
    from lispmob.config.node import NodeFile, load_node
    from lispmob.errors import ConfigError, KernelRefused, LispError
    from lispmob.lispd.daemon import Daemon
    from lispmob.lispd.marks import with_mask
    from lispmob.lispd.options import build_parser
    from lispmob.lispd.privileges import require_net_admin
    from lispmob.session_priority import use_niceness_among_sessions
    from lispmob.short_slices import shorten_slices

EX_OK: Final = 0
EX_FAILED: Final = 1
EX_NOPERM: Final = 77
EX_CONFIG: Final = 78

log = logging.getLogger("lispd")


async def _clean_up() -> None:
    from lispmob.mh.kernel.chain import MarkChain
    from lispmob.mh.kernel.kernel import KernelRouter

    await KernelRouter().clean_up()
    await MarkChain().clean_up()


async def _serve(path: Path, file: NodeFile) -> None:
    daemon = Daemon(path, await with_mask(file))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload_on_signal)
    await daemon.run()


def _check(path: Path, file: NodeFile) -> int:
    """Report that the configuration is good, and list its doubtful points."""
    interfaces = {name for _, name in socket.if_nameindex()}
    for problem in (*doubts(file), *doubts_on(file, interfaces, {})):
        print(f"{path}: note: {problem.sentence}", file=sys.stderr)  # noqa: T201
    print(f"{path}: good")  # noqa: T201 - the answer to a question
    return EX_OK


def main(argv: list[str] | None = None) -> int:
    """The command `lispd`. Returns the exit code: 0, 1 failed, 77 not permitted, 78 configuration."""
    options = build_parser().parse_args(argv)
    logs.configure(options.log_level or "info")
    try:
        if options.clean_up:
            require_net_admin()
            asyncio.run(_clean_up())
            return EX_OK
        file = load_node(options.config)
        if options.check:
            return _check(options.config, file)
        logs.configure(options.log_level or file.log.level)
        require_net_admin()
        use_niceness_among_sessions()
        shorten_slices()
        asyncio.run(_serve(options.config, file))
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - one line an error, as compilers print them
        return EX_CONFIG
    except KernelRefused as error:
        log.error("%s", error)
        return EX_NOPERM
    except LispError as error:
        log.error("%s", error)
        return EX_FAILED
    return EX_OK


if __name__ == "__main__":
    sys.exit(main())
