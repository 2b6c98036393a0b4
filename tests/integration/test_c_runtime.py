# SPDX-License-Identifier: Apache-2.0
"""Drives programs made with runtimes/c over their socket, as a sidecar does (docs/runtime-protocol.md)."""
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import time

import pytest

BUILD = os.path.join(os.environ.get("ASYA_BUILD", "build-test"), "runtimes", "c")
PATIENCE = 30  # only ever waited out when something is broken


def until(condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("waited too long for " + condition.__name__)


def dead(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Connection:
    """One connection of a sidecar."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(PATIENCE)
        self.s.connect(path)

    def send(self, body):
        self.s.sendall(struct.pack(">I", len(body)) + body)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.s.recv(n - len(data))
            if not piece:
                raise EOFError(f"closed after {len(data)} of {n} bytes")
            data += piece
        return data

    def frame(self):
        return self.exactly(struct.unpack(">I", self.exactly(4))[0])

    def request(self, payload, **more):
        self.send(b"R" + envelope(payload, **more))

    def answer(self):
        """The items' bytes, or the error."""
        items = []
        while True:
            frame = self.frame()
            kind, body = frame[:1], frame[1:]
            if kind == b"I":
                items.append(json.loads(body))
            elif kind == b"E":
                assert body == b"{}"
                return items
            else:
                assert kind == b"X"
                return json.loads(body)

    def ask(self, payload, **more):
        self.request(payload, **more)
        return self.answer()

    def closed(self):
        try:
            return self.s.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.s.close()


def envelope(payload, **more):
    return json.dumps(dict({"id": "e1", "route": {"actors": ["a", "b"], "current": 0}, "payload": payload}, **more)).encode()


class Runtime:
    def __init__(self, directory, program, **env):
        self.dir = str(directory)
        self.path = os.path.join(self.dir, "asya-runtime.sock")
        self.ready = os.path.join(self.dir, "runtime-ready")
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.process = subprocess.Popen([os.path.join(BUILD, program)], stderr=self.log,
                                        env=dict(os.environ, ASYA_SOCKET_DIR=self.dir, **env))

    def wait_ready(self):
        until(lambda: os.path.exists(self.ready) or self.process.poll() is not None)
        assert self.process.poll() is None, self.logged()
        return self

    def logged(self):
        with open(self.log.name, encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def connect(self):
        return Connection(self.path)

    def old(self, body):
        """Protocol 1: a connection a message."""
        c = self.connect()
        c.send(body)
        answer = c.frame()
        assert c.closed()
        return answer

    def file(self, name):
        path = os.path.join(self.dir, name)
        until(lambda: os.path.exists(path))
        return path

    def term(self):
        self.process.send_signal(signal.SIGTERM)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture
def run(tmp_path):
    started = []

    def start(program, **env):
        started.append(Runtime(tmp_path, program, **env))
        return started[-1]
    yield start
    for runtime in started:
        runtime.end()


def test_ready_file_announces_protocol_and_workers(run):
    r = run("c-echo", ASYA_WORKERS="3").wait_ready()
    with open(r.ready, encoding="ascii") as f:
        assert f.read() == "protocol 2\nworkers 3\nahead 32\n"
    assert stat.S_IMODE(os.stat(r.path).st_mode) == 0o666


def test_payload_bytes_come_back_untouched_over_protocol_2(run):
    c = run("c-echo").wait_ready().connect()
    payload = b'{"n": 9007199254740993, "z":"\\u0000", "e": 1.10e5 }'
    c.send(b'R{"id":"1","payload":' + payload + b',"route":{"actors":["a"],"current":0}}')
    assert c.frame() == b'I{"payload":' + payload + b"}"
    assert c.frame() == b"E{}"


def test_many_requests_go_over_one_connection_to_one_worker(run):
    c = run("c-naughty").wait_ready().connect()
    pids = {c.ask("pid")[0]["payload"] for _ in range(2000)}
    assert len(pids) == 1


def framed(payload):
    body = b"R" + envelope(payload)
    return struct.pack(">I", len(body)) + body


def test_several_requests_in_one_write_are_answered_in_order(run):
    c = run("c-echo").wait_ready().connect()
    for size in (0, 1000, 3000):
        c.s.sendall(b"".join(framed(str(i) + "x" * size) for i in range(32)))
        assert [c.answer()[0]["payload"] for _ in range(32)] == [str(i) + "x" * size for i in range(32)]
    c.s.sendall(framed(1) + struct.pack(">I", 2) + b"z " + framed(2) + struct.pack(">I", 2) + b"R[" + framed(3))
    assert [c.answer()[0]["payload"] for _ in range(2)] == [1, 2]
    assert c.answer()["error"] == "msg_parsing_error"
    assert c.answer()[0]["payload"] == 3


def test_requests_ahead_may_be_split_anywhere(run):
    c = run("c-echo").wait_ready().connect()
    data = framed("first") + framed("second" * 50) + framed("third")
    for cut in range(1, len(data)):
        c.s.sendall(data[:cut])
        c.s.sendall(data[cut:])
        assert [c.answer()[0]["payload"] for _ in range(3)] == ["first", "second" * 50, "third"]


def test_an_answer_leaves_before_the_next_handler_begins(run):
    r = run("c-naughty").wait_ready()
    c = r.connect()
    c.s.sendall(framed("pid") + framed("wait") + framed("pid"))
    pid = c.answer()[0]["payload"]
    r.file("waiting")
    open(os.path.join(r.dir, "go"), "w").close()
    c.answer()
    assert c.answer()[0]["payload"] == pid


def test_a_crash_leaves_the_answers_before_it_and_nothing_of_those_behind(run):
    r = run("c-naughty").wait_ready()
    c = r.connect()
    c.s.sendall(framed("pid") + framed("pid") + framed("crash") + framed("hang") + framed("pid"))
    assert c.answer() == c.answer()
    assert c.closed()
    assert r.connect().ask("pid")
    assert not os.path.exists(os.path.join(r.dir, "hanging"))


def test_closing_cancels_the_handler_at_work_and_those_behind_it_never_begin(run):
    r = run("c-naughty").wait_ready()
    c = r.connect()
    c.s.sendall(framed("hang") + b"".join(framed("wait") for _ in range(5)))
    with open(r.file("hanging"), encoding="ascii") as f:
        hanging = [int(pid) for pid in f.read().split()]
    c.close()
    for pid in hanging:
        until(lambda: dead(pid))
    assert r.connect().ask("pid")
    assert not os.path.exists(os.path.join(r.dir, "waiting"))
    assert not any(line["event"] == "worker_lost" for line in r.logged())


def test_requests_that_wait_keep_no_processor_busy(run):
    r = run("c-naughty").wait_ready()
    c = r.connect()
    pid = c.ask("pid")[0]["payload"]
    c.s.sendall(framed("wait") + framed("pid"))
    r.file("waiting")

    def used():
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return sum(int(ticks) for ticks in f.read().rpartition(")")[2].split()[11:13])
    before = used()
    time.sleep(0.5)
    assert used() - before < 0.25 * os.sysconf("SC_CLK_TCK")
    open(os.path.join(r.dir, "go"), "w").close()
    c.answer()
    assert c.answer()[0]["payload"] == pid


def test_large_messages_in_any_pieces(run):
    c = run("c-echo").wait_ready().connect()
    for size in (65000, 65536, 300000, 8 << 20, 10):
        text = b'"' + b"x" * size + b'"'
        body = b'R{"payload":' + text + b"}"
        data = struct.pack(">I", len(body)) + body
        for cut in (1, 5, 70000):
            c.s.sendall(data[:cut])
            c.s.sendall(data[cut:])
            assert c.frame() == b'I{"payload":' + text + b"}"
            assert c.frame() == b"E{}"


def test_protocol_1_advances_the_route_and_keeps_the_rest(run):
    r = run("c-echo").wait_ready()
    route = b'{"actors":["a","b"],"current":0,"metadata":{"k":1}}'
    answer = r.old(b'{"id":"1","route":' + route + b',"headers":{"t":"x"},"payload":[1.0]}')
    assert answer == b'[{"payload":[1.0],"route":' + route.replace(b":0", b":1") + b',"headers":{"t":"x"}}]'
    for i in range(50):
        assert json.loads(r.old(envelope(i)))[0]["payload"] == i


def test_optional_frames_are_skipped_and_unknown_ones_end_the_connection(run):
    r = run("c-echo").wait_ready()
    c = r.connect()
    c.ask(1)
    c.send(b"z whatever")
    assert c.ask(2)[0]["payload"] == 2
    c.send(b"Q{}")
    assert c.closed()
    assert r.connect().ask(3)[0]["payload"] == 3


def test_items_routes_headers_and_the_end_of_a_message(run):
    r = run("c-naughty").wait_ready()
    c = r.connect()
    assert c.ask("routed") == [{"payload": 1, "route": {"actors": ["a", "x"], "current": 1}, "headers": {"h": 2}}]
    assert c.ask("headers", headers={"t": 1}) == [{"payload": {"t": 1}}]
    assert c.ask("nothing known") == []
    many = c.ask("many")
    assert len(many) == 1000 and len(str(many[0]["payload"])) == 3000
    c.close()
    assert len(json.loads(r.old(envelope("many")))) == 1000
    assert r.old(envelope("nothing known")) == b"[]"


def test_failures_become_escaped_errors_in_both_dialects(run):
    r = run("c-naughty").wait_ready()
    c = r.connect()
    text = 'it "says"\n\x01 \ufffd 7'
    assert c.ask("fail") == {"error": "processing_error", "details": {
        "message": text, "type": "my.Busy", "mro": ["my.Busy"], "traceback": ""}}
    assert c.ask("broken")["details"]["type"] == "InvalidJSON"
    assert c.ask("id", id="x" * 256)["details"]["message"] == "x" * 256
    assert c.ask("pid")
    c.close()
    assert json.loads(r.old(envelope("fail"))) == [{"error": "processing_error", "details": {
        "message": text, "type": "my.Busy", "traceback": ""}}]


def test_garbage_is_answered_and_harms_nobody(run):
    r = run("c-echo").wait_ready()
    good = r.connect()
    assert good.ask(1)[0]["payload"] == 1
    good.close()
    for body in (b"", b"garbage", b"[]", b"{}", b"\xff\xfe", b'{"payload":1}', b"[" * 5000, b"Q{}"):
        error = json.loads(r.old(body))[0]
        assert error["error"] == "msg_parsing_error" and "not an envelope" in error["details"]["message"]
    c = r.connect()
    for body in (b"", b"garbage", b'{"payload":}', b'{"payload":1,"payload":2}'):
        c.send(b"R" + body)
        assert c.answer()["error"] == "msg_parsing_error"
    assert c.ask(2)[0]["payload"] == 2
    c.close()
    for cut in (b"", b"\0", b"\0\0\0\x09", b"\0\0\0\x09R{"):
        half = r.connect()
        half.s.sendall(cut)
        half.close()
    assert r.connect().ask(3)[0]["payload"] == 3


def test_frame_at_the_limit_passes_and_one_more_is_refused_unread(run):
    r = run("c-echo", ASYA_MAX_MESSAGE_BYTES="1000").wait_ready()
    limit = 1000 + 65536
    c = r.connect()
    body = b'R{"payload":"' + b"x" * (limit - 15) + b'"}'
    assert len(body) == limit
    c.send(body)
    assert len(c.answer()) == 1
    c.s.sendall(struct.pack(">I", limit + 1) + b"R")
    assert f"a frame of {limit + 1} bytes, at most {limit}" in c.answer()["details"]["message"]
    assert c.closed()
    old = r.connect()
    old.s.sendall(struct.pack(">I", 0xFFFFFFFF) + b"{")
    assert json.loads(old.frame())[0]["error"] == "msg_parsing_error"
    assert old.closed()


def test_item_that_is_too_large_is_an_error(run):
    r = run("c-naughty", ASYA_MAX_MESSAGE_BYTES="1000").wait_ready()
    c = r.connect()
    assert c.ask("huge")["details"]["type"] == "MessageTooLarge"
    assert len(c.ask("many")) == 1000
    c.close()
    assert json.loads(r.old(envelope("many")))[0]["details"]["type"] == "MessageTooLarge"


def test_workers_handle_messages_side_by_side(run):
    r = run("c-naughty", ASYA_WORKERS="3").wait_ready()
    connections = [r.connect() for _ in range(3)]
    connections[0].request("wait")
    r.file("waiting")
    pids = {c.ask("pid")[0]["payload"] for c in connections[1:]}
    open(os.path.join(r.dir, "go"), "w").close()
    pids.add(connections[0].answer()[0]["payload"])
    assert len(pids) == 3


def test_crash_costs_its_own_message_only(run):
    r = run("c-naughty", ASYA_WORKERS="2").wait_ready()
    other, c = r.connect(), r.connect()
    before = other.ask("pid")
    crashed = c.ask("pid")
    c.request("crash")
    assert c.closed()
    again = r.connect().ask("pid")
    assert again != crashed and again != before
    assert other.ask("pid") == before
    assert any(line["event"] == "worker_lost" for line in r.logged())


def test_crashes_in_a_row_are_survived_by_every_later_message(run):
    r = run("c-naughty").wait_ready()
    for _ in range(4):
        c = r.connect()
        c.request("crash")
        assert c.closed()
        assert r.connect().ask("pid")


def test_closing_a_connection_cancels_its_handler_with_its_children_while_another_goes_on(run):
    r = run("c-naughty", ASYA_WORKERS="2").wait_ready()
    other, c = r.connect(), r.connect()
    other.request("wait")
    r.file("waiting")
    c.request("hang")
    with open(r.file("hanging"), encoding="ascii") as f:
        hanging = [int(pid) for pid in f.read().split()]
    c.close()
    for pid in hanging:
        until(lambda: dead(pid))
    assert r.connect().ask("pid")
    open(os.path.join(r.dir, "go"), "w").close()
    assert len(other.answer()) == 1
    assert not any(line["event"] == "worker_lost" for line in r.logged())


def test_half_closed_connection_still_gets_its_answer(run):
    r = run("c-naughty").wait_ready()
    c = r.connect()
    c.request("wait")
    c.s.shutdown(socket.SHUT_WR)
    r.file("waiting")
    open(os.path.join(r.dir, "go"), "w").close()
    assert len(c.answer()) == 1
    assert c.closed()


def test_closing_after_each_answer_kills_no_worker(run):
    r = run("c-naughty").wait_ready()
    pids = set()
    for _ in range(300):
        c = r.connect()
        pids.add(c.ask("pid")[0]["payload"])
        c.close()
    assert len(pids) == 1


def test_after_sigterm_it_serves_until_the_connections_are_closed(run):
    r = run("c-naughty", ASYA_WORKERS="2").wait_ready()
    c = r.connect()
    c.request("wait")
    r.file("waiting")
    r.term()
    until(lambda: any(line["event"] == "stopping" for line in r.logged()))
    late = r.connect()
    assert late.ask("pid")
    late.request("crash")
    assert late.closed()
    late = r.connect()
    assert late.ask("pid")
    open(os.path.join(r.dir, "go"), "w").close()
    assert len(c.answer()) == 1
    assert c.ask("pid")
    assert r.process.poll() is None and os.path.exists(r.ready)
    c.close()
    late.close()
    assert r.process.wait(PATIENCE) == 0
    assert not os.path.exists(r.ready) and not os.path.exists(r.path)


def test_grace_period_bounds_the_end(run):
    r = run("c-naughty", ASYA_GRACE_PERIOD="200ms").wait_ready()
    c = r.connect()
    pid = c.ask("pid")[0]["payload"]
    c.request("hang")
    r.file("hanging")
    r.term()
    assert r.process.wait(PATIENCE) == 0
    assert c.closed() and dead(pid)


def test_workers_die_with_their_parent(run):
    r = run("c-naughty").wait_ready()
    pid = r.connect().ask("pid")[0]["payload"]
    r.process.kill()
    until(lambda: dead(pid))


def test_stale_files_of_a_killed_runtime_do_not_matter(run):
    r = run("c-echo").wait_ready()
    r.process.kill()
    r.process.wait()
    assert os.path.exists(r.ready)
    again = run("c-echo")
    until(lambda: any(line["event"] == "ready" for line in again.logged()))
    assert again.connect().ask(1)[0]["payload"] == 1


@pytest.mark.parametrize("name,value", [
    ("ASYA_WORKERS", "0"), ("ASYA_WORKERS", "1025"), ("ASYA_WORKERS", "two"), ("ASYA_MAX_MESSAGE_BYTES", "-1"),
    ("ASYA_GRACE_PERIOD", "30"), ("ASYA_GRACE_PERIOD", "1x"), ("ASYA_GRACE_PERIOD", "999h"), ("ASYA_LOG_LEVEL", "LOUD"),
    ("ASYA_SOCKET_CHMOD", "0o999"), ("ASYA_SOCKET_CHMOD", "rw")])
def test_bad_setting_is_an_error_at_start_that_names_it(run, name, value):
    r = run("c-echo", **{name: value})
    assert r.process.wait(PATIENCE) == 1
    assert f"{name}='{value}': must be" in r.logged()[-1]["text"]


def test_socket_path_that_cannot_be_is_an_error_at_start(run):
    r = run("c-echo").wait_ready()
    for directory in (os.path.join(r.dir, "no", "such"), os.path.join(r.dir, "x" * 100)):
        ended = subprocess.run([os.path.join(BUILD, "c-echo")], env=dict(os.environ, ASYA_SOCKET_DIR=directory),
                              stderr=subprocess.PIPE, timeout=PATIENCE)
        assert ended.returncode == 1 and directory.encode() in ended.stderr


def test_refusing_start_function_ends_the_program(run):
    r = run("c-naughty", NAUGHTY_START="no")
    assert r.process.wait(PATIENCE) == 1
    assert not os.path.exists(r.ready) and not os.path.exists(r.path)


def test_upper_example_answers_in_capitals(run):
    c = run("c-upper").wait_ready().connect()
    assert c.ask('loud "quotes"\n') == [{"payload": 'LOUD "QUOTES"\n'}]
    assert c.ask(5)["details"]["type"] == "ValueError"
