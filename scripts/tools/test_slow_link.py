#!/usr/bin/env python3
"""What the relay of scripts/cloud-server passes on. Nothing here looks at the time."""

import random
import socket
import threading
import unittest

import slow_link


def echo(listener: socket.socket) -> None:
    """Answers one connection with what it sends, until that ends."""
    client, _ = listener.accept()
    with client:
        while data := client.recv(4096):
            client.sendall(data)


class SlowLink(unittest.TestCase):
    def test_every_byte_and_the_end_arrive(self):
        sent = random.Random(1).randbytes(300_000)
        for delay in (0, 0.02):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                threading.Thread(target=echo, args=(listener,), daemon=True).start()
                port = slow_link.start(listener.getsockname()[1], delay)
                with socket.create_connection(("127.0.0.1", port), 30) as client:
                    threading.Thread(target=self.send, args=(client, sent), daemon=True).start()
                    received = b"".join(iter(lambda: client.recv(65536), b""))
            self.assertEqual(received, sent)

    @staticmethod
    def send(client: socket.socket, data: bytes) -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    def test_nobody_there(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            free = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", slow_link.start(free, 0)), 30) as client:
            self.assertEqual(client.recv(1), b"")


if __name__ == "__main__":
    unittest.main()
