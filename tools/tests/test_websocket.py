"""The client that measures and judges reads whatever way the bytes come."""

import socket
import threading
import unittest

from harness.websocket import MAGIC, Refused, WebSocket

HELLO = b"\x81\x05hello"
LONG = b"\x81\x7e" + (300).to_bytes(2, "big") + b"x" * 300


def connected(answer: bytes | None = None) -> tuple[WebSocket, socket.socket]:
    """A socket, and the end of the server, which has answered the handshake."""
    import base64
    import hashlib

    listener = socket.create_server(("127.0.0.1", 0))
    ends = []

    def serve() -> None:
        end, _ = listener.accept()
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += end.recv(4096)
        key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
        end.sendall(answer or b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        ends.append(end)

    server = threading.Thread(target=serve)
    server.start()
    try:
        opened = WebSocket("127.0.0.1", listener.getsockname()[1], "/ws/pets")
    finally:
        server.join()
        listener.close()
        if answer:
            ends[0].close()
    return opened, ends[0]


class Reading(unittest.TestCase):
    """harness.websocket"""

    def setUp(self) -> None:
        self.socket, self.server = connected()
        self.addCleanup(self.socket.sock.close)
        self.addCleanup(self.server.close)

    def test_messages_are_whole_however_the_bytes_are_cut(self) -> None:
        stream = HELLO + LONG + b"\x01\x03frag"[:5] + b"\x80\x02me"
        for size in (1, 2, 7, len(stream)):
            with self.subTest(size):
                pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
                self.assertEqual(
                    [text for piece in pieces for text in self.socket.feed(piece)], [b"hello", b"x" * 300, b"frame"]
                )

    def test_a_ping_is_answered_with_what_it_carries(self) -> None:
        self.socket.feed(b"\x89\x02hi")
        header = self.server.recv(8)
        mask, payload = header[2:6], header[6:]
        self.assertEqual((header[0], bytes(a ^ b for a, b in zip(payload, mask, strict=False))), (0x8A, b"hi"))

    def test_the_end_has_its_code_and_one_without_a_word_is_1006(self) -> None:
        self.socket.feed(b"\x88\x06" + (4408).to_bytes(2, "big") + b"slow")
        self.assertEqual(self.socket.closed, (4408, "slow"))
        other, server = connected()
        self.addCleanup(other.sock.close)
        server.close()
        other.feed(other.sock.recv(10))
        self.assertEqual(other.closed, (1006, "the connection ended without a close frame"))

    def test_a_refusal_says_its_status(self) -> None:
        with self.assertRaises(Refused) as caught:
            connected(b"HTTP/1.1 404 Not Found\r\n\r\nno such channel")
        self.assertEqual(caught.exception.status, "404")
