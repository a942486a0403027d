"""A chat between two people, over a flow.

    flow_chat.py --wait alice-chat     waits for a call
    flow_chat.py alice-chat@EID        calls, by a name that DNS or /etc/hosts knows, or at an EID

Lines that are typed go to the other side, lines that come from there are printed. Ctrl-D ends it, for both.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from lispmob import flow
from lispmob.flow import aio


async def talk(call: aio.Flow) -> None:
    """Until one of the two has enough."""
    loop = asyncio.get_running_loop()
    typed = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(typed), sys.stdin)
    listening = loop.create_task(hear(call))
    typing = loop.create_task(say(call, typed))
    await asyncio.wait((listening, typing), return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    typing.cancel()


async def hear(call: aio.Flow) -> None:
    """Print what the other side says."""
    try:
        while True:
            print(f"> {(await call.recv()).decode(errors='replace')}", flush=True)
    except flow.PeerGone as gone:
        print(f"the other side has gone: {gone.reason}", flush=True)


async def say(call: aio.Flow, typed: asyncio.StreamReader) -> None:
    """Send what is typed, a line a datagram."""
    while line := await typed.readline():
        await call.send(line.rstrip(b"\n")[: call.max_datagram or 1200])


async def main() -> None:
    parser = argparse.ArgumentParser(description="Chat over a flow.")
    parser.add_argument("name", metavar="NAME[@EID]")
    parser.add_argument("--wait", action="store_true", help="hold NAME and wait for a call")
    parser.add_argument("--socket", type=Path, default=Path("/run/lispmob/flow.sock"), metavar="PATH")
    arguments = parser.parse_args()
    if not arguments.wait:
        async with await aio.allocate(arguments.name, qos=flow.INTERACTIVE, path=arguments.socket) as call:
            print(f"talking to {call.peer}", flush=True)
            await talk(call)
        return
    async with await aio.register(arguments.name, path=arguments.socket) as name:
        print(f"waiting as {name.name}", flush=True)
        async with await name.accept() as call:
            print(f"talking to {call.peer}", flush=True)
            await talk(call)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except flow.FlowError as error:
        sys.exit(f"flow_chat: {error}")
