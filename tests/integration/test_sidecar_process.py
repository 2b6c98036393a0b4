# SPDX-License-Identifier: Apache-2.0
"""The sidecar as a process: its settings, its pages and metrics, a queue or a disk that fails under it."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from sidecar_tools import Place, Program, dumps, envelope, read_metrics, wait_until


@pytest.fixture
def place():
    with contextlib.closing(Place()) as made:
        yield made


def answer(c, _):
    c.answer(1)


def refused(place, **variables):
    """The text with which the sidecar refuses to start."""
    sidecar = place.sidecar("a", **variables)
    assert sidecar.wait() == 2, sidecar.text()
    (line,) = [entry for entry in sidecar.lines() if entry["level"] == "ERROR"]
    assert line["event"] in ("bad_configuration", "cannot_start")
    return line["error"]


# ---- settings ----

BAD = {
    "no-name": ({"ACTOR_NAME": None}, ["ASYA_ACTOR_NAME is not set and is required"]),
    "name": ({"ACTOR_NAME": "No_Label"}, ["ASYA_ACTOR_NAME is 'No_Label', it must be a DNS label"]),
    "name-dlq": ({"ACTOR_NAME": "a-dlq"}, ["ASYA_ACTOR_NAME is 'a-dlq'", "does not end in '-dlq'"]),
    "happy-end": ({"ACTOR_HAPPY_END": "x y"}, ["ASYA_ACTOR_HAPPY_END is 'x y'"]),
    "error-end": ({"ACTOR_ERROR_END": "-"}, ["ASYA_ACTOR_ERROR_END is '-'"]),
    "transport": ({"TRANSPORT": "kafka"}, ["ASYA_TRANSPORT is 'kafka', it must be one of: local, "]),
    "bool": ({"IS_END_ACTOR": "perhaps"}, ["ASYA_IS_END_ACTOR='perhaps' is wrong, right is", "true"]),
    "no-end": ({"RESULTS_DIR": "/tmp/x"}, ["ASYA_RESULTS_DIR is for end actors: set ASYA_IS_END_ACTOR=true"]),
    "error-end-alone": ({"ACTOR_NAME": "error-end"}, ["ASYA_ACTOR_NAME is 'error-end'", "set ASYA_IS_END_ACTOR=true"]),
    "happy-end-alone": ({"ACTOR_NAME": "happy-end"}, ["ASYA_ACTOR_NAME is 'happy-end'", "set ASYA_IS_END_ACTOR=true"]),
    "prefix": ({"IS_END_ACTOR": "1", "RESULTS_DIR": "/tmp/x", "S3_RESULTS_PREFIX": "a/../"}, ["ASYA_S3_RESULTS_PREFIX is 'a/../'", "'..'"]),
    "timeout": ({"RUNTIME_TIMEOUT": "5 minutes"}, ["ASYA_RUNTIME_TIMEOUT='5 minutes' is wrong, right is a duration"]),
    "timeout-0": ({"RUNTIME_TIMEOUT": "0s"}, ["ASYA_RUNTIME_TIMEOUT='0s' is wrong"]),
    "grace": ({"GRACE_PERIOD": "-1s"}, ["ASYA_GRACE_PERIOD='-1s' is wrong"]),
    "ready": ({"RUNTIME_READY_TIMEOUT": "x"}, ["ASYA_RUNTIME_READY_TIMEOUT='x' is wrong"]),
    "window": ({"WINDOW_MAX": "0"}, ["ASYA_WINDOW_MAX='0' is wrong, right is an integer from 1 to 65535"]),
    "bytes": ({"MAX_MESSAGE_BYTES": "10X"}, ["ASYA_MAX_MESSAGE_BYTES='10X' is wrong"]),
    "level": ({"LOG_LEVEL": "chatty"}, ["ASYA_LOG_LEVEL='chatty' is wrong", "DEBUG", "WARNING"]),
    "resiliency": ({"RESILIENCY": "{"}, ["ASYA_RESILIENCY"]),
    "policy": ({"RESILIENCY": '{"rules":[{"errors":["X"],"policy":"p"}]}'}, ["ASYA_RESILIENCY", 'policy "p" is not among the policies']),
    "policy-field": ({"RESILIENCY": '{"policies":{"p":{"maxAttempt":1}}}'}, ["ASYA_RESILIENCY", "maxAttempt"]),
    "metrics-address": ({"METRICS_ADDR": "8080"}, ["ASYA_METRICS_ADDR", "'8080' is not an address to listen on; right is :8080"]),
    "metrics-namespace": ({"METRICS_NAMESPACE": "9x"}, ["ASYA_METRICS_NAMESPACE", "'9x'"]),
    "namespace": ({"NAMESPACE": "A"}, ["ASYA_NAMESPACE is 'A', it must be a DNS label"]),
    "synchronous": ({"LOCAL_SYNCHRONOUS": "maybe"}, ["ASYA_LOCAL_SYNCHRONOUS='maybe' is wrong", "FULL"]),
    "socket-dir": ({"SOCKET_DIR": "/tmp/" + "x" * 120}, ["ASYA_SOCKET_DIR is '/tmp/xxx", "shorter than 108 bytes"]),
    "results-dir": ({"IS_END_ACTOR": "1", "RESULTS_DIR": "/no/such/place"}, ["'/no/such/place'"]),
    "local-dir": ({"LOCAL_DIR": "/dev/null/x"}, ["/dev/null"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_setting_is_named_with_its_value_and_what_is_right(place, name):
    variables, texts = BAD[name]
    said = refused(place, **variables)
    for text in texts:
        assert text in said, said


def test_all_bad_settings_are_told_at_once(place):
    bad = ["no-name", "happy-end", "bool", "timeout", "window", "level", "policy", "metrics-address", "metrics-namespace", "synchronous"]
    said = refused(place, **{k: v for name in bad for k, v in BAD[name][0].items()})
    for name in bad:
        assert all(text in said for text in BAD[name][1]), (name, said)


def test_an_unknown_variable_is_warned_of_and_no_secret_is_printed(place):
    sidecar = place.sidecar("a", place.fake(answer), RUNTIME_TIMOUT="hunter2", S3_SECRET_KEY="hunter3", HANDLER="x.y", LOG_LEVEL="DEBUG", SVC_SERVICE_HOST="10.0.0.1")
    sidecar.wait_line("runtime_ready")
    assert sidecar.lines("unknown_variable", name="ASYA_RUNTIME_TIMOUT")[0]["nearest"] == "ASYA_RUNTIME_TIMEOUT"
    place.queue.post("a", envelope("m", {"password": "hunter4"}))
    place.queue.wait("happy-end")
    assert sidecar.stop() == 0
    assert "hunter" not in sidecar.text()
    assert not any("HANDLER" in line["name"] or "SVC" in line["name"] for line in sidecar.lines("unknown_variable"))


def test_a_port_that_is_taken_is_told(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = refused(place, METRICS_ADDR="127.0.0.1:%d" % taken.getsockname()[1])
    assert "ASYA_METRICS_ADDR" in said and "the port is taken by another socket" in said


def run(place, *arguments):
    return subprocess.run([place.sidecar_path, *arguments], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)


def test_help_names_every_variable_and_fits_a_terminal(place):
    out = run(place, "--help")
    assert out.returncode == 0 and out.stderr == "" and out.stdout.startswith("usage: asya-sidecar")
    for name in ("ACTOR_NAME", "TRANSPORT", "RESILIENCY", "LOCAL_DIR", "METRICS_ADDR", "GRACE_PERIOD", "CRASH_MAX_ATTEMPTS"):
        assert "ASYA_" + name in out.stdout
    assert max(map(len, out.stdout.splitlines())) <= 100


def test_version_and_unknown_arguments(place):
    assert re.fullmatch(r"asya-sidecar \d+\.\d+\.\d+\n", run(place, "--version").stdout)
    out = run(place, "--verison")
    assert out.returncode == 2 and "--verison" in out.stderr and "--help" in out.stderr


# ---- pages ----


def test_metrics_can_be_turned_off(place):
    sidecar = place.sidecar("a", place.fake(answer), METRICS_ENABLED="false")
    place.queue.post("a", envelope("m", 1))
    place.queue.wait("happy-end")
    assert sidecar.wait_line("started")["metrics_port"] == 0
    sockets = [os.readlink(os.path.join("/proc/%d/fd" % sidecar.process.pid, fd)) for fd in os.listdir("/proc/%d/fd" % sidecar.process.pid)]
    with open("/proc/%d/net/tcp" % sidecar.process.pid) as table:
        assert not any("socket:[%s]" % line.split()[9] in sockets for line in table.readlines()[1:])


def test_the_pages_of_an_end_actor(place):
    sidecar = place.end("happy-end")
    assert sidecar.wait_page("/readyz", 200) == "ok\n" and sidecar.get("/healthz") == (200, "ok\n")
    assert sidecar.get("/nowhere")[0] == 404


SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]
BYTES = [10.0**n for n in range(2, 10)]
CONTRACT = {  # metric: (type, labels, bounds)
    "messages_received_total": ("counter", {"queue", "transport"}, None),
    "messages_processed_total": ("counter", {"queue", "status"}, None),
    "messages_sent_total": ("counter", {"destination_queue", "message_type"}, None),
    "messages_failed_total": ("counter", {"queue", "reason"}, None),
    "runtime_errors_total": ("counter", {"queue", "error_type"}, None),
    "processing_duration_seconds": ("histogram", {"queue"}, SECONDS),
    "runtime_execution_duration_seconds": ("histogram", {"queue"}, SECONDS),
    "queue_receive_duration_seconds": ("histogram", {"queue", "transport"}, SECONDS),
    "queue_send_duration_seconds": ("histogram", {"destination_queue", "transport"}, SECONDS),
    "envelope_size_bytes": ("histogram", {"direction"}, BYTES),
    "active_messages": ("gauge", set(), None),
}


def labels_without_le(key):
    return {name for name, _ in key[1]} - {"le"}


def check_families(types, values, prefix):
    for name, (kind, labels, bounds) in CONTRACT.items():
        full = prefix + name
        assert types[full] == kind
        series = [k for k in values if k[0] == full or (kind == "histogram" and k[0] in (full + "_bucket", full + "_sum", full + "_count"))]
        assert series and all(labels_without_le(k) == labels for k in series), (full, series)
        for key in (k for k in series if kind == "histogram" and k[0].endswith("_count")):
            buckets = {dict(k[1])["le"]: v for k, v in values.items() if k[0] == full + "_bucket" and key[1] < k[1]}
            assert [float(le) for le in buckets if le != "+Inf"] == bounds
            counts = list(buckets.values())
            assert counts == sorted(counts) and buckets["+Inf"] == values[key]


def test_every_metric_of_the_contract_after_a_known_run(place):
    def handle(c, request):
        env = json.loads(request[1:])
        {
            "ok": lambda: c.answer(1),
            "fan": lambda: c.answer(1, 2, 3),
            "none": lambda: c.answer(),
            "bad": lambda: c.fail("Trouble"),
            "again": lambda: c.answer(1) if "headers" in env else c.fail("ValueError"),
        }[env["payload"]]()

    rules = json.dumps({"policies": {"p": {"maxAttempts": 2, "initialDelay": "1ms"}}, "rules": [{"errors": ["ValueError"], "policy": "p"}]})
    sidecar = place.sidecar("a", place.fake(handle), METRICS_NAMESPACE="mine", RESILIENCY=rules, MAX_MESSAGE_BYTES="2000")
    bodies = [dumps(envelope(what, what, ["a", "b"])) for what in ("ok", "fan", "none", "bad", "again")]
    poison = [b"{poison", b"x" * 2001, dumps(envelope("stray", 1, ["other"]))]
    place.queue.post("a", *bodies, *poison)
    place.queue.wait("b", 5)
    place.queue.wait("happy-end", 1)
    place.queue.wait("error-end", 3)
    place.queue.wait("a", 1, dead=True)
    wait_until("all is settled", lambda: "mine_active_messages 0\n" in sidecar.get("/metrics")[1] and place.queue.count("a") == 0)
    types, values = read_metrics(sidecar.get("/metrics")[1])
    check_families(types, values, "mine_")

    def value(name, **labels):
        return values["mine_" + name, frozenset(labels.items())]

    def all_of(name):
        return {tuple(sorted(dict(k[1]).values())): v for k, v in values.items() if k[0] == "mine_" + name}

    assert value("messages_received_total", queue="asya-a", transport="local") == 9
    assert all_of("messages_processed_total") == {("asya-a", "routed"): 3, ("asya-a", "ended"): 1, ("asya-a", "failed"): 3, ("asya-a", "retried"): 1, ("asya-a", "dead"): 1}
    assert all_of("messages_sent_total") == {("asya-b", "routed"): 5, ("asya-happy-end", "ended"): 1, ("asya-error-end", "failed"): 3, ("asya-a", "retried"): 1, ("asya-a", "dead"): 1}
    failed = all_of("messages_failed_total")
    assert failed["Trouble", "asya-a"] == 1 and failed["RouteMismatch", "asya-a"] == 1 and failed["asya-a", "parse_error"] == 2
    assert all_of("runtime_errors_total") == {("Trouble", "asya-a"): 1, ("ValueError", "asya-a"): 1}
    assert value("processing_duration_seconds_count", queue="asya-a") == 9
    assert value("runtime_execution_duration_seconds_count", queue="asya-a") == 6
    assert value("queue_receive_duration_seconds_count", queue="asya-a", transport="local") == 9
    assert sum(v for k, v in values.items() if k[0] == "mine_queue_send_duration_seconds_count") == 9
    assert value("envelope_size_bytes_count", direction="received") == 9 and value("envelope_size_bytes_count", direction="sent") == 11
    assert value("envelope_size_bytes_sum", direction="received") >= sum(map(len, bodies + poison))
    assert value("consumer_live") == 1 and value("runtime_workers") == 1


def test_error_types_from_outside_cannot_grow_the_metrics_without_end(place):
    """Nor break their text."""
    fake = place.fake(lambda c, _: c.fail('T%d"\\\n%s' % (len(fake.requests), "x" * 2000)))
    sidecar = place.sidecar("a", fake, MAX_MESSAGE_BYTES="100000")
    place.queue.post("a", *[envelope("m%d" % i, 1) for i in range(300)])
    place.queue.wait("error-end", 300)
    text = sidecar.get("/metrics")[1]
    _, values = read_metrics(text)
    errors = {k: v for k, v in values.items() if k[0] == "asya_actor_runtime_errors_total"}
    assert len(errors) == 201 and sum(errors.values()) == 300 and len(text) < 200000


def test_the_health_of_each_state(place):
    entered, go_on = threading.Event(), threading.Event()

    def handle(c, request):
        entered.set()
        assert go_on.wait(30)
        c.answer(1)

    fake = place.fake(handle, ready=False)
    sidecar = place.sidecar("a", fake)
    sidecar.wait_line("consuming")
    assert sidecar.wait_page("/readyz", 503) == "the runtime is not ready\n" and sidecar.get("/healthz")[0] == 200
    fake.ready()
    assert sidecar.wait_page("/readyz", 200) == "ok\n"
    place.queue.post("a", envelope("m", 1))
    assert entered.wait(30)
    assert "asya_actor_active_messages 1\n" in sidecar.get("/metrics")[1]
    sidecar.signal(signal.SIGTERM)
    assert sidecar.wait_page("/readyz", 503) == "draining\n" and sidecar.get("/healthz")[0] == 200
    go_on.set()
    assert sidecar.wait() == 0


# ---- a queue that fails ----


@pytest.mark.parametrize("busy", [False, True])
def test_a_queue_whose_directory_is_removed_ends_the_sidecar(place, busy):
    fake = place.fake(lambda c, _: c.hung_up())
    sidecar = place.sidecar("a", fake)
    sidecar.wait_page("/readyz", 200)
    if busy:
        place.queue.post("a", envelope("m", 1))
        wait_until("it runs", lambda: fake.requests)
    place.queue.close()
    os.rename(place.queue.path, place.queue.path + ".gone")  # at once, not file by file
    shutil.rmtree(place.queue.path + ".gone", ignore_errors=True)
    assert sidecar.wait() == 1
    said = sidecar.lines("queue_unavailable")
    assert 1 <= len(said) <= 2 and place.queue.path + "/queue.db" in said[0]["error"] and "removed or replaced" in said[0]["error"]
    assert len(sidecar.text().splitlines()) < 30
    again = place.sidecar("a", place.fake(answer))
    place.queue.post("a", envelope("n", 1))
    place.queue.wait("happy-end")
    assert again.stop() == 0


def test_a_queue_that_is_no_database_any_more_is_left_alone(place):
    assert place.end("happy-end").stop() == 0
    place.queue.post("happy-end", envelope("m", 1))
    place.queue.close()
    with open(place.queue.path + "/queue.db", "r+b") as file:
        file.write(b"\xaa" * os.fstat(file.fileno()).st_size)
    with open(place.queue.path + "/queue.db", "rb") as file:
        before = file.read()
    sidecar = place.end("happy-end")
    assert sidecar.wait() == 2 and "queue.db" in sidecar.lines("cannot_start")[0]["error"]
    with open(place.queue.path + "/queue.db", "rb") as file:
        assert file.read() == before


def test_a_queue_that_cannot_be_written_to_for_a_time_loses_nothing(place):
    """As when the disk is full: no file may grow beyond 200 kB; the message makes the database larger."""
    sidecar = place.sidecar("a", place.fake(lambda c, _: c.answer("y" * 3000000)), restore_signals=False)
    sidecar.wait_page("/readyz", 200)
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (200000, resource.RLIM_INFINITY))
    place.queue.post("a", envelope("m", 1))
    said = sidecar.wait_line("settle_failed")
    assert said["id"] == "m" and "queue.db" in said["error"] and said["again_in_ms"] == 100
    assert sidecar.wait_page("/readyz", 503) == "the queue cannot be consumed from\n"
    assert sidecar.get("/healthz")[0] == 200 and sidecar.lines("queue_unavailable")
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert place.queue.wait_json("happy-end")[0]["payload"] == "y" * 3000000
    assert sidecar.wait_page("/readyz", 200) and place.queue.count("a") == 0


def test_a_queue_that_cannot_be_written_to_at_the_end_gets_its_messages_back(place):
    sidecar = place.sidecar("a", place.fake(lambda c, _: c.answer("y" * 3000000)), restore_signals=False, GRACE_PERIOD="100ms")
    sidecar.wait_page("/readyz", 200)
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (200000, resource.RLIM_INFINITY))
    place.queue.post("a", envelope("m", 1))
    sidecar.wait_line("settle_failed")
    assert sidecar.stop() == 0
    (_, owner, _, _), = place.queue.rows("a")
    assert owner == 0 and place.queue.count("happy-end") == 0


# ---- a disk that fails ----

SLOW_SYNC = r"""
#include <unistd.h>
int fsync(int fd) { (void)fd; while (access("%s", F_OK) == 0) usleep(1000); return 0; }
"""


def test_an_end_actor_whose_disk_hangs_ends_all_the_same(place):
    """The file cannot be synced. Its message is given back, by a transport that is gone when the disk answers."""
    block = place.path + "/block"
    with open(place.path + "/slow.c", "w") as source:
        source.write(SLOW_SYNC % block)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", place.path + "/slow.so", place.path + "/slow.c"], check=True)
    checks = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    slow = ["env", "LD_PRELOAD=%s/slow.so" % place.path, "ASAN_OPTIONS=" + checks, place.sidecar_path]
    sidecar = place.end("happy-end", command=slow, GRACE_PERIOD="100ms", LOCAL_SYNCHRONOUS="NORMAL")
    sidecar.wait_page("/readyz", 200)
    open(block, "w").close()
    place.queue.post("happy-end", envelope("m", 1, ["a"], 1))
    wait_until("it is being written", lambda: os.listdir(place.path + "/results/.asya-tmp") if os.path.isdir(place.path + "/results/.asya-tmp") else False)
    assert sidecar.stop() == 0
    (_, owner, _, _), = place.queue.rows("happy-end")
    assert owner == 0
