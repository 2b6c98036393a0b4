# SPDX-License-Identifier: Apache-2.0
"""A small client of the runtime socket, both protocol versions (docs/runtime-protocol.md). As a program it measures:

usage: runtime_client.py SOCKET [REQUESTS [PAYLOAD_BYTES]]
"""

import json
import os
import socket
import struct
import sys
import time


class Closed(Exception):
    """The runtime closed the connection where a frame was due."""


def dumps(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def frame(body, kind=b""):
    return struct.pack(">I", len(kind) + len(body)) + kind + body


def envelope(payload, actors=("a", "b"), current=0, **more):
    return dict({"id": "e-1", "route": {"actors": list(actors), "current": current}, "payload": payload}, **more)


class Client:
    """One connection. Reading gives up after `timeout` seconds."""

    def __init__(self, path, timeout=20):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)  # without a timeout yet: with one, a full backlog would be an error
        self.sock.settimeout(timeout)
        self._buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def _exactly(self, n):
        while len(self._buffer) < n:
            try:
                more = self.sock.recv(max(65536, n - len(self._buffer)))
            except ConnectionError:
                more = b""
            if not more:
                raise Closed("the connection ended after %d bytes, %d were due" % (len(self._buffer), n))
            self._buffer += more
        data, self._buffer = self._buffer[:n], self._buffer[n:]
        return data

    def read(self):
        """The bytes of the next frame, without the length."""
        return self._exactly(struct.unpack(">I", self._exactly(4))[0])

    def read_to_end(self):
        data = self._buffer
        while True:
            try:
                more = self.sock.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                return data
            data += more

    def request(self, body):
        """Protocol 2: sends, and returns the answer as (type, JSON bytes) pairs, the last of type E or X."""
        self.send(frame(body if isinstance(body, bytes) else dumps(body), b"R"))
        return self.answer()

    def answer(self):
        frames = []
        while True:
            data = self.read()
            frames.append((data[:1].decode(), data[1:]))
            if frames[-1][0] in "EX":
                return frames


def ask(path, payload, **more):
    """Protocol 2, payloads only: the list of them, or the error's object."""
    with Client(path) as client:
        return outcome(client.request(envelope(payload, **more)))


def outcome(frames):
    if frames[-1][0] == "X":
        return json.loads(frames[-1][1])
    return [json.loads(data)["payload"] for kind, data in frames if kind == "I"]


def ask_v1(path, body):
    """Protocol 1: the whole reply as JSON; the connection must end after it."""
    with Client(path) as client:
        client.send(frame(body if isinstance(body, bytes) else dumps(body)))
        reply = client.read()
        assert client.read_to_end() == b""
        return json.loads(reply)


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_of(pid):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name) as stat:
                    if stat.read().rsplit(")", 1)[1].split()[1] == str(pid):
                        found.append(int(name))
            except OSError:
                pass  # gone meanwhile
    return found


def peer_pid(sock):
    """Who listens."""
    return struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def measure(path, requests, size):
    with Client(path) as client:
        request = frame(dumps(envelope({"text": "x" * size, "n": 1, "f": 0.5})), b"R")
        for _ in range(200):
            client.send(request)
            client.answer()
        pids = children_of(peer_pid(client.sock))
        cpu, begin = sum(map(cpu_seconds, pids)), time.monotonic()
        sock, ends = client.sock, b"\0\0\0\3E{}"
        for _ in range(requests):
            sock.sendall(request)
            data = sock.recv(65536)
            while not data.endswith(ends):
                data += sock.recv(65536)
        took = time.monotonic() - begin
        cpu = sum(map(cpu_seconds, pids)) - cpu
    print(
        "%d requests of %d bytes: %.0f/s, %.1f us of the workers' CPU each"
        % (requests, len(request), requests / took, cpu / requests * 1e6)
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    measure(sys.argv[1], *[int(a) for a in (sys.argv[2:] + ["50000", "200"][len(sys.argv) - 2 :])])
