"""`python -m lispmob.hub.bench.measure_registry HOST:PORT...`: the size and speed of a shared registry. For the lab.

The servers, which must be empty, are filled with registrations as `register.lua` writes them, but many in one step.
Then registers are committed by the hub's own code for some seconds, nine refreshes for each move. It prints one line of
JSON: octets for each registration in the servers, registers a second, and how long one takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from array import array
from collections import defaultdict
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from lispmob.hub.map_server.commit import Put, Verdict
from lispmob.hub.map_server.nonces import owner_of
from lispmob.hub.map_server.part import LIFETIME_S, XtrRegistration
from lispmob.hub.store import stored_rows
from lispmob.hub.valkey import keys
from lispmob.hub.valkey.connection import Credentials, Server
from lispmob.hub.valkey.lengths import Lengths
from lispmob.hub.valkey.servers import Script, Servers
from lispmob.hub.valkey.writing import Writer
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Key
from lispmob.wire.record import Locator, MappingRecord

KEY: Final = Key(b"only-for-the-bench")
OWNER: Final = owner_of(KEY)
FIRST_EID: Final = 10 << 24
FIRST_RLOC: Final = (100 << 24) + (64 << 16)
AT_ONCE: Final = 500  # registrations that one step writes: a server answers no other client meanwhile
PATIENCE_S: Final = 60.0  # ours: a server is slow while it is being filled
FILLING: Final = 12  # such steps at once
OUTSTANDING: Final = 256
MOVES: Final = 10  # one register in so many is a move
_HERE: Final = Path(__file__).parent


def put_of(number: int, nonce: int, rloc: int) -> Put:
    """A register of one node, as a hub commits it."""
    prefix = EidPrefix.host(IPv4Address(FIRST_EID + number))
    place = IPv4Address(rloc)
    xtr_id = (number + 1).to_bytes(16)
    record = MappingRecord.of(prefix, (Locator(place),), ttl_min=10)
    part = XtrRegistration(
        xtr=xtr_id,
        record=record,
        expires_at=LIFETIME_S,
        registered_at=0.0,
        nonce=nonce,
        source=place,
        proxy_map_reply=True,
        wants_merge=False,
        xtr_id=xtr_id,
        site_id=bytes(8),
        encoded=record.encode(),
    )
    return Put(prefix, part, (OWNER,), must_grow=True)


async def fill(servers: Servers, count: int) -> None:
    """Make this many registrations, with nonce 1."""
    by_bucket: dict[int, array[int]] = defaultdict(lambda: array("I"))
    head = stored_rows.key_of(put_of(0, 1, FIRST_RLOC).prefix)[:-4]
    for number in range(count):
        by_bucket[keys.bucket_named(head + (FIRST_EID + number).to_bytes(4))].append(number)
    script = Script("fill", 1, _HERE)
    octets = keys.part_octets(put_of(0, 1, FIRST_RLOC).part)
    eid_at = octets.rindex(IPv4Address(FIRST_EID).packed)
    xtr_at = octets.index((1).to_bytes(16))
    limit = asyncio.Semaphore(FILLING)

    async def make(bucket: int, numbers: array[int]) -> None:
        async with limit:
            await servers.run(
                bucket,
                script,
                [
                    *(keys.key(b"x", bucket), keys.key(b"r", bucket), keys.key(b"n", bucket), octets),
                    *(b"%d" % place for place in (xtr_at, eid_at, FIRST_EID)),
                    bytes.fromhex(OWNER),
                    b"".join(number.to_bytes(4) for number in numbers),
                ],
            )

    await asyncio.gather(
        *(
            make(bucket, numbers[first : first + AT_ONCE])
            for bucket, numbers in by_bucket.items()
            for first in range(0, len(numbers), AT_ONCE)
        )
    )


async def memory(servers: Servers) -> int:
    """Octets that all primaries use."""
    told = await servers.everywhere("INFO", "memory")
    return sum(int(of_one["used_memory"]) for of_one in told.values())


async def registers(writer: Writer, count: int, seconds: float, per_s: float | None) -> dict[str, float]:
    """Registers of nodes spread over the table, at a given rate or as fast as they are answered."""
    loop, times_ms = asyncio.get_running_loop(), list[float]()
    limit, nonce, tasks = asyncio.Semaphore(OUTSTANDING), time.time_ns(), set[asyncio.Task[None]]()
    verdicts: dict[Verdict, int] = defaultdict(int)

    async def one(number: int, turn: int) -> None:
        began_at = loop.time()
        rloc = FIRST_RLOC if turn % MOVES else FIRST_RLOC + 1 + turn
        try:
            verdict, _ = await writer.put(put_of(number, nonce + turn, rloc))
        finally:
            limit.release()
        verdicts[verdict] += 1
        times_ms.append(1000 * (loop.time() - began_at))

    began_at, turn = loop.time(), 0
    cpu_s = time.process_time()
    while loop.time() < began_at + seconds:
        await limit.acquire()
        if per_s is not None and (early_s := began_at + turn / per_s - loop.time()) > 0:
            await asyncio.sleep(early_s)
        task = loop.create_task(one((turn * 7919) % count, turn))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        turn += 1
    await asyncio.gather(*tasks)
    took_s, times_ms = loop.time() - began_at, sorted(times_ms)
    if verdicts[Verdict.OLD] or verdicts[Verdict.HELD]:
        raise RuntimeError(f"registers were refused: {dict(verdicts)}")
    return {
        "per-s": len(times_ms) / took_s,
        "cpu-us": 1e6 * (time.process_time() - cpu_s) / len(times_ms),
        "p50-ms": times_ms[len(times_ms) // 2],
        "p99-ms": times_ms[len(times_ms) * 99 // 100],
    }


async def measure(places: list[Server], count: int, seconds: float, per_s: float) -> dict[str, float]:
    """All figures."""
    servers = Servers(tuple(places), Credentials(patience_s=PATIENCE_S), lambda _: None)
    await servers.start()
    try:
        while servers.unserved:  # noqa: ASYNC110 - no event says that a server is there
            await asyncio.sleep(0.05)
        empty = await memory(servers)
        began_at = time.monotonic()
        await fill(servers, count)
        figures = {"fill-s": time.monotonic() - began_at}
        figures["octets-per-registration"] = (await memory(servers) - empty) / count
        writer = Writer(servers, 1, Lengths(servers), lambda: None)
        figures |= {f"full-{name}": value for name, value in (await registers(writer, count, seconds, None)).items()}
        figures |= {f"paced-{name}": value for name, value in (await registers(writer, count, seconds, per_s)).items()}
        figures["memory-MB"] = await memory(servers) / 1e6
    finally:
        await servers.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lispmob.hub.bench.measure_registry")
    parser.add_argument("servers", nargs="+", metavar="HOST:PORT")
    parser.add_argument("--registrations", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--per-s", type=float, default=920.0, help="registers a second of the second run")
    asked = parser.parse_args()
    places = [Server(host, int(port)) for host, _, port in (text.rpartition(":") for text in asked.servers)]
    figures = asyncio.run(measure(places, asked.registrations, asked.seconds, asked.per_s))
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
