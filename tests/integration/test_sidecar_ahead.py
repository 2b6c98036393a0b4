# SPDX-License-Identifier: Apache-2.0
"""Requests sent ahead on a connection: in order, only to quick handlers, and whatever happens costs the first one only."""

import contextlib
import json
import select
import signal
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest
from sidecar_tools import Ahead, Place, dumps, envelope, frame, wait_until


@pytest.fixture
def place():
    with contextlib.closing(Place()) as made:
        yield made


def eight(prefix):
    return [envelope(prefix + str(i)) for i in range(8)]


def settled(place, prefix, n):
    """The ids and payloads that have come to happy-end of a prefix, once there are `n`."""
    def look():
        found = [json.loads(b) for b in place.queue.bodies("happy-end")]
        found = [(e["id"], e["payload"]) for e in found if e["id"].startswith(prefix)]
        return found if len(found) >= n else None
    return wait_until("%d answers" % n, look)


def prefix_of(ids):
    return ids[0].split("-")[0] + "-"


def test_a_quick_handler_gets_requests_ahead_in_order_and_each_its_own_answer(place):
    fake = Ahead(place)
    place.sidecar("a", fake)
    ids = fake.hold(place.queue, eight)
    assert ids == sorted(ids) and len({id(c) for c, _ in fake.held}) == 1
    fake.answer(3)
    fake.go_on()
    found = settled(place, prefix_of(ids), 8)
    assert sorted(found) == sorted((e["id"], e["id"]) for e in eight(prefix_of(ids)))
    assert 1 < fake.most <= 8 and len(fake.connections) == 1


@pytest.mark.parametrize("ahead", [None, 0, 1])
def test_a_runtime_that_does_not_say_so_gets_one_at_a_time(place, ahead):
    def handle(c, request):
        seen.append(select.select([c.sock], [], [], 0.01)[0])
        c.answer(1)

    seen = []
    fake = place.fake(handle, ahead=ahead)
    place.sidecar("a", fake)
    place.queue.post("a", *[envelope("m%d" % i) for i in range(50)])
    place.queue.wait("happy-end", 50)
    assert len(seen) == 50 and not any(seen)


def test_a_slow_handler_gets_one_at_a_time(place):
    def handle(c, request):
        seen.append(select.select([c.sock], [], [], 0.02)[0])
        c.answer(1)

    seen = []
    place.sidecar("a", place.fake(handle, ahead=8))
    place.queue.post("a", *[envelope("m%d" % i) for i in range(50)])
    place.queue.wait("happy-end", 50)
    assert len(seen) == 50 and not any(seen)


def test_nothing_more_is_sent_behind_a_request_that_takes_long(place):
    fake = Ahead(place)
    place.sidecar("a", fake)
    sent = fake.hold(place.queue, lambda prefix: eight(prefix)[:3])
    time.sleep(0.05)
    place.queue.post("a", *[envelope("late-%d" % i) for i in range(4)])
    wait_until("they are taken", lambda: place.queue.leased("a") > 3)
    time.sleep(0.05)
    assert len(fake.held) == 3
    fake.go_on()
    settled(place, prefix_of(sent), 3)
    settled(place, "late-", 4)


def test_another_worker_that_is_free_is_asked_before_anything_is_sent_ahead(place):
    together = threading.Barrier(4)

    def handle(c, request):
        if b"together" in request:
            together.wait(30)
        c.answer(1)

    fake = place.fake(handle, workers=4, ahead=8)
    place.sidecar("a", fake)
    place.queue.post("a", *[envelope("warm-%d" % i) for i in range(100)])
    place.queue.wait("happy-end", 100)
    place.queue.post("a", *[envelope("together-%d" % i) for i in range(4)])
    place.queue.wait("happy-end", 104)


def test_a_timeout_costs_the_first_request_only(place):
    fake = Ahead(place)
    place.sidecar("a", fake, RUNTIME_TIMEOUT="2500ms")
    ids = fake.hold(place.queue, eight)
    begin = len(fake.connections)
    wait_until("it times out", lambda: place.queue.count("error-end") == 1)
    with fake.lock:
        fake.held = [h for h in fake.held if h[0] is not fake.connections[begin - 1]]
    fake.go_on()
    found = settled(place, prefix_of(ids), 7)
    env, = place.queue.wait_json("error-end")
    assert env["id"] == ids[0] and env["payload"]["details"]["type"] == "TimeoutError"
    assert ids[0] not in dict(found) and len(found) == 7 and len(fake.connections) == 2
    assert all(fake.came(id) == 2 for id in ids[1:]) and not any(b"asya-attempt" in r for r in fake.requests)


def test_the_time_of_a_request_begins_when_the_one_before_is_answered(place):
    fake = Ahead(place)
    place.sidecar("a", fake, RUNTIME_TIMEOUT="2500ms")
    ids = fake.hold(place.queue, eight)
    for _ in range(3):
        time.sleep(1.2)
        fake.answer()
    fake.go_on()
    settled(place, prefix_of(ids), 8)
    assert place.queue.count("error-end") == 0 and all(fake.came(id) == 1 for id in ids)


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_a_runtime_that_dies_costs_the_first_unanswered_request_only(place, answered):
    fake = Ahead(place)
    place.sidecar("a", fake, CRASH_MAX_ATTEMPTS="1")
    ids = fake.hold(place.queue, eight)
    connection = fake.held[0][0]
    with fake.lock:
        fake._answer(answered)
        fake.held, fake.holding = [], False
        connection.sock.shutdown(2)
    found = settled(place, prefix_of(ids), 7)
    env, = place.queue.wait_json("error-end")
    assert env["id"] == ids[answered] and env["payload"]["details"]["type"] == "RuntimeLost"
    assert ids[answered] not in dict(found) and len(found) == 7
    assert [fake.came(id) for id in ids] == [1] * (answered + 1) + [2] * (len(ids) - answered - 1)
    assert not any(b"asya-attempt" in r for r in fake.requests)


def test_an_answer_that_is_none_costs_its_own_request_only(place):
    fake = Ahead(place)
    place.sidecar("a", fake)
    ids = fake.hold(place.queue, eight)
    with fake.lock:
        connection = fake.held[0][0]
        fake._answer(1)
        fake.held, fake.holding = [], False
        connection.send(frame(b"{not", b"I"))
    found = settled(place, prefix_of(ids), 7)
    env, = place.queue.wait_json("error-end")
    assert env["id"] == ids[1] and env["payload"]["details"]["type"] == "InvalidResult" and len(found) == 7


def test_what_was_sent_ahead_is_waited_for_while_draining(place):
    fake = Ahead(place)
    sidecar = place.sidecar("a", fake)
    ids = fake.hold(place.queue, eight)
    sidecar.signal(signal.SIGTERM)
    wait_until("what waits is given back", lambda: place.queue.leased("a") == len(ids))
    assert sidecar.process.poll() is None
    fake.answer(1)
    settled(place, prefix_of(ids), 1)
    assert sidecar.process.poll() is None
    fake.go_on()
    assert sidecar.wait() == 0
    assert sorted(id for id, _ in settled(place, prefix_of(ids), len(ids))) == ids
    assert place.queue.leased("a") == 0 and place.queue.count("a") == 8 - len(ids) and all(fake.came(id) == 1 for id in ids)


def test_what_was_sent_ahead_is_given_back_untouched_when_the_grace_period_is_over(place):
    fake = Ahead(place)
    sidecar = place.sidecar("a", fake, GRACE_PERIOD="300ms")
    ids = fake.hold(place.queue, eight)
    sidecar.signal(signal.SIGTERM)
    assert sidecar.wait() == 0
    assert sorted(place.queue.bodies("a")) == [dumps(e) for e in eight(prefix_of(ids))]
    assert place.queue.leased("a") == 0 and place.queue.count("error-end") == 0
    assert {line["id"] for line in sidecar.lines("given_back")} == set(ids)


def test_a_lost_runtime_while_draining_gives_back_all(place):
    fake = Ahead(place)
    sidecar = place.sidecar("a", fake)
    ids = fake.hold(place.queue, eight)
    sidecar.signal(signal.SIGTERM)
    sidecar.wait_line("draining")
    fake.held[0][0].sock.shutdown(2)
    assert sidecar.wait() == 0
    assert sorted(place.queue.bodies("a")) == [dumps(e) for e in eight(prefix_of(ids))] and place.queue.count("error-end") == 0


def test_a_message_is_not_sent_behind_others_that_may_outlast_its_deadline(place):
    soon = (datetime.now(timezone.utc) + timedelta(minutes=4)).strftime("%Y-%m-%dT%H:%M:%SZ")
    late = (datetime.now(timezone.utc) + timedelta(hours=4)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def some(prefix):
        return [envelope(prefix + str(i), deadline=soon if i == 3 else late) for i in range(5)]

    fake = Ahead(place)
    place.sidecar("a", fake, RUNTIME_TIMEOUT="5m")
    ids = fake.hold(place.queue, some)
    time.sleep(0.05)
    assert len(fake.held) == 3
    fake.answer(3)
    wait_until("it is sent", lambda: fake.held)
    assert [id for _, id in fake.held] == [prefix_of(ids) + "3"]
    fake.go_on()
    settled(place, prefix_of(ids), 5)


def test_large_requests_do_not_pile_up_on_a_connection(place):
    fake = Ahead(place)
    place.sidecar("a", fake)
    ids = fake.hold(place.queue, lambda prefix: [envelope(prefix + str(i), "x" * 60000) for i in range(8)], least=2)
    time.sleep(0.05)
    assert len(fake.held) == 2
    fake.go_on()
    settled(place, prefix_of(ids), 8)


def test_a_runtime_killed_under_load_loses_and_doubles_nothing(place):
    """Each time at most the one that was at work is tried again."""
    runtime = place.echo()
    place.sidecar("a", runtime, CRASH_MAX_ATTEMPTS="100")
    place.queue.post("a", *[envelope("m%d" % i, "x" * 500) for i in range(3000)])
    for i in range(4):
        wait_until("it is under way", lambda: place.queue.count("happy-end") > i * 600)
        runtime.kill()
        runtime = place.echo(directory=runtime.dir)
    found = place.queue.wait_json("happy-end", 3000)
    assert len({e["id"] for e in found}) == 3000 and place.queue.count("error-end") == 0
    assert sum("asya-attempt" in e.get("headers", {}) for e in found) <= 4
