# SPDX-License-Identifier: Apache-2.0
"""The sidecar and its runtime: readiness, timeouts, crashes, both protocols byte for byte, windows, several sidecars, draining."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sidecar_tools import Fake, Place, dumps, envelope, frame, wait_until


@pytest.fixture
def place():
    with contextlib.closing(Place()) as made:
        yield made


def answer(c, _):
    c.answer(1)


def details(place):
    env, = place.queue.wait_json("error-end")
    return env["payload"]["details"]


def exists(path):
    with contextlib.suppress(OSError):
        with open(path) as text:
            return text.read()


# ---- timeouts ----


def test_a_hung_worker_is_killed_and_the_other_one_goes_on(place):
    sidecar = place.sidecar("a", place.python(WORKERS="2"), RUNTIME_TIMEOUT="1s")
    place.queue.post("a", envelope("hung", {"do": "hold", "pid_to": place.path + "/pid", "until": place.path + "/never"}))
    pid = int(wait_until("it hangs", lambda: exists(place.path + "/pid")))
    place.queue.post("a", *[envelope("good-%d" % i, {"do": "echo", "value": i}) for i in range(5)])
    assert len(place.queue.wait("happy-end", 5)) == 5 and place.queue.count("error-end") == 0
    got = details(place)
    assert got["message"] == "Runtime timeout exceeded after 1s" and got["type"] == "TimeoutError"
    wait_until("it is killed", lambda: not os.path.exists("/proc/%d" % pid))
    place.queue.post("a", *[envelope("later-%d" % i, {"do": "echo", "value": i}) for i in range(5)])
    place.queue.wait("happy-end", 10)
    assert sidecar.get("/healthz")[0] == 200 and sidecar.stop() == 0


def test_a_silent_runtime_of_protocol_1_gates_consumption_until_it_comes_back(place):
    back = threading.Event()

    def handle(c, request):
        if len(fake.requests) == 1:
            assert back.wait(30)
        c.answer_v1({"payload": json.loads(request)["id"], "route": {"actors": ["a"], "current": 1}})

    fake = place.fake(handle, protocol=1)
    sidecar = place.sidecar("a", fake, RUNTIME_TIMEOUT="200ms")
    assert sidecar.wait_page("/healthz", 200)
    place.queue.post("a", *[envelope("m%d" % i, i) for i in range(6)])
    assert details(place)["type"] == "TimeoutError"
    assert sidecar.wait_page("/healthz", 503) == "the runtime has not come back after a timeout\n"
    assert sidecar.get("/readyz")[0] == 503
    wait_until("the rest is left in the queue", lambda: place.queue.count("a") == 5 and place.queue.leased("a") <= 1)
    assert len(fake.requests) == 1 and place.queue.count("error-end") == 1 and sidecar.process.poll() is None
    back.set()
    got = place.queue.wait_json("happy-end", 5)
    assert sorted(e["payload"] for e in got) == ["m1", "m2", "m3", "m4", "m5"]
    assert place.queue.count("error-end") == 1 and sidecar.get("/healthz")[0] == 200


def test_a_runtime_of_protocol_1_that_dies_after_a_timeout_may_come_back(place):
    fake = place.fake(lambda c, _: c.hung_up(), protocol=1)
    sidecar = place.sidecar("a", fake, RUNTIME_TIMEOUT="100ms")
    place.queue.post("a", envelope("m", 1), envelope("n", 2))
    place.queue.wait("error-end")
    sidecar.wait_page("/healthz", 503)
    fake.stop()
    Fake(place, lambda c, _: c.answer_v1({"payload": 1}), protocol=1, directory=fake.dir)
    assert place.queue.wait_json("happy-end")[0]["id"] == "n" and sidecar.get("/healthz")[0] == 200


def test_a_large_request_is_whole_though_its_time_was_over_before_it_was_read(place):
    read = threading.Event()

    def serve(c):
        if not read.is_set():
            assert read.wait(30)
        fake.requests.append(c.read())
        c.answer_v1({"payload": 1})

    fake = place.fake(serve=serve, protocol=1)
    place.sidecar("a", fake, RUNTIME_TIMEOUT="300ms")
    large = dumps(envelope("large", "x" * 3000000))
    place.queue.post("a", large, envelope("next", 1))
    assert details(place)["type"] == "TimeoutError"
    wait_until("it is acked", lambda: place.queue.count("a") == 1)
    read.set()
    assert place.queue.wait_json("happy-end")[0]["id"] == "next"
    assert fake.requests[0] == large


# ---- ready or not ----


def test_nothing_is_taken_before_the_runtime_is_ready(place):
    directory = place.socket_dir()
    sidecar = place.sidecar("a", SOCKET_DIR=directory)
    place.queue.post("a", envelope("m", 1))
    sidecar.wait_line("consuming")
    assert sidecar.wait_page("/readyz", 503) == "the runtime is not ready\n" and sidecar.get("/healthz")[0] == 200
    fake = place.fake(answer, directory=directory, ready=False)
    time.sleep(0.2)  # it is not enough that somebody listens
    (body, owner, visible, receives), = place.queue.rows("a")
    assert owner == 0 and receives == 0 and not fake.connections
    fake.ready()
    place.queue.wait("happy-end")
    assert sidecar.wait_page("/readyz", 200) == "ok\n"


def test_the_directory_of_the_socket_may_come_later(place):
    directory = place.path + "/later"
    sidecar = place.sidecar("a", SOCKET_DIR=directory)
    sidecar.wait_line("consuming")
    os.mkdir(directory)
    place.fake(answer, directory=directory)
    place.queue.post("a", envelope("m", 1))
    place.queue.wait("happy-end")


def test_a_runtime_that_does_not_become_ready_ends_the_sidecar(place):
    place.queue.path = place.path + "/q"
    sidecar = place.sidecar("a", SOCKET_DIR=place.socket_dir(), RUNTIME_READY_TIMEOUT="300ms")
    place.queue.post("a", envelope("m", 1))
    assert sidecar.wait() == 1
    said = sidecar.lines("runtime_not_ready", level="ERROR")
    assert len(said) == 1 and said[0]["waited"] == "300ms" and said[0]["socket_dir"].startswith(place.path)
    assert [row[1:] for row in place.queue.rows("a")][0][::2] == (0, 0)


# ---- crashes ----


def test_a_handler_that_kills_its_worker_is_tried_again_and_then_goes_to_error_end(place):
    place.sidecar("a", place.python(), CRASH_MAX_ATTEMPTS="2")
    place.queue.post("a", envelope("m", {"do": "exit", "code": 3}))
    env, = place.queue.wait_json("error-end")
    assert env["payload"]["error"] == "connection_error" and env["payload"]["details"]["type"] == "RuntimeLost"
    assert env["payload"]["original_payload"] == {"do": "exit", "code": 3} and env["headers"]["asya-attempt"] == "2"
    place.queue.post("a", envelope("good", {"do": "echo", "value": 1}))
    place.queue.wait("happy-end")


def test_a_rule_may_name_the_loss_of_the_runtime(place):
    fake = place.fake(lambda c, _: c.sock.close())
    rules = {"policies": {"p": {"maxAttempts": 4, "backoff": "constant", "initialDelay": "1ms"}}, "rules": [{"errors": ["RuntimeLost"], "policy": "p"}]}
    place.sidecar("a", fake, RESILIENCY=json.dumps(rules))
    place.queue.post("a", envelope("m", 1))
    assert details(place)["type"] == "RuntimeLost" and len(fake.requests) == 4


@pytest.mark.parametrize("protocol", [1, 2])
def test_messages_wait_while_a_runtime_is_away_and_no_attempt_is_counted(place, protocol):
    def handle(c, request):
        c.answer(1) if protocol == 2 else c.answer_v1({"payload": 1})

    fake = place.fake(handle, protocol=protocol)
    sidecar = place.sidecar("a", fake)
    place.queue.post("a", envelope("first", 1))
    place.queue.wait("happy-end")
    fake.stop()
    place.queue.post("a", *[envelope("m%d" % i, 1) for i in range(3)])
    sidecar.wait_line("runtime_unreachable")
    sidecar.wait_page("/readyz", 503)
    again = Fake(place, handle, protocol=protocol, directory=fake.dir)
    assert {e["id"] for e in place.queue.wait_json("happy-end", 4)} == {"first", "m0", "m1", "m2"}
    assert len(again.requests) == 3 and not any(b"asya-attempt" in r for r in again.requests)
    assert sidecar.wait_page("/readyz", 200)


def test_a_python_runtime_killed_while_idle_and_started_again(place):
    runtime = place.python()
    sidecar = place.sidecar("a", runtime)
    place.queue.post("a", envelope("first", {"do": "echo", "value": 1}))
    place.queue.wait("happy-end")
    runtime.kill()
    place.queue.post("a", envelope("second", {"do": "echo", "value": 1}))
    sidecar.wait_line("runtime_not_ready")
    place.python(directory=runtime.dir)
    assert {e["id"] for e in place.queue.wait_json("happy-end", 2)} == {"first", "second"}


def test_one_refused_connection_does_not_take_the_runtime_out_of_use(place):
    """While one connection works, the socket takes no second one for a time."""
    held, refused = threading.Event(), threading.Event()

    def handle(c, request):
        if b'"held"' in request:
            fake.stop_listening()
            held.set()
            assert refused.wait(30)
        c.answer(1)

    fake = place.fake(handle, workers=2)
    sidecar = place.sidecar("a", fake)
    place.queue.post("a", envelope("held", 1))
    assert held.wait(30)
    place.queue.post("a", envelope("m", 1))
    sidecar.wait_line("runtime_unreachable")
    refused.set()
    assert {e["id"] for e in place.queue.wait_json("happy-end", 2)} == {"held", "m"}
    fake.listen()
    place.queue.post("a", *[envelope("n%d" % i, 1) for i in range(4)])
    place.queue.wait("happy-end", 6)
    sidecar.wait_page("/readyz", 200)


def test_a_readiness_file_that_comes_and_goes(place):
    fake = place.fake(answer)
    sidecar = place.sidecar("a", fake)
    sidecar.wait_page("/readyz", 200)
    fake.unready()
    sidecar.wait_page("/readyz", 503)
    place.queue.post("a", envelope("m", 1))
    fake.workers = 3
    fake.ready()
    place.queue.wait("happy-end")
    sidecar.wait_line("runtime_ready", workers=3, protocol=2)


# ---- what runtimes send ----

BROKEN = {
    "unknown-type": (2, frame(b"{}", b"Z"), "unknown type 0x5a"),
    "zero-type": (2, frame(b"{}", b"\0"), "unknown type 0x00"),
    "empty-frame": (2, b"\0\0\0\0", "an empty frame"),
    "no-json": (2, frame(b"{not", b"I"), "not JSON"),
    "no-payload": (2, frame(b"{}", b"I"), "has no 'payload'"),
    "bad-error": (2, frame(b"[]", b"X"), "error"),
    "oversize": (2, b"\x7f\xff\xff\xffI", "a frame of 2147483647 bytes"),
    "garbage": (2, b"HTTP/1.1 400 Bad Request\r\n\r\n", "a frame of 1213486160 bytes"),
    "too-many": (2, b"".join(frame(b'{"payload":%d}' % i, b"I") for i in range(6)) + frame(b"{}", b"E"), "more than 5 items"),
    "too-much": (2, frame(b'{"payload":"%s"}' % (b"x" * 60000), b"I") * 2, "more than 100000 bytes"),
    "v1-object": (1, frame(b'{"payload":1}'), "answer"),
    "v1-number": (1, frame(b"[1]"), "no object"),
    "v1-no-json": (1, frame(b"[{]"), "not JSON"),
    "v1-no-payload": (1, frame(b"[{}]"), "has no 'payload'"),
    "v1-oversize": (1, b"\x7f\xff\xff\xff[", "a frame of 2147483647 bytes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_answer_that_is_none_is_the_handlers_error(place, name):
    """And no crash: it is not tried again without a policy, and the next message is handled."""
    protocol, data, text = BROKEN[name]

    def handle(c, request):
        if b'"bad"' in request:
            c.send(data)
            c.hung_up()
        c.answer(1) if protocol == 2 else c.answer_v1({"payload": 1})

    fake = place.fake(handle, protocol=protocol)
    place.sidecar("a", fake, MAX_FANOUT="5", MAX_REPLY_BYTES="100000")
    place.queue.post("a", envelope("bad", 1), envelope("good", 1))
    env, = place.queue.wait_json("error-end")
    assert env["id"] == "bad" and env["payload"]["error"] == "processing_error" and env["payload"]["details"]["type"] == "InvalidResult"
    assert text in env["payload"]["details"]["message"], env
    assert place.queue.wait_json("happy-end")[0]["id"] == "good" and len(fake.requests) == 2


CUT = {
    "nothing": (2, b""),
    "in-the-length": (2, b"\0\0"),
    "in-a-frame": (2, b"\0\0\0\x20I{"),
    "between-frames": (2, frame(b'{"payload":1}', b"I")),
    "v1-nothing": (1, b""),
    "v1-in-a-frame": (1, b"\0\0\0\x20[{"),
}


@pytest.mark.parametrize("name", CUT)
def test_an_answer_that_is_cut_is_a_lost_runtime(place, name):
    protocol, data = CUT[name]

    def handle(c, request):
        if b'"bad"' in request:
            c.send(data)
            raise EOFError
        c.answer(1) if protocol == 2 else c.answer_v1({"payload": 1})

    place.sidecar("a", place.fake(handle, protocol=protocol), CRASH_MAX_ATTEMPTS="1")
    place.queue.post("a", envelope("bad", 1), envelope("good", 1))
    assert details(place) == dict(details(place), type="RuntimeLost", message="the runtime hung up before it had answered")
    assert place.queue.wait_json("happy-end")[0]["id"] == "good"


def test_an_answer_may_come_before_the_request_was_read_and_the_connection_closed(place):
    """A runtime refuses a frame that is too long for it before reading it."""

    def serve(c):
        c.exactly(5)
        c.fail("TooLong", "a frame too long")

    place.sidecar("a", place.fake(serve=serve))
    place.queue.post("a", envelope("large", "x" * 3000000))
    assert details(place)["message"] == "a frame too long"


def test_an_answer_may_come_before_the_request_was_read_and_the_connection_stay(place):
    def serve(c):
        while True:
            n = struct.unpack(">I", c.exactly(4))[0]
            begin = c.exactly(100)
            if len(fake.requests) == 0:
                fake.requests.append(begin)
                c.answer("early")
                wait_until("it is settled", lambda: place.queue.count("happy-end") == 1)
            else:
                fake.requests.append(begin)
            whole = begin + c.exactly(n - 100)
            assert whole[-10:] == b'x' * 8 + b'"}', whole[-100:]
            if len(fake.requests) > 1:
                c.answer("late")

    fake = place.fake(serve=serve)
    place.sidecar("a", fake)
    place.queue.post("a", *[envelope("m%d" % i, "x" * 3000000) for i in range(2)])
    assert sorted(e["payload"] for e in place.queue.wait_json("happy-end", 2)) == ["early", "late"]


def test_what_follows_an_answer_is_not_the_next_one(place):
    def handle(c, request):
        n = json.loads(request[1:])["payload"]
        c.send(frame(dumps({"payload": n}), b"I") + frame(b"{}", b"E") + frame(b'{"payload":"stray"}', b"I") + frame(b"{}", b"E"))

    place.sidecar("a", place.fake(handle))
    place.queue.post("a", *[envelope("m%d" % i, i) for i in range(10)])
    assert sorted(e["payload"] for e in place.queue.wait_json("happy-end", 10)) == list(range(10))


def test_optional_frames_are_skipped_wherever_they_come(place):
    optional = frame(b'{"progress":1}', b"p")

    def handle(c, request):
        c.send(optional + frame(b'{"payload":1}', b"I") + optional + frame(b"{}", b"E") + optional)
        time.sleep(0.02)
        c.send(optional)

    fake = place.fake(handle)
    place.sidecar("a", fake)
    for i in range(3):
        place.queue.post("a", envelope("m%d" % i, 1))
        place.queue.wait("happy-end", i + 1)
    assert len(fake.connections) == 1


def test_a_connection_carries_one_request_after_another(place):
    fake = place.fake(answer)
    place.sidecar("a", fake)
    place.queue.post("a", *[envelope("m%d" % i, 1) for i in range(20)])
    place.queue.wait("happy-end", 20)
    assert len(fake.connections) == 1


def test_many_connections_work_side_by_side(place):
    together = threading.Barrier(40)

    def handle(c, request):
        together.wait(30)
        c.answer(1)

    fake = place.fake(handle, workers=40)
    place.sidecar("a", fake)
    place.queue.post("a", *[envelope("m%d" % i, 1) for i in range(80)])
    place.queue.wait("happy-end", 80)
    assert len(fake.connections) == 40


# ---- v0.1, byte for byte ----

V01_REQUEST = (
    b'{"id":"abc-123","route":{"actors":["a","b"],"current":0},"headers":{"tenant":"x","n":1.10},"payload":{"text":"h\\u00e9\xc3\xa9","n":1e3}}'
)
V01 = {
    "one": (b'[{"payload": {"text": "HI"}, "route": {"actors": ["a", "b"], "current": 1}, "headers": {"tenant": "x", "n": 1.1}}]',
            "b", [("abc-123", None, b'"payload":{"text": "HI"}')]),
    "three": (b'[{"payload": 1, "route": {"actors": ["a", "b"], "current": 1}}, {"payload": 2, "route": {"actors": ["a", "b"], "current": 1}}, {"payload": 3, "route": {"actors": ["a", "b"], "current": 1}}]',
              "b", [("abc-123", None, b'"payload":1'), ("abc-123-1", "abc-123", b'"payload":2'), ("abc-123-2", "abc-123", b'"payload":3')]),
    "abort": (b"[]", "happy-end", [("abc-123", None, V01_REQUEST[V01_REQUEST.index(b'"payload"'):])]),
    "error": (b'[{"error": "processing_error", "details": {"message": "bad", "type": "ValueError", "traceback": "Traceback (most recent call last):\\n"}}]',
              "error-end", [("abc-123", None, b'"payload":{"error":"processing_error","details":{"message":"bad","type":"ValueError","traceback":"Traceback (most recent call last):\\n"},"original_payload":{"text":"h\\u00e9\xc3\xa9","n":1e3}}')]),
    "plain-error": (b'[{"error": "msg_parsing_error"}]', "error-end", [("abc-123", None, b'"payload":{"error":"msg_parsing_error"')]),
    "rerouted": (b'[{"payload": null, "route": {"actors": ["a", "c", "d"], "current": 1, "metadata": {"x": 1}}}]', "c", [("abc-123", None, b'"payload":null')]),
}


@pytest.mark.parametrize("name", V01)
def test_v01_gets_the_envelope_byte_for_byte_and_its_answers_are_understood(place, name):
    reply, actor, expected = V01[name]
    raw = []

    def serve(c):
        raw.append(c.exactly(4 + len(V01_REQUEST)))
        for i in range(0, len(frame(reply)), 7):
            c.send(frame(reply)[i : i + 7])
        assert c.sock.recv(1) == b""  # nothing else comes

    fake = place.fake(serve=serve, protocol=1)
    place.sidecar("a", fake)
    place.queue.post("a", V01_REQUEST)
    got = sorted(place.queue.wait(actor, len(expected)))
    assert raw == [struct.pack(">I", len(V01_REQUEST)) + V01_REQUEST]
    for body, (id, parent, payload) in zip(got, expected):
        env = json.loads(body)
        assert (env["id"], env.get("parent_id")) == (id, parent) and payload in body, body
        assert env["headers"]["tenant"] == "x"
    assert len(fake.connections) == 1


# ---- windows ----


def test_a_slow_handler_does_not_hoard(place):
    seen = []

    def handle(c, request):
        time.sleep(0.15)
        seen.append(place.queue.leased("a"))
        time.sleep(0.15)
        c.answer(1)

    sidecar = place.sidecar("a", place.fake(handle, workers=2))
    place.queue.post("a", *[envelope("m%d" % i, 1) for i in range(8)])
    place.queue.wait("happy-end", 8)
    assert max(seen) <= 2 and "asya_actor_window_messages 2\n" in sidecar.get("/metrics")[1]


def test_a_quick_handler_gets_a_large_window_and_gives_back_when_it_becomes_slow(place):
    go_on = threading.Event()

    def handle(c, request):
        if b'"slow"' in request:
            assert go_on.wait(30)
        c.answer(1)

    fake = place.fake(handle)
    sidecar = place.sidecar("a", fake)
    place.queue.post("a", *[envelope("m%d" % i, 1) for i in range(200)])
    place.queue.wait("happy-end", 200)
    window = int(re.search(r"^asya_actor_window_messages (\d+)$", sidecar.get("/metrics")[1], re.M).group(1))
    assert window >= 10
    place.queue.post("a", envelope("slow", 1), *[envelope("n%d" % i, 1) for i in range(window)])
    wait_until("they are taken", lambda: place.queue.leased("a") > 1)
    wait_until("they are given back", lambda: place.queue.leased("a") == 1)
    other = place.sidecar("a", place.fake(answer))
    place.queue.wait("happy-end", 200 + window)
    go_on.set()
    place.queue.wait("happy-end", 201 + window)


def test_several_sidecars_share_a_queue(place):
    def handle(c, request):
        time.sleep(0.02)
        c.answer(1)

    fakes = [place.fake(handle) for _ in range(3)]
    for fake in fakes:
        place.sidecar("a", fake).wait_line("runtime_ready")
    place.queue.post("a", *[envelope("m%d" % i, 1) for i in range(60)])
    assert len({e["id"] for e in place.queue.wait_json("happy-end", 60)}) == 60
    assert sum(len(f.requests) for f in fakes) == 60 and all(len(f.requests) >= 10 for f in fakes)


# ---- draining ----


def test_handlers_under_way_finish(place):
    running, go_on = threading.Semaphore(0), threading.Event()

    def handle(c, request):
        running.release()
        assert go_on.wait(30)
        c.answer(1)

    fake = place.fake(handle, workers=3)
    sidecar = place.sidecar("a", fake)
    place.queue.post("a", *[envelope("m%d" % i, 1) for i in range(5)])
    for _ in range(3):
        running.acquire()
    sidecar.signal(signal.SIGTERM)
    assert sidecar.wait_page("/readyz", 503) == "draining\n" and sidecar.get("/healthz")[0] == 200
    sidecar.signal(signal.SIGTERM)
    wait_until("what waits is given back", lambda: place.queue.leased("a") == 3)
    go_on.set()
    assert sidecar.wait() == 0
    assert len(place.queue.wait("happy-end", 3)) == 3 and place.queue.count("a") == 2 and place.queue.leased("a") == 0
    assert len(fake.requests) == 3 and place.queue.count("error-end") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_handler_longer_than_the_grace_period_is_given_back(place, number):
    fake = place.fake(lambda c, _: c.hung_up())
    sidecar = place.sidecar("a", fake, GRACE_PERIOD="300ms")
    body = dumps(envelope("m", 1, headers={"h": 1}))
    place.queue.post("a", body)
    wait_until("it runs", lambda: fake.requests)
    begin = time.monotonic()
    sidecar.signal(number)
    assert sidecar.wait() == 0 and 0.3 <= time.monotonic() - begin < 3
    (left, owner, _, _), = place.queue.rows("a")
    assert bytes(left) == body and owner == 0 and place.queue.count("error-end") == 0
    sidecar.wait_line("given_back", id="m")


def test_an_answer_while_draining_counts_and_a_lost_runtime_does_not(place):
    running, go_on = threading.Semaphore(0), threading.Event()

    def handle(c, request):
        running.release()
        assert go_on.wait(30)
        if b'"lost"' in request:
            raise EOFError
        c.fail() if b'"bad"' in request else c.answer(1)

    sidecar = place.sidecar("a", place.fake(handle, workers=3))
    place.queue.post("a", *[envelope(id, 1) for id in ("lost", "bad", "good")])
    for _ in range(3):
        running.acquire()
    sidecar.signal(signal.SIGTERM)
    sidecar.wait_line("draining")
    go_on.set()
    assert sidecar.wait() == 0
    assert [json.loads(b) for b in place.queue.bodies("a")] == [envelope("lost", 1)]
    assert place.queue.wait_json("error-end")[0]["id"] == "bad" and place.queue.wait_json("happy-end")[0]["id"] == "good"


def test_sigterm_before_the_runtime_is_ready(place):
    sidecar = place.sidecar("a", SOCKET_DIR=place.socket_dir())
    place.queue.post("a", envelope("m", 1))
    sidecar.wait_line("consuming")
    assert sidecar.stop() == 0 and place.queue.rows("a")[0][3] == 0


def test_sigterm_while_a_runtime_of_protocol_1_is_stuck(place):
    sidecar = place.sidecar("a", place.fake(lambda c, _: c.hung_up(), protocol=1), RUNTIME_TIMEOUT="100ms")
    place.queue.post("a", envelope("m", 1), envelope("n", 1))
    sidecar.wait_page("/healthz", 503)
    assert sidecar.stop() == 0
    assert [json.loads(b)["id"] for b in place.queue.bodies("a")] == ["n"] and place.queue.leased("a") == 0


def test_sigterm_while_the_runtime_does_not_read_a_large_request(place):
    serving = threading.Event()

    def serve(c):
        serving.set()
        time.sleep(0.6)

    sidecar = place.sidecar("a", place.fake(serve=serve), GRACE_PERIOD="200ms")
    place.queue.post("a", envelope("m", "x" * 3000000))
    assert serving.wait(30)
    assert sidecar.stop() == 0
    assert place.queue.count("a") == 1 and place.queue.leased("a") == 0


def drain_together(i):
    """Sidecar and runtime get SIGTERM at the same moment, under load."""
    n = 60
    with contextlib.closing(Place()) as place:
        runtime = place.python("runtime_handlers.echo", WORKERS="2") if i % 2 else place.echo()
        sidecar = place.sidecar("a", runtime)
        sidecar.wait_line("runtime_ready")
        place.queue.post("a", *[envelope("m%d" % k, "x" * 1000) for k in range(n)])
        wait_until("it is under way", lambda: place.queue.count("happy-end") > i)
        for program in (sidecar, runtime) if i % 4 < 2 else (runtime, sidecar):
            program.signal(signal.SIGTERM)
        assert sidecar.wait() == 0
        done = [json.loads(b)["id"] for b in place.queue.bodies("happy-end")]
        left = [json.loads(b) for b in place.queue.bodies("a")]
        assert sorted(done + [e["id"] for e in left]) == sorted("m%d" % k for k in range(n)), (done, left)
        assert place.queue.leased("a") == 0 and place.queue.count("error-end") == 0
        assert not any("headers" in e for e in left)


def test_sigterm_for_both_containers_loses_and_doubles_nothing():
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(drain_together, i) for i in range(20)]:
            done.result()
