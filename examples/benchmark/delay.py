#!/usr/bin/env python3
"""A slow and long line between a client and a server, without a kernel module and without privileges.

    delay.py HOST:PORT --mbit 100 --rtt 40

Listens on a free port of loopback, and passes connections on. All connections share the rate of each direction. Each
byte arrives half a round trip after it was sent, and the first one a round trip later, as after TCP's handshake. A
direction of a connection has at most twice the bytes of a round trip on the line; then the sender waits. Slow start and
losses are not simulated.
"""

import argparse
import asyncio

CHUNK = 16 * 1024


class Direction:
    """One direction of the line. Its bytes leave one after another."""

    def __init__(self, rate):
        self.rate = rate
        self.free = 0.0

    def send(self, size):
        """When the last of `size` bytes leaves."""
        now = asyncio.get_running_loop().time()
        self.free = max(self.free, now) + size / self.rate
        return self.free


async def carry(reader, writer, direction, delay, opened, window):
    """Passes one direction of a connection on."""
    loop = asyncio.get_running_loop()
    queue, room = asyncio.Queue(), asyncio.Semaphore(window // CHUNK)

    async def deliver():
        while True:
            at, data = await queue.get()
            await asyncio.sleep(at - loop.time())
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            room.release()

    async def receive():
        while True:
            await room.acquire()
            data = await reader.read(CHUNK)
            queue.put_nowait((max(direction.send(len(data)), opened) + delay, data))
            if not data:
                return

    tasks = [asyncio.create_task(deliver()), asyncio.create_task(receive())]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("server", metavar="HOST:PORT")
    parser.add_argument("--mbit", type=float, default=100, help="rate of each direction, in Mbit/s [%(default)s]")
    parser.add_argument("--rtt", type=float, default=40, help="round trip time, in ms [%(default)s]")
    args = parser.parse_args()
    host, _, port = args.server.rpartition(":")
    rate, delay = args.mbit * 1e6 / 8, args.rtt / 2000
    window = max(int(4 * rate * delay), 256 * 1024)
    up, down = Direction(rate), Direction(rate)

    async def connected(reader, writer):
        opened = asyncio.get_running_loop().time() + 2 * delay
        try:
            to_server, from_client = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(
                carry(reader, from_client, up, delay, opened, window),
                carry(to_server, writer, down, delay, opened, window),
            )
        except OSError:
            pass  # A connection that was reset.
        finally:
            writer.close()
            from_client.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
