"""A small object store in a separate process, which answers each HTTP GET after a wait.

The pipeline `remote` starts it as a program: `object_server.py PARENT_PID LATENCY_MS`. It writes
the port that it listens on to its standard output, as one line, and ends when the parent has ended.
It uses only the standard library, so it starts in a few tens of ms. It is a loop around select(2),
because asyncio would take half as much CPU again from the training.

Protocol: `GET /objects/N` over HTTP/1.1, any number of requests per connection, without bodies.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import select
import signal
import socket
import sys
import time
from collections import deque

HOST = "127.0.0.1"
BACKLOG = 128
OBJECTS = 50_000
SIDE = 32
CLASSES = 10
# The label in one byte, then the pixels row by row: the layout of CIFAR's binary files.
OBJECT_BYTES = 1 + SIDE * SIDE
MAX_HEAD_BYTES = 8_192
MOST_DESCRIPTORS = 1_024  # select(2) cannot watch more

_GET = re.compile(rb"GET /objects/(\d{1,9}) HTTP/1\.1\r\n")
_END_OF_HEAD = b"\r\n\r\n"


def make_object(number: int) -> bytes:
    """The body of an object: a label from 0 to 9 and 32x32 random grey values, one byte each."""
    # An extendable hash of the number costs a sixth of a NumPy generator made for each object.
    noise = hashlib.shake_128(b"object %d" % number).digest(OBJECT_BYTES)
    return bytes([noise[0] % CLASSES]) + noise[1:]


def answer(head: bytes) -> bytes:
    """The whole response to a request's head; 404 if it asks for anything but an object."""
    request = _GET.match(head)
    if request is None or int(request[1]) >= OBJECTS:
        status, body = b"404 Not Found", b"no such object"
    else:
        status, body = b"200 OK", make_object(int(request[1]))
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


class ObjectServer:
    """Answers every request `latency_s` seconds after it arrived, however many are waiting."""

    def __init__(self, listening: socket.socket, latency_s: float) -> None:
        self._listening = listening
        self._latency_s = latency_s
        self._clients: dict[int, socket.socket] = {}
        self._received: dict[int, bytes] = {}  # what has arrived of incomplete requests
        # When to send what to whom. All wait equally long, so the first in is the first out.
        self._due: deque[tuple[float, socket.socket, bytes]] = deque()

    def serve(self, end: int) -> None:
        """Serves until the descriptor `end` is readable; waits without using the CPU.

        select(2) waits to the microsecond, whereas epoll would round latencies to milliseconds. The
        price is a limit of about a thousand connections; further ones are closed at once.
        """
        door = self._listening.fileno()
        while True:
            wait_s = max(self._due[0][0] - time.monotonic(), 0.0) if self._due else None
            ready, _, _ = select.select([end, door, *self._clients], [], [], wait_s)
            for descriptor in ready:
                if descriptor == end:
                    return
                if descriptor == door:
                    self._accept()
                else:
                    self._receive(descriptor)
            self._send_due()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the client has already gone
            client, _ = self._listening.accept()
            if client.fileno() >= MOST_DESCRIPTORS:
                client.close()
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients[client.fileno()] = client
            self._received[client.fileno()] = b""

    def _receive(self, descriptor: int) -> None:
        client = self._clients[descriptor]
        try:
            data = client.recv(MAX_HEAD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *heads, rest = (self._received[descriptor] + data).split(_END_OF_HEAD)
        if not data or len(rest) > MAX_HEAD_BYTES:
            del self._clients[descriptor], self._received[descriptor]
            client.close()  # sending an answer that is still due will fail
            return
        self._received[descriptor] = rest
        at = time.monotonic() + self._latency_s
        self._due.extend((at, client, answer(head + _END_OF_HEAD)) for head in heads)

    def _send_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, client, response = self._due.popleft()
            # The response fits into the socket's buffer, unless the client keeps asking without
            # reading. Such a client is cut off, so it doesn't hold up the others.
            try:
                sent = client.send(response)
            except OSError:
                sent = 0
            if sent < len(response):
                with contextlib.suppress(OSError):  # the client has already closed it
                    client.shutdown(socket.SHUT_RDWR)


def main(parent: int, latency_ms: float) -> None:
    """Serves until the process `parent`, which started this one, has ended for any reason."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    # A pipe's end of file would not do: a fork of the parent would keep the other end open.
    end = os.pidfd_open(parent)
    if os.getppid() != parent:
        return  # it ended before it was watched, and another process may have its number now
    with socket.create_server((HOST, 0), backlog=BACKLOG) as listening:
        listening.setblocking(False)
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        ObjectServer(listening, latency_ms / 1_000.0).serve(end)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
