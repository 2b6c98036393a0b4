# SPDX-License-Identifier: Apache-2.0
"""Real sidecars and runtimes on a server with the protocol of SQS, and end actors that keep to one with that of S3."""
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

import pytest

from programs import ROOT, SIDECAR, wait_until

SQS = os.environ.get("ASYA_TEST_SQS_ENDPOINT")
S3 = os.environ.get("ASYA_TEST_S3_ENDPOINT")
pytestmark = pytest.mark.skipif(not (SQS and S3), reason="ASYA_TEST_SQS_ENDPOINT and ASYA_TEST_S3_ENDPOINT are not set")
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
AUTHORIZED = {"Authorization": "AWS4-HMAC-SHA256 Credential=any/20261124/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"}

HANDLERS = '''
import time
def echo(p): return p
def fan(p): return [{"n": p["n"], "part": i} for i in range(3)]
def fail(p): raise KeyError("no such key")
def nap(p):
    time.sleep(p["s"])
    return p
'''


def sqs(action, **body):
    request = urllib.request.Request(SQS, json.dumps(body).encode(), {
        "Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS." + action})
    with OPENER.open(request, timeout=30) as answer:
        return json.loads(answer.read() or b"{}")


def s3(method, path, body=None):
    with OPENER.open(urllib.request.Request(S3 + path, body, AUTHORIZED, method=method), timeout=30) as answer:
        return answer.read()


class World:
    def __init__(self, folder):
        self.folder = folder
        self.space = "w" + uuid.uuid4().hex[:12]
        self.processes = []
        (folder / "handlers.py").write_text(HANDLERS)
        s3("PUT", "/" + self.space)

    def start(self, program, **env):
        log = open(self.folder / "log", "a")
        p = subprocess.Popen(program, stderr=log, stdin=subprocess.DEVNULL, env=dict(os.environ, **env))
        self.processes.append(p)
        return p

    def sidecar(self, actor, **env):
        settings = dict(ASYA_ACTOR_NAME=actor, ASYA_TRANSPORT="sqs", ASYA_SQS_ENDPOINT=SQS, ASYA_NAMESPACE=self.space,
                        AWS_ACCESS_KEY_ID="any", AWS_SECRET_ACCESS_KEY="any", ASYA_METRICS_ADDR="127.0.0.1:0",
                        ASYA_SQS_WAIT_TIME_SECONDS="1", ASYA_SOCKET_DIR=str(self.folder / actor))
        return self.start([SIDECAR], **dict(settings, **env))

    def actor(self, name, handler, workers=1, **env):
        (self.folder / name).mkdir(exist_ok=True)
        self.start([sys.executable, os.path.join(ROOT, "runtimes", "python", "asya_runtime.py")], PYTHONPATH=str(self.folder),
                   ASYA_HANDLER="handlers." + handler, ASYA_SOCKET_DIR=str(self.folder / name), ASYA_WORKERS=str(workers))
        return self.sidecar(name, **env)

    def end(self, name, **env):
        return self.sidecar(name, ASYA_IS_END_ACTOR="true", ASYA_S3_BUCKET=self.space, ASYA_S3_ENDPOINT=S3, **env)

    def queue(self, actor):
        return f"asya-{self.space}_{actor}"

    def url(self, actor):
        found = []
        def look():
            try:
                found.append(sqs("GetQueueUrl", QueueName=self.queue(actor))["QueueUrl"])
            except urllib.error.HTTPError:
                return False
            return True
        wait_until(look, "the queue of " + actor)
        return found[0]

    def send(self, actor, *bodies):
        url = self.url(actor)
        for at in range(0, len(bodies), 10):
            answer = sqs("SendMessageBatch", QueueUrl=url, Entries=[
                {"Id": str(i), "MessageBody": b if isinstance(b, str) else json.dumps(b)} for i, b in enumerate(bodies[at:at + 10])])
            assert not answer.get("Failed")

    def kept(self, prefix):
        """Envelopes below a prefix of the bucket, with their keys."""
        found, token = {}, ""
        while True:
            listing = s3("GET", f"/{self.space}?list-type=2&prefix={prefix}{token}").decode()
            for key in re.findall("<Key>([^<]+)</Key>", listing):
                found[key] = None
            more = re.search("<NextContinuationToken>([^<]+)<", listing)
            if not more:
                return found
            token = "&continuation-token=" + more.group(1)

    def read(self, key):
        return json.loads(s3("GET", f"/{self.space}/" + urllib.request.quote(key)))

    def said(self):
        return (self.folder / "log").read_text()

    def stop(self):
        for p in reversed(self.processes):
            if p.poll() is None:
                p.terminate()
        for p in self.processes:
            p.wait(40)


@pytest.fixture
def world(tmp_path):
    w = World(tmp_path)
    yield w
    w.stop()


def envelope(ident, actors, payload, **more):
    return {"id": ident, "route": {"actors": actors, "current": 0}, "payload": payload, **more}


def test_envelope_goes_through_two_queues_into_the_bucket(world):
    world.actor("one", "echo")
    world.actor("two", "fan")
    world.end("happy-end")
    text = "\u00e9\u20ac\U0001f600\ufffd\u0000 nested"
    world.send("one", envelope("a/b c", ["one", "two"], {"n": [10**30, text, None, {"deep": [[]]}]}, headers={"tenant": "t"}))
    wait_until(lambda: len(world.kept("happy-asya/")) == 3, "three results")
    kept = sorted((world.read(k) for k in world.kept("happy-asya/")), key=lambda e: e["payload"]["part"])
    assert [e["id"] for e in kept] == ["a/b c", "a/b c-1", "a/b c-2"]
    assert kept[2]["parent_id"] == "a/b c"
    assert kept[0]["payload"]["n"] == [10**30, text, None, {"deep": [[]]}]
    assert kept[0]["headers"]["tenant"] == "t"
    assert all(re.fullmatch(r"happy-asya/[0-9T:.-]+Z/two/a%2Fb%20c(-[12])?\.json", k) for k in world.kept("happy-asya/"))


def test_failures_and_what_is_no_envelope_are_kept_with_the_errors(world):
    world.actor("one", "fail")
    world.end("error-end")
    world.send("one", envelope("x", ["one"], {"n": 1}), "no envelope")
    wait_until(lambda: len(world.kept("error-asya/")) == 2, "two errors")
    kept = [world.read(k) for k in world.kept("error-asya/")]
    assert sorted(e["payload"]["details"]["type"] for e in kept) == ["KeyError", "ParsingError"]
    assert any(e["payload"]["original_payload"] == "no envelope" for e in kept)


def test_handler_longer_than_its_lease_runs_once(world):
    world.actor("one", "nap", ASYA_SQS_VISIBILITY_TIMEOUT="2s")
    world.sidecar("one", ASYA_SQS_VISIBILITY_TIMEOUT="2s")  # a second one, which would take it
    world.end("happy-end")
    world.send("one", envelope("x", ["one"], {"s": 5}))
    wait_until(lambda: world.kept("happy-asya/"), "a result")
    assert len(world.kept("happy-asya/")) == 1
    assert "delivery_lost" not in world.said()


def test_sidecars_that_drain_lose_and_repeat_nothing(world):
    total = 300
    world.actor("one", "echo", workers=2)
    world.end("happy-end")
    world.send("one", *(envelope(f"m{i}", ["one"], i) for i in range(total)))
    for i in range(4):
        wait_until(lambda: world.said().count('"event":"started"') >= 2 + i, "the sidecar to start")
        time.sleep(0.2)
        p = world.processes[1]
        p.terminate()
        assert p.wait(40) == 0
        world.processes[1] = world.sidecar("one")
        world.processes.pop()
    wait_until(lambda: len(world.kept("happy-asya/")) >= total, "all results", 60)
    assert len(world.kept("happy-asya/")) == total


def test_killed_sidecars_lose_nothing(world):
    total, kills, rand = 400, 10, random.Random(3)
    world.actor("one", "echo", workers=2, ASYA_SQS_VISIBILITY_TIMEOUT="2s")
    world.end("happy-end", ASYA_SQS_VISIBILITY_TIMEOUT="2s")
    world.send("one", *(envelope(f"m{i}", ["one"], i) for i in range(total)))
    for i in range(kills):
        time.sleep(0.1 + rand.random() * 0.2)
        at = 1 if i % 2 else 2
        world.processes[at].send_signal(signal.SIGKILL)
        world.processes[at].wait()
        start = (lambda: world.sidecar("one", ASYA_SQS_VISIBILITY_TIMEOUT="2s")) if at == 1 else (
            lambda: world.end("happy-end", ASYA_SQS_VISIBILITY_TIMEOUT="2s"))
        world.processes[at] = start()
        world.processes.pop()
    ids = lambda: {k.rsplit("/", 1)[1][:-5] for k in world.kept("happy-asya/")}
    wait_until(lambda: len(ids()) == total, "all results", 90)
    assert len(world.kept("happy-asya/")) <= total + kills * 64  # what was in flight, once a kill


def test_deleted_queue_is_made_again(world):
    world.actor("one", "echo")
    world.end("happy-end")
    world.send("one", envelope("x", ["one"], 1))
    wait_until(lambda: len(world.kept("happy-asya/")) == 1, "a result")
    sqs("DeleteQueue", QueueUrl=world.url("happy-end"))
    world.send("one", envelope("y", ["one"], 2))
    wait_until(lambda: len(world.kept("happy-asya/")) == 2, "a result after that")


def test_missing_bucket_keeps_messages_in_their_queue(world):
    end = world.sidecar("happy-end", ASYA_IS_END_ACTOR="true", ASYA_S3_BUCKET="not-there", ASYA_S3_ENDPOINT=S3)
    world.send("happy-end", envelope("x", ["one"], 1))
    wait_until(lambda: "NoSuchBucket" in world.said(), "the report")
    end.terminate()
    end.wait(40)
    world.end("happy-end")
    wait_until(lambda: len(world.kept("happy-asya/")) == 1, "the result")


def claims(world, **more):
    return dict(ASYA_S3_BUCKET=world.space, ASYA_S3_ENDPOINT=S3, ASYA_CLAIM_CHECK="true", **more)


def test_payload_larger_than_the_queue_takes_the_way_through_the_bucket(world):
    """The first handler makes 600,000 bytes of a few, the second one gets them, and so does the end."""
    (world.folder / "handlers.py").write_text("def grow(p): return {'big': '\u00e9x' * 200000}\ndef check(p): return dict(p, n=len(p['big']))\n")
    world.actor("one", "grow", **claims(world))
    world.actor("two", "check", **claims(world))
    world.end("happy-end")
    world.send("one", envelope("x", ["one", "two"], {}, headers={"tenant": "t"}))
    wait_until(lambda: world.kept("happy-asya/"), "a result")
    (key,) = world.kept("happy-asya/")
    kept = world.read(key)
    assert kept["payload"] == {"big": "\u00e9x" * 200000, "n": 400000}
    assert "payload_ref" not in kept and kept["headers"]["tenant"] == "t"
    assert len(world.kept("asya-claims/")) == 2


def test_payload_too_large_without_a_bucket_is_an_error_of_the_handler(world):
    (world.folder / "handlers.py").write_text("def grow(p): return 'x' * 600000\n")
    world.actor("one", "grow")
    world.end("error-end")
    world.send("one", envelope("x", ["one"], {"n": 1}))
    wait_until(lambda: world.kept("error-asya/"), "an error")
    (key,) = world.kept("error-asya/")
    kept = world.read(key)
    assert kept["payload"]["details"]["type"] == "InvalidResult"
    assert kept["payload"]["original_payload"] == {"n": 1}


def test_void_claims_go_to_error_end(world):
    world.actor("one", "echo", **claims(world))
    world.end("error-end")
    s3("PUT", f"/{world.space}/asya-claims/changed", b'{"n": 2}')
    s3("PUT", f"/{world.space}/secret", b'{"n": 2}')
    right = "83ac4e2ab9ce5f0f26ea8ff35d80e4a6e8d07a8ddc9eb2c5c8a4d1dbf6c0c7ec"
    refs = {"hash": {"url": f"s3://{world.space}/asya-claims/changed", "size": 8, "sha256": right},
            "size": {"url": f"s3://{world.space}/asya-claims/changed", "size": 7, "sha256": right},
            "gone": {"url": f"s3://{world.space}/asya-claims/gone", "size": 8, "sha256": right},
            "prefix": {"url": f"s3://{world.space}/secret", "size": 8, "sha256": right},
            "bucket": {"url": "s3://other/asya-claims/changed", "size": 8, "sha256": right},
            "shape": {"url": 1}}
    world.send("one", *({"id": i, "route": {"actors": ["one"], "current": 0}, "payload_ref": r} for i, r in refs.items()))
    wait_until(lambda: len(world.kept("error-asya/")) == len(refs), "the errors")
    for key in world.kept("error-asya/"):
        kept = world.read(key)
        assert kept["payload"]["details"]["type"] == "ClaimError", kept
        assert kept["payload"]["original_payload_ref"] == refs[kept["id"]]


def test_bad_settings_are_named(world):
    p = subprocess.run([SIDECAR], capture_output=True, text=True, timeout=30, env=dict(
        os.environ, ASYA_ACTOR_NAME="a", ASYA_TRANSPORT="sqs", ASYA_SQS_ENDPOINT="not a url"))
    assert p.returncode == 2 and "ASYA_SQS_ENDPOINT" in p.stderr and "https://host:port" in p.stderr
    p = subprocess.run([SIDECAR], capture_output=True, text=True, timeout=30, env=dict(
        os.environ, ASYA_ACTOR_NAME="a", ASYA_TRANSPORT="sqs", ASYA_MODULE_DIR="/nowhere"))
    assert p.returncode == 2 and "asya-aws.so" in p.stderr and "ASYA_MODULE_DIR" in p.stderr


def test_fifo_queues_swallow_no_retry_and_no_second_visit(world):
    (world.folder / "handlers.py").write_text('''import os
def flaky(p):
    with open(p["path"], "a") as f: f.write("x")
    if os.path.getsize(p["path"]) < 3: raise TimeoutError("not yet")
    return p
''')
    policy = {"policies": {"p": {"maxAttempts": 5, "backoff": "constant", "initialDelay": "1s"}}, "rules": [{"errors": ["TimeoutError"], "policy": "p"}]}
    world.actor("one", "flaky", ASYA_SQS_FIFO="true", ASYA_RESILIENCY=json.dumps(policy))
    world.end("happy-end", ASYA_SQS_FIFO="true")
    queue = world.queue("one") + ".fifo"
    wait_until(lambda: any(u.endswith("/" + queue) for u in sqs("ListQueues", QueueNamePrefix=queue).get("QueueUrls", [])), "the queue")
    sqs("SendMessage", QueueUrl=sqs("GetQueueUrl", QueueName=queue)["QueueUrl"], MessageGroupId="g", MessageDeduplicationId="d",
        MessageBody=json.dumps(envelope("x", ["one", "one"], {"path": str(world.folder / "count")}, headers={"tenant": "t"})))
    wait_until(lambda: world.kept("happy-asya/"), "the result")
    assert (world.folder / "count").read_text() == "xxxx"  # two failures, then both visits


def test_server_that_was_away_is_used_again_and_its_queues_are_made_again(world):
    """Its queues are in its memory: they are gone with it."""
    def server(port=""):
        p = subprocess.Popen([os.path.join(ROOT, "tests", "brokers", "elasticmq")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             env=dict(os.environ, ASYA_ELASTICMQ_PORT=port))
        return p, p.stdout.readline().strip()

    first, url = server()
    sidecar = world.sidecar("happy-end", ASYA_IS_END_ACTOR="true", ASYA_S3_BUCKET=world.space, ASYA_S3_ENDPOINT=S3, ASYA_SQS_ENDPOINT=url)
    wait_until(lambda: '"consuming"' in world.said(), "the queue")
    first.stdin.close()
    first.wait()
    wait_until(lambda: "queue_unavailable" in world.said(), "the report")
    second, again = server(url.rsplit(":", 1)[1])
    try:
        assert again == url
        wait_until(lambda: world.said().count('"consuming"') == 2, "the queue, once more")
        assert sidecar.poll() is None
        sidecar.terminate()
        assert sidecar.wait(40) == 0
    finally:
        second.stdin.close()
        second.wait()
