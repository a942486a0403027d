"""Copy a file to the holder of a name, over a flow; it arrives whole, also when a machine moves meanwhile.

    flow_copy.py --receive alice-files ./incoming      takes files
    flow_copy.py photo.jpg alice-files@EID             sends one

A datagram is a number of 8 octets and a piece of the file; piece 0 is the name and the length. The receiver answers
each with the number of the first piece that it misses. The sender keeps a window of pieces under way and sends again
what stays unanswered: enough for a file, and no congestion control for a shared line.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
from pathlib import Path

from lispmob import flow

NUMBER = struct.Struct(">Q")
WINDOW = 64
REPEAT_S = 0.3
PATIENCE_S = 30.0


def pieces_of(path: Path, size: int) -> list[bytes]:
    """The file in pieces, its name and length first."""
    octets = path.read_bytes()
    head = json.dumps({"name": path.name, "length": len(octets)}).encode()
    return [head, *(octets[at : at + size] for at in range(0, len(octets), size))]


def send(call: flow.Flow, path: Path) -> None:
    """Send a file. Raises TimedOut when nothing was answered for PATIENCE_S."""
    pieces = pieces_of(path, (call.max_datagram or 1200) - NUMBER.size)
    done, sent, heard_at = 0, 0, time.monotonic()
    while done < len(pieces):
        while sent < min(done + WINDOW, len(pieces)):
            try:
                call.send(NUMBER.pack(sent) + pieces[sent])
            except OSError:  # between two networks: as lost as any other
                time.sleep(0.05)
            sent += 1
        try:
            (first_missing,) = NUMBER.unpack(call.recv(timeout=REPEAT_S)[: NUMBER.size])
        except flow.TimedOut:
            if time.monotonic() - heard_at > PATIENCE_S:
                raise
            sent = done
            continue
        except OSError:
            continue
        heard_at = time.monotonic()
        done = max(done, first_missing)


def receive(call: flow.Flow, directory: Path) -> Path:
    """Receive one file into a directory, under its own name. Raises TimedOut."""
    pieces: dict[int, bytes] = {}
    missing, length = 0, None
    while length is None or sum(map(len, pieces.values())) - len(pieces.get(0, b"")) < length:
        octets = call.recv(timeout=PATIENCE_S)
        if len(octets) < NUMBER.size:
            continue
        (number,) = NUMBER.unpack_from(octets)
        if number < missing + 2 * WINDOW:
            pieces[number] = octets[NUMBER.size :]
        while missing in pieces:
            missing += 1
        if length is None and 0 in pieces:
            length = int(json.loads(pieces[0])["length"])
        call.send(NUMBER.pack(missing))
    target = directory / Path(json.loads(pieces[0])["name"]).name
    target.write_bytes(b"".join(pieces[number] for number in range(1, missing)))
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description="Copy a file over a flow.")
    parser.add_argument("--receive", action="store_true", help="hold NAME and take files")
    parser.add_argument("--once", action="store_true", help="take one file and end")
    parser.add_argument("--socket", type=Path, default=Path("/run/lispmob/flow.sock"), metavar="PATH")
    parser.add_argument("first", metavar="FILE|NAME")
    parser.add_argument("second", metavar="NAME[@EID]|DIRECTORY")
    arguments = parser.parse_args()
    if not arguments.receive:
        with flow.allocate(arguments.second, qos=flow.BULK, path=arguments.socket) as call:
            send(call, Path(arguments.first))
            print("sent")
        return
    with flow.register(arguments.first, path=arguments.socket) as name:
        print(f"waiting as {name.name}", flush=True)
        for call in name:
            with call:
                print(receive(call, Path(arguments.second)), flush=True)
                time.sleep(REPEAT_S)  # a last answer may be on its way again
            if arguments.once:
                return


if __name__ == "__main__":
    try:
        main()
    except (flow.FlowError, OSError) as error:
        sys.exit(f"flow_copy: {error}")
