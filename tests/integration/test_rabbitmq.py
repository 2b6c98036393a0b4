# SPDX-License-Identifier: Apache-2.0
"""Sidecars on a real RabbitMQ: what they forward, and what happens when the broker, its queues or they themselves fail."""
import collections
import json
import os
import select
import signal
import socket
import threading
import time
import uuid

import pytest

from programs import Runner, asya, manifest
from rabbitmq_world import Broker, World, metric, ready, seconds_between, wait_until


@pytest.fixture(scope="module")
def broker():
    with Broker() as b:
        yield b


@pytest.fixture
def world(broker, tmp_path):
    with World(broker, tmp_path) as w:
        yield w


def keys(messages):
    return collections.Counter(m["payload"]["n"] for m in messages)


def expect_all(messages, n):
    """None is missing. How many are there twice."""
    count = keys(messages)
    assert set(count) == set(range(n)), f"{n - len(count)} of {n} are missing"
    return sum(count.values()) - n


# ---- what is forwarded ----

def test_a_message_goes_through_an_actor_to_a_kept_file(world):
    ready(world.actor("echo"))
    ready(world.end_actor("happy-end"))
    payload = {"text": "h\u00e9 \U0001f600 \u0000", "big": 9007199254740993, "null": None, "deep": [[{"a": [0.1]}]]}
    world.send(["echo"], [payload, {}])
    wait_until(lambda: len(world.results()) == 2, "two results")
    got = {r["id"]: r for r in world.results()}
    assert got["m0"]["payload"] == payload and got["m1"]["payload"] == {}
    assert got["m0"]["route"] == {"actors": ["echo"], "current": 1}


def test_a_list_fans_out_and_a_large_payload_arrives_whole(world):
    (world.folder / "handlers.py").write_text("def split(p):\n    return [dict(p, part=i) for i in range(3)]\n")
    ready(world.actor("split", "handlers.split"))
    world.make("happy-end")
    world.send(["split"], [{"n": 0, "data": "\u20ac" * 400000}])
    world.await_ready("happy-end", 3)
    got = world.take("happy-end", 3)
    assert sorted(m["payload"]["part"] for m in got) == [0, 1, 2]
    assert len({m["id"] for m in got}) == 3 and {m.get("parent_id") for m in got} == {None, "m0"}
    assert all(m["payload"]["data"] == "\u20ac" * 400000 for m in got)


def test_retries_come_after_their_delay_and_not_before(world):
    (world.folder / "handlers.py").write_text(
        "import os, time\n"
        "def flaky(p):\n"
        "    with open(os.environ['NOTES'], 'a') as f:\n"
        "        f.write('%f\\n' % time.time())\n"
        "    if len(open(os.environ['NOTES']).readlines()) < 4:\n"
        "        raise ValueError('not yet')\n"
        "    return p\n")
    notes = world.folder / "notes"
    world.env["NOTES"] = str(notes)
    rules = {"policies": {"p": {"maxAttempts": 10, "backoff": "constant", "initialDelay": "600ms", "jitter": False}}, "rules": [{"errors": ["ValueError"], "policy": "p"}]}
    ready(world.actor("flaky", "handlers.flaky", ASYA_RESILIENCY=json.dumps(rules)))
    world.make("happy-end")
    world.send(["flaky"], [{"n": 1}])
    world.await_ready("happy-end", 1)
    waits = seconds_between([float(line) for line in notes.read_text().split()])
    # At most one doubling late, where something else is in the same queue; alone it is exact.
    assert len(waits) == 3 and all(0.6 <= w for w in waits), waits
    assert min(waits) < 1.5, waits


def test_what_error_end_cannot_read_becomes_a_dead_letter_byte_for_byte(world):
    ready(world.actor("error-end", ASYA_IS_END_ACTOR="true"))
    world.tool("post", "error-end", stdin='{"id": "cut off\n')
    wait_until(lambda: world.depth("error-end")["dead"] == 1, "a dead letter")
    assert world.tool("take-dead", "error-end", 1).stdout == '{"id": "cut off\n'
    assert world.depth("error-end") == {"ready": 0, "dead": 0}


def test_a_message_for_no_queue_is_kept_until_the_queue_is_there(world):
    sidecar = world.actor("echo")
    ready(sidecar)
    world.make("happy-end")
    world.send(["echo", "later"], [{"n": 0}])
    wait_until(lambda: sidecar.events("settle_failed"), "the failure")
    assert world.queue("later") in sidecar.events("settle_failed")[0]["error"]
    assert world.depth("echo")["ready"] == 0
    world.make("later")
    world.await_ready("later", 1)
    assert expect_all(world.take("later", 1), 1) == 0


def test_a_full_queue_holds_messages_back_and_loses_none(world):
    world.make("full", "happy-end")
    pattern = "^" + world.queue("full") + "$"
    world.broker.ctl("set_policy", world.space, pattern, '{"max-length": 3, "overflow": "reject-publish"}', "--apply-to", "queues")
    try:
        sidecar = world.actor("echo")
        ready(sidecar)
        world.send(["echo", "full"], [{"n": n} for n in range(10)])
        wait_until(lambda: sidecar.events("settle_failed"), "a post that is refused")
        assert world.queue("full") in sidecar.events("settle_failed")[0]["error"]
        got = []
        while len(keys(got)) < 10:
            world.await_ready("full", 1)
            got += world.take("full", 1)
        assert expect_all(got, 10) == 0
    finally:
        world.broker.ctl("clear_policy", world.space)


# ---- dying ----

@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_nothing_is_lost_when_sidecars_are_killed_under_load(world, kind):
    n, kills = 4000, 8
    world.env["ASYA_RABBITMQ_QUEUE_TYPE"] = kind
    world.make("echo", "happy-end")
    world.send(["echo"], [{"n": i} for i in range(n)])
    world.runtime("echo")
    sidecar = world.sidecar("echo")
    for _ in range(kills):
        before = world.depth("happy-end")["ready"]
        if before >= n:
            break
        wait_until(lambda: world.depth("happy-end")["ready"] > before, "progress")
        sidecar.end(signal.SIGKILL)
        sidecar.start()
    world.await_ready("happy-end", n)
    wait_until(lambda: world.depth("echo")["ready"] == 0, "the queue to be empty")
    sidecar.end()
    twice = expect_all(world.take_all("happy-end"), n)
    print(f"{kills} kills, {twice} of {n} messages twice")
    assert twice <= kills * 1024


def test_draining_repeats_nothing(world):
    n = 3000
    world.make("echo", "happy-end")
    world.send(["echo"], [{"n": i} for i in range(n)])
    world.runtime("echo")
    sidecar = world.sidecar("echo")
    for _ in range(6):
        before = world.depth("happy-end")["ready"]
        if before >= n:
            break
        wait_until(lambda: world.depth("happy-end")["ready"] > before, "progress")
        assert sidecar.end(signal.SIGTERM) == 0
        sidecar.start()
    world.await_ready("happy-end", n)
    assert sidecar.end() == 0
    assert expect_all(world.take_all("happy-end"), n) == 0


# ---- queues that change ----

def test_a_deleted_queue_is_made_again(world):
    sidecar = world.actor("echo")
    ready(sidecar)
    world.make("happy-end")
    world.broker.ctl("delete_queue", world.queue("echo"))
    wait_until(lambda: len(sidecar.events("consuming")) >= 2, "the consumer to come back")
    assert world.queue("echo") in sidecar.events("queue_unavailable")[0]["error"]
    world.send(["echo"], [{"n": 0}])
    world.await_ready("happy-end", 1)


def test_a_deleted_dead_letter_queue_is_made_again_when_it_is_needed(world):
    ready(world.actor("error-end", ASYA_IS_END_ACTOR="true"))
    world.broker.ctl("delete_queue", world.queue("error-end") + "-dlq")
    world.tool("post", "error-end", stdin="no JSON\n")
    wait_until(lambda: world.queue("error-end") + "-dlq" in world.broker.ctl("list_queues", "name"), "the queue to be there again")
    wait_until(lambda: world.depth("error-end")["dead"] == 1, "the dead letter")


def test_a_queue_of_another_type_is_an_error_that_names_both_and_stays(world):
    world.make("echo")
    world.send(["echo"], [{"n": 0}])
    sidecar = world.actor("echo", ASYA_RABBITMQ_QUEUE_TYPE="quorum")
    wait_until(lambda: sidecar.events("queue_unavailable"), "the error")
    error = sidecar.events("queue_unavailable")[0]["error"]
    assert world.queue("echo") in error and "'quorum'" in error
    assert "current is none" in error or "'classic'" in error  # the broker's words
    assert world.depth("echo")["ready"] == 1 and sidecar.process.poll() is None


def test_a_queue_with_dead_lettering_of_its_own_is_used_as_it_is(world):
    """As the public original's operator makes them."""
    queue = world.queue("echo")
    world.broker.ctl("eval", f'rabbit_amqqueue:declare(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>), true, false, '
                     f'[{{<<"x-dead-letter-exchange">>, longstr, <<"">>}}, {{<<"x-dead-letter-routing-key">>, longstr, <<"{queue}-dlq">>}}], '
                     'none, <<"test">>).')
    ready(world.actor("echo"))
    world.make("happy-end")
    world.send(["echo"], [{"n": 0}])
    world.await_ready("happy-end", 1)


def test_without_auto_create_it_waits_for_the_queue(world):
    sidecar = world.actor("echo", ASYA_QUEUE_AUTO_CREATE="false")
    wait_until(lambda: sidecar.events("queue_unavailable"), "the error")
    assert world.queue("echo") in sidecar.events("queue_unavailable")[0]["error"]
    world.make("echo", "happy-end")
    ready(sidecar)
    world.send(["echo"], [{"n": 0}])
    world.await_ready("happy-end", 1)


def test_a_delayed_message_whose_target_is_gone_in_the_meantime_is_not_lost(world):
    """Its queue is made again within the delay: by the sidecar, whose consumer the broker ends."""
    (world.folder / "handlers.py").write_text(
        "import os\n"
        "def once(p):\n"
        "    if not os.path.exists(os.environ['NOTE']):\n"
        "        open(os.environ['NOTE'], 'w').close()\n"
        "        raise ValueError('first')\n"
        "    return p\n")
    world.env["NOTE"] = str(world.folder / "note")
    rules = {"policies": {"p": {"maxAttempts": 3, "backoff": "constant", "initialDelay": "2s", "jitter": False}}, "rules": [{"errors": ["ValueError"], "policy": "p"}]}
    sidecar = world.actor("once", "handlers.once", ASYA_RESILIENCY=json.dumps(rules))
    ready(sidecar)
    world.make("happy-end")
    world.send(["once"], [{"n": 0}])
    wait_until(lambda: sidecar.events("message_retried"), "the failure")
    world.broker.ctl("delete_queue", world.queue("once"))
    world.await_ready("happy-end", 1)


# ---- logging in ----

def test_wrong_credentials_are_a_clear_error_without_the_password(world):
    url = world.broker.url.replace("guest:guest", "guest:s3cr3t-w0rd")
    sidecar = world.sidecar("echo", ASYA_RABBITMQ_URL=url)
    wait_until(lambda: sidecar.events("queue_unavailable"), "the error")
    error = sidecar.events("queue_unavailable")[0]["error"]
    assert "ACCESS_REFUSED" in error and "'guest'" in error
    assert "s3cr3t" not in sidecar.said()
    assert sidecar.end() == 0


def test_a_bad_url_is_refused_at_start_without_showing_it(world):
    sidecar = world.sidecar("echo", ASYA_RABBITMQ_URL="http://guest:s3cr3t-w0rd@host/")
    assert sidecar.process.wait(30) == 2
    assert "ASYA_RABBITMQ_URL" in sidecar.said() and "s3cr3t" not in sidecar.said()


def test_hosts_are_tried_in_turn(world):
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    port = world.broker.url.rsplit(":", 1)[1].rstrip("/")
    world.env.pop("ASYA_RABBITMQ_URL")
    ready(world.actor("echo", ASYA_RABBITMQ_HOST=f"127.0.0.1:{closed.getsockname()[1]},127.0.0.1", ASYA_RABBITMQ_PORT=port))
    closed.close()


def test_tls_with_our_authority(world):
    world.env.update(ASYA_RABBITMQ_URL=world.broker.tls_url, ASYA_RABBITMQ_CA_FILE=os.path.join(world.broker.folder, "tls", "ca.pem"))
    ready(world.actor("echo"))
    world.make("happy-end")
    world.send(["echo"], [{"n": n, "data": "x" * 100000} for n in range(50)])
    world.await_ready("happy-end", 50)
    assert expect_all(world.take("happy-end", 50), 50) == 0


@pytest.mark.parametrize("case", ["authority", "name"])
def test_tls_with_a_wrong_certificate_is_refused(world, case):
    ca = "other-ca.pem" if case == "authority" else "ca.pem"
    url = world.broker.tls_url if case == "authority" else world.broker.tls_url.replace("localhost", "127.0.0.1")
    sidecar = world.actor("echo", ASYA_RABBITMQ_URL=url, ASYA_RABBITMQ_CA_FILE=os.path.join(world.broker.folder, "tls", ca))
    wait_until(lambda: sidecar.events("queue_unavailable"), "the error")
    error = sidecar.events("queue_unavailable")[0]["error"]
    assert ("ASYA_RABBITMQ_CA_FILE" if case == "authority" else "not for the name '127.0.0.1'") in error
    assert not sidecar.events("consuming")


# ---- the network and the broker ----

class Proxy:
    """Between a client and the broker; can be told to forward nothing, with all connections left open."""

    def __init__(self, url):
        self.target = ("127.0.0.1", int(url.rsplit(":", 1)[1].rstrip("/")))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(str(self.target[1]), str(self.listener.getsockname()[1]))
        self.stalled = threading.Event()
        self.peers = {}
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            stalled = self.stalled.is_set()
            readable, _, _ = select.select([self.listener] + ([] if stalled else list(self.peers)), [], [], 0.05)
            for s in readable:
                try:
                    self.serve(s)
                except OSError:
                    self.drop(s)

    def serve(self, s):
        if s is self.listener:
            client = s.accept()[0]
            server = socket.create_connection(self.target)
            self.peers.update({client: server, server: client})
        elif s in self.peers:
            data = s.recv(65536)
            if not data:
                raise ConnectionError
            self.peers[s].sendall(data)

    def drop(self, s):
        other = self.peers.pop(s, None)
        self.peers.pop(other, None)
        for one in (s, other):
            if one:
                one.close()


def test_a_network_that_stalls_is_noticed_and_survived(world):
    proxy = Proxy(world.broker.url)
    sidecar = world.actor("echo", ASYA_RABBITMQ_URL=proxy.url, ASYA_RABBITMQ_HEARTBEAT="1s")
    ready(sidecar)
    world.make("happy-end")
    proxy.stalled.set()
    world.send(["echo"], [{"n": n} for n in range(20)])
    wait_until(lambda: sidecar.events("queue_unavailable"), "the stall to be noticed")
    proxy.stalled.clear()
    world.await_ready("happy-end", 20)
    ready(sidecar)
    assert set(keys(world.take_all("happy-end"))) == set(range(20))


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_broker_that_dies_under_load_loses_nothing(tmp_path, kind):
    n = 3000
    with Broker(tmp_path / "broker") as broker, World(broker, tmp_path, ASYA_RABBITMQ_QUEUE_TYPE=kind) as world:
        world.make("echo", "happy-end")
        world.send(["echo"], [{"n": i} for i in range(n)])
        sidecar = world.actor("echo")
        wait_until(lambda: world.depth("happy-end")["ready"] > 0, "progress")
        broker.kill()
        wait_until(lambda: sidecar.events("queue_unavailable"), "the loss to be noticed")
        broker.start()
        world.await_ready("happy-end", n)
        wait_until(lambda: world.depth("echo")["ready"] == 0, "the queue to be empty")
        back = ready(sidecar)
        wait_until(lambda: metric(back, "asya_actor_active_messages") == 0, "the last repeated messages to be settled")
        print(f"{expect_all(world.take_all('happy-end'), n)} of {n} messages twice")


def test_a_broker_that_takes_nothing_or_loses_patience_is_waited_for(tmp_path):
    (tmp_path / "handlers.py").write_text("import time\ndef slow(p):\n    time.sleep(p['seconds'])\n    return p\n")
    with Broker(tmp_path / "broker") as broker, World(broker, tmp_path) as world:
        sidecar = world.actor("slow", "handlers.slow", ASYA_RABBITMQ_HEARTBEAT="2s")
        port = ready(sidecar)
        world.make("happy-end")
        world.send(["slow"], [{"n": 0, "seconds": 3}])
        wait_until(lambda: metric(port, "asya_actor_active_messages") == 1, "the handler to have it")
        broker.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        wait_until(lambda: any("connection.blocked" in e["error"] for e in sidecar.events("queue_unavailable")), "the block to be told")
        broker.ctl("set_vm_memory_high_watermark", "absolute", "4GB")
        world.await_ready("happy-end", 1)
        ready(sidecar)

        # A consumer that holds a message for longer than the broker lets it: the channel is closed, the result dropped.
        broker.ctl("eval", "application:set_env(rabbit, consumer_timeout, 1000).")
        sidecar.end()
        sidecar.start()
        ready(sidecar)
        world.send(["slow"], [{"n": 1, "seconds": 4}], first="late")
        wait_until(lambda: any("PRECONDITION_FAILED" in e["error"] for e in sidecar.events("queue_unavailable")), "406")
        broker.ctl("eval", "application:set_env(rabbit, consumer_timeout, 1800000).")
        sidecar.end()
        sidecar.start()
        world.await_ready("happy-end", 2)
        assert keys(world.take_all("happy-end"))[1] >= 1


def test_asya_run_takes_its_queues_from_the_broker_and_shows_handlers_no_password(tmp_path):
    (tmp_path / "handlers.py").write_text("import os\ndef look(p): return {'seen': sorted(k for k in os.environ if 'RABBIT' in k), 'n': p['n']}\n")
    (tmp_path / "actors.yaml").write_text(manifest("look", "handlers.look"))
    env = {"ASYA_RABBITMQ_URL": os.environ["ASYA_TEST_RABBITMQ_URL"], "ASYA_NAMESPACE": "run-" + uuid.uuid4().hex[:8]}
    with Runner(tmp_path, "--transport", "rabbitmq", str(tmp_path / "actors.yaml"), env=env) as run:
        def kept():
            return [os.path.join(folder, name) for folder, _, names in os.walk(os.path.join(run.dir, "results")) for name in names if name.endswith(".json")]

        def sent():
            return asya("send", "--dir", run.dir, "--transport", "rabbitmq", "-r", "look", "-p", '{"n": 7}', env=env).returncode == 0

        wait_until(sent, "the queue to be there")
        wait_until(kept, "the result", 60)
        with open(kept()[0]) as f:
            envelope = json.load(f)
        assert envelope["payload"] == {"seen": [], "n": 7}
        assert [hop["actor"] for hop in envelope["headers"]["asya-trace"]] == ["look"]
        trace = asya("trace", envelope["id"], "--dir", run.dir, "--transport", "rabbitmq", "--json", env=env, check=0)
        assert [json.loads(line)["actor"] for line in trace.stdout.splitlines()] == ["look", "happy-end"]
        asya("trace", "nobody", "--dir", run.dir, "--transport", "rabbitmq", env=env, check=3)
    assert run.process.returncode == 0
