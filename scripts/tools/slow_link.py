"""A TCP relay on 127.0.0.1 that is as slow as a network: every byte arrives half of the delay later, either way."""

import asyncio
import contextlib
import threading

CHUNK = 1 << 16
CHUNKS_UNDER_WAY = 256


def start(port: int, delay: float) -> int:
    """Relays to `port` from a thread of its own, until the process ends. `delay`: seconds there and back. The port to
    connect to."""
    listening, ports = threading.Event(), []

    async def relay() -> None:
        server = await asyncio.start_server(lambda *client: connection(*client, port, delay), "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        listening.set()
        await server.serve_forever()

    threading.Thread(target=asyncio.run, args=(relay(),), daemon=True).start()
    if not listening.wait(10):
        raise OSError("the relay does not listen")
    return ports[0]


async def connection(reader, writer, port: int, delay: float) -> None:
    # The client's connection stands already. Over a network that takes a round trip, in which it
    # can't send.
    await asyncio.sleep(delay)
    with contextlib.suppress(OSError), contextlib.closing(writer):
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(upstream_writer):
            await asyncio.gather(
                carry(reader, upstream_writer, delay / 2),
                carry(upstream_reader, writer, delay / 2),
            )


async def carry(reader, writer, delay: float) -> None:
    """All bytes in their order, each so much later, and then the end."""
    loop, under_way = asyncio.get_running_loop(), asyncio.Queue(CHUNKS_UNDER_WAY)

    async def receive() -> None:
        chunk = b"more"
        while chunk:
            try:
                chunk = await reader.read(CHUNK)
            except OSError:
                chunk = b""
            await under_way.put((loop.time() + delay, chunk))

    async def send() -> None:
        while True:
            due, chunk = await under_way.get()
            await asyncio.sleep(due - loop.time())
            if not chunk:
                writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()

    await asyncio.gather(receive(), send())
