"""A proxy between clients and a broker that keeps the clients' requests as the corpus of the fuzz targets.

It keeps a few requests of different sizes for each client, API and version, as they are on the wire, with their length.
The broker must advertise the address of this proxy, because otherwise clients connect directly.
Usage: capture.py LISTEN_PORT BROKER_PORT FILE     (ends, and writes FILE, at Ctrl-C)
"""

import asyncio
import signal
import struct
import sys

LISTEN, BROKER, FILE = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
PRODUCE, KEPT_OF_PRODUCE, KEPT_OF_EACH = 0, 16, 3
REQUEST_BYTES_MAX, FRAME_BYTES_MAX = 3000, 128 << 20
kept = {}


def keep(frame):
    key, version, _, client_bytes = struct.unpack_from(">hhih", frame)
    client = frame[10:10 + max(client_bytes, 0)].rstrip(b"0123456789-")
    sizes = kept.setdefault((key, version, client), {})
    if len(frame) <= REQUEST_BYTES_MAX and len(sizes) < (KEPT_OF_PRODUCE if key == PRODUCE else KEPT_OF_EACH):
        sizes.setdefault(len(frame), frame)


async def pump(reader, writer, frames):
    try:
        while True:
            if frames:
                length = await reader.readexactly(4)
                frame = await reader.readexactly(min(struct.unpack(">I", length)[0], FRAME_BYTES_MAX))
                keep(frame)
                writer.write(length + frame)
            else:
                data = await reader.read(1 << 16)
                if not data:
                    break
                writer.write(data)
            await writer.drain()
    except (asyncio.IncompleteReadError, OSError):
        pass
    writer.close()


async def serve(reader, writer):
    upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", BROKER)
    await asyncio.gather(pump(reader, upstream_writer, True), pump(upstream_reader, writer, False))


async def main():
    over = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, over.set)
    server = await asyncio.start_server(serve, "127.0.0.1", LISTEN, limit=1 << 20)
    await over.wait()
    server.close()
    with open(FILE, "wb") as out:
        for _, sizes in sorted(kept.items()):
            for _, frame in sorted(sizes.items()):
                out.write(struct.pack(">I", len(frame)) + frame)
    print(f"{sum(len(sizes) for sizes in kept.values())} requests of {len(kept)} kinds")


asyncio.run(main())
