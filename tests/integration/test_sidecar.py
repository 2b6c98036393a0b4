# SPDX-License-Identifier: Apache-2.0
"""The sidecar's way with messages: routes, fan-out, poison, failures, retries, deadlines, end actors. Real programs on local queues."""

import base64
import contextlib
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse

import pytest
from sidecar_tools import Place, dumps, envelope, wait_until

WHOLE = (
    b'{"headers":{"traceparent":"00-1","tenant":{"a":1.0}},"unknown":{"z":1,"a":[0.10,"\\u0000"]},"id":"%s","parent_id":"up",'
    b'"route":{"metadata":{"k":1e2,"j":null},"current":0,"actors":["%s"]},"payload":%s,"deadline":"2099-01-02T03:04:05.5+01:00","more":null}'
)
PAYLOAD = '{"z":123456789012345678901234,"a":0.1,"n":"\\u0000","b":1.50,"u":"\u00e9\U0001f600\\ud83d\\ude00","e":1E+2,"m":-0,"l":[1.0,{"y":1,"x":2}]}'.encode()


@pytest.fixture
def place():
    with contextlib.closing(Place()) as made:
        yield made


@pytest.fixture(scope="module")
def world():
    """Two Python actors, a C one, and both end actors, for tests that disturb nobody."""
    with contextlib.closing(Place()) as made:
        runtimes = [made.python(), made.python("runtime_handlers.forward", HANDLER_MODE="envelope"), made.echo()]
        for actor, runtime in zip(("act", "forward", "echo"), runtimes):
            made.sidecar(actor, runtime, MAX_DEPTH="40", MAX_MESSAGE_BYTES="100k", MAX_ROUTE_ACTORS="20", MAX_HEADERS="10", MAX_HEADER_BYTES="2Ki")
        made.end("happy-end")
        made.end("error-end", MAX_MESSAGE_BYTES="100k", MAX_DEPTH="40")
        made.queue.post("act", envelope("first", {"do": "none"}, ["act"]))
        made.wait_kept("first")
        yield made


def kept(world, id, n=1):
    """The kept envelopes of an id, parsed."""
    return [json.loads(body) for body in world.wait_kept(id, n).values()]


def failed(world, id):
    (key, body), = world.wait_kept(id, prefix="error-asya/").items()
    return json.loads(body)


def hop(world, actor, id, payload, actors=None, **more):
    world.queue.post(actor, envelope(id, payload, actors or [actor], **more))


# ---- the happy path ----


@pytest.mark.parametrize("actor", ["echo", "forward"])
def test_all_of_an_envelope_comes_through(world, actor):
    id = "whole-" + actor
    payload = PAYLOAD if actor == "echo" else b'{"code":"pass","z":123456789012345678901234,"a":0.1,"n":"\\u0000","b":1.50}'
    if actor == "forward":
        payload = payload.replace(b"pass", b"envelope['route']['current'] += 1")
    world.queue.post(actor, WHOLE % (id.encode(), actor.encode(), payload))
    (key, body), = world.wait_kept(id).items()
    assert re.fullmatch(r"happy-asya/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/%s/%s\.json" % (actor, id), key)
    route = b'"route":{"actors":["%s"],"current":1,"metadata":{"k":1e2,"j":null}},' % actor.encode()
    assert body == (
        b'{"id":"%s","parent_id":"up",' % id.encode() + route + b'"headers":{"traceparent":"00-1","tenant":{"a":1.0}},'
        b'"deadline":"2099-01-02T03:04:05.5+01:00","payload":' + payload + b',"unknown":{"z":1,"a":[0.10,"\\u0000"]},"more":null}'
    )


def test_several_actors_one_after_another(world):
    hop(world, "act", "chain", {"do": "echo", "value": {"code": "envelope['route']['current'] += 1"}}, ["act", "forward", "echo"])
    env, = kept(world, "chain")
    assert env["route"] == {"actors": ["act", "forward", "echo"], "current": 3}


def test_what_the_cli_sends_arrives(world):
    cli = os.path.join(os.path.dirname(world.sidecar_path), "asya")
    out = subprocess.run([cli, "send", "--route", "echo", "--id", "by-cli", "--payload", '{"n":1.50}'], env=dict(os.environ, ASYA_LOCAL_DIR=world.queue.path), capture_output=True, text=True)
    assert out.returncode == 0, out
    (body,) = world.wait_kept("by-cli").values()
    assert b'"payload":{"n":1.50}' in body


def test_fan_out_makes_ids_and_parents_and_a_second_one_makes_others(world):
    """Item 0 keeps its id. Both children come to the second actor and fan out again."""
    inner = {"do": "echo", "value": ["x", "y"]}
    hop(world, "act", "fan", {"do": "echo", "value": [inner, inner, inner]}, ["act", "act", "echo"], headers={"h": 1})
    got = {id: kept(world, id)[0] for id in ("fan", "fan-1", "fan-2", "fan-1.1", "fan-1-1", "fan-2-1")}
    assert {id: env.get("parent_id") for id, env in got.items()} == {"fan": None, "fan-1": "fan", "fan-2": "fan", "fan-1.1": "fan", "fan-1-1": "fan-1", "fan-2-1": "fan-2"}
    assert {id: env["payload"] for id, env in got.items()} == {"fan": "x", "fan-1": "x", "fan-2": "x", "fan-1.1": "y", "fan-1-1": "y", "fan-2-1": "y"}
    assert all(env["headers"]["h"] == 1 and env["route"]["current"] == 3 for env in got.values())


@pytest.mark.parametrize("what", ["none", "nothing"])
def test_nothing_returned_goes_to_happy_end_unchanged(world, what):
    sent = envelope("ended-" + what, {"do": what, "n": 1.5}, ["act", "echo"], headers={"a": 1}, extra=[1], parent_id="p", deadline="2099-01-01T00:00:00Z")
    world.queue.post("act", sent)
    (key, body), = world.wait_kept("ended-" + what).items()
    assert key.split("/")[2] == "act" and json.loads(body) == sent


def test_a_handler_in_envelope_mode_chooses_the_way(world):
    code = "envelope['route'] = {'actors': ['forward', 'act'], 'current': 1}; envelope['payload'] = {'do': 'none'}; envelope['headers'] = {'own': 1}"
    hop(world, "forward", "choice", {"code": code}, ["forward", "echo"], headers={"old": 1}, more=1)
    env, = kept(world, "choice")
    assert env == {"id": "choice", "route": {"actors": ["forward", "act"], "current": 1}, "headers": {"own": 1}, "payload": {"do": "none"}, "more": 1}


@pytest.mark.parametrize("name,code,text", [
    ("renamed", "envelope['route'] = {'actors': ['x', 'echo'], 'current': 1}", "past"),
    ("stays", "pass", "item 0 leaves route.current at 0: it must be more than 0"),
    ("no-label", "envelope['route'] = {'actors': ['forward', '../x'], 'current': 1}", "'../x': an actor name is a DNS label"),
    ("headers", "envelope['route']['current'] = 1; envelope['headers'] = {str(i): i for i in range(11)}", "item 0: 'headers' has 11 members, at most 10 are allowed"),
])
def test_what_a_handler_may_not_change_is_an_error(world, name, code, text):
    hop(world, "forward", "bad-" + name, {"code": code}, ["forward", "echo"])
    env = failed(world, "bad-" + name)
    assert env["payload"]["error"] == "processing_error" and text in env["payload"]["details"]["message"]
    assert env["route"] == {"actors": ["forward", "echo"], "current": 0} and env["payload"]["original_payload"] == {"code": code}


# ---- poison ----


def poison(world, body, id=None):
    world.queue.post("echo", body)
    return failed(world, id or hashlib.sha256(body).hexdigest())


def deep(levels):
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("name,body,text", [
    ("empty", b"", None),
    ("no-json", b"{not json}", None),
    ("no-object", b"[1]", None),
    ("no-id", dumps({"route": {"actors": ["echo"], "current": 0}, "payload": 1}), "'id' is missing"),
    ("empty-id", dumps(envelope("", 1, ["echo"])), "'id' has 0 bytes, it must have 1 to 256"),
    ("long-id", dumps(envelope("x" * 257, 1, ["echo"])), "'id' has 257 bytes, it must have 1 to 256"),
    ("number-id", dumps(envelope(7, 1, ["echo"])), "'id' must be a string, it is 7"),
    ("twice", b'{"id":"a","id":"b","payload":1,"route":{"actors":["echo"],"current":0}}', "stands twice"),
])
def test_what_is_no_envelope_goes_to_error_end_as_text(world, name, body, text):
    env = poison(world, body)
    details = env["payload"].pop("details")
    assert env == {"id": hashlib.sha256(body).hexdigest(), "route": {"actors": [], "current": 0}, "payload": {"error": "msg_parsing_error", "original_payload": body.decode()}}
    assert details["type"] == "ParsingError" and (text or "") in details["message"] and set(details) == {"message", "type", "traceback"}


def test_what_is_not_utf8_goes_to_error_end_as_base64(world):
    body = b'{"id":"x\xff","payload":"\xfe\xfd"}'
    env = poison(world, body)
    assert env["payload"]["encoding"] == "base64" and base64.b64decode(env["payload"]["original_payload"]) == body


def at_limit(over):
    """(name, body, id, text) where each is at one of the limits of `world`, or `over` it by one."""
    yield "depth", b'{"id":"%s","route":{"actors":["echo"],"current":0},"payload":' + deep(39 + over) + b"}", "nested too deep"
    body = b'{"id":"%s","route":{"actors":["echo"],"current":0},"payload":"'
    yield "route", b'{"id":"%s","payload":1,"route":{"current":0,"actors":' + dumps(["echo"] * (20 + over)) + b"}}", "21 actors, at most 20 are allowed"
    yield "headers", b'{"id":"%s","payload":1,"route":{"current":0,"actors":["echo"]},"headers":' + dumps({str(i): 1 for i in range(10 + over)}) + b"}", "11 members, at most 10 are allowed"
    yield "header-bytes", b'{"id":"%s","payload":1,"route":{"current":0,"actors":["echo"]},"headers":{"h":"' + b"x" * (2048 - 8 + over) + b'"}}', "2049 bytes, at most 2048"


@pytest.mark.parametrize("what", range(4), ids=["depth", "route", "headers", "header-bytes"])
def test_a_message_at_a_limit_passes_and_one_above_is_refused(world, what):
    name, body, _ = list(at_limit(0))[what]
    world.queue.post("echo", body % (b"at-" + name.encode()))
    if name == "route":
        assert len(kept(world, "at-" + name)) == 1
    else:
        assert kept(world, "at-" + name)[0]["route"]["current"] == 1
    name, body, text = list(at_limit(1))[what]
    body %= b"over-" + name.encode()
    world.queue.post("echo", body)
    id = "over-" + name if name in ("route", "headers", "header-bytes") else hashlib.sha256(body).hexdigest()
    assert text is None or text in failed(world, id)["payload"]["details"]["message"]


def test_a_message_of_the_largest_size_passes_and_a_larger_one_goes_to_the_dead_letters_as_it_is(world):
    """Wrapped for error-end it would be too large for that one too."""
    begin = b'{"id":"%s","route":{"actors":["echo"],"current":0},"payload":"'
    size = 100000 - len(begin % b"size-0") - 2
    world.queue.post("echo", begin % b"size-0" + b"x" * size + b'"}')
    assert len(kept(world, "size-0")[0]["payload"]) == size
    over = begin % b"size-1" + b"x" * (size + 1) + b'"}'
    world.queue.post("echo", over)
    assert world.queue.wait("echo", dead=True) == [over]
    world.queue.drop("echo", dead=True)


def test_a_handlers_failure_over_a_message_at_the_depth_limit_is_kept(world):
    """error-end gets it one level deeper than it was."""
    hop(world, "act", "deep-failure", {"do": "fail", "kind": "trouble", "deep": json.loads(deep(38))})
    assert failed(world, "deep-failure")["payload"]["details"]["type"] == "Trouble"


@pytest.mark.parametrize("route,actual", [(["other"], "other"), (["echo", "other"], "other"), ([], "end of route"), (["echo"], "end of route")])
def test_a_message_for_another_actor_is_refused(world, route, actual):
    id = "stray-%s-%d" % (actual.split()[0], len(route))
    current = 0 if route[:1] == ["other"] or not route else 1
    sent = envelope(id, {"keep": 1.5}, route, current, headers={"h": 1}, parent_id="p", extra=1)
    world.queue.post("echo", sent)
    env = failed(world, id)
    message = "Route mismatch: message routed to wrong actor (expected: echo, actual: %s)" % actual
    assert env == dict(sent, payload={"error": "route_mismatch", "details": {"message": message, "type": "RouteMismatch", "traceback": env["payload"]["details"]["traceback"]}, "original_payload": {"keep": 1.5}})


# ---- failures ----


def test_a_handlers_error_goes_to_error_end_in_the_shape_of_the_contract(world):
    sent = envelope("failure", {"do": "fail", "kind": "trouble", "text": "x\u0000\u00e9"}, ["act", "echo"], headers={"h": 1}, parent_id="p", extra=[1], deadline="2099-01-01T00:00:00Z")
    world.queue.post("act", sent)
    (key, body), = world.wait_kept("failure").items()
    env = json.loads(body)
    details = env["payload"]["details"]
    assert key.startswith("error-asya/") and key.split("/")[2] == "act"
    assert list(env["payload"]) == ["error", "details", "original_payload"]
    assert details["message"] == "told: x\u0000\u00e9" and details["type"] == "Trouble"
    assert details["mro"] == ["runtime_handlers.Trouble", "ValueError", "Exception", "BaseException"]
    assert "in fail\n" in details["traceback"] and details["traceback"].rstrip().endswith("Trouble: told: x\u0000\u00e9")
    assert env == dict(sent, payload={"error": "processing_error", "details": details, "original_payload": sent["payload"]})


def test_a_generator_that_fails_half_way_has_sent_nothing_on(place):
    """It is an answer of two items and an error."""

    def handle(c, request):
        c.send(b"".join(b"\0\0\0\x0eI" + b'{"payload":1}' for _ in range(2)))
        c.fail("Trouble", "half way")

    place.sidecar("a", place.fake(handle))
    place.queue.post("a", envelope("half", 1, ["a", "b"]))
    assert place.queue.wait_json("error-end")[0]["payload"]["details"]["message"] == "half way"
    assert place.queue.count("b") == 0


# ---- retries ----


def policy(rules, **policies):
    return json.dumps({"policies": policies, "rules": [{"errors": errors, "policy": name} for errors, name in rules]})


QUICK = {"maxAttempts": 3, "backoff": "constant", "initialDelay": "50ms", "jitter": False}


@pytest.mark.parametrize("errors,details,attempts", [
    (["ValueError"], {"type": "ValueError"}, 3),
    (["Timeout"], {"type": "Timeout", "mro": ["requests.exceptions.Timeout", "OSError"]}, 3),
    (["exceptions.Timeout"], {"type": "Timeout", "mro": ["requests.exceptions.Timeout", "OSError"]}, 3),
    (["OSError"], {"type": "Timeout", "mro": ["requests.exceptions.Timeout", "OSError"]}, 3),
    (["OSError"], {"type": "ValueError", "mro": ["ValueError"]}, 1),
], ids=["type", "short", "dotted", "ancestor", "other"])
def test_a_rule_names_errors_by_type_short_name_or_ancestor(place, errors, details, attempts):
    fake = place.fake(lambda c, _: c.fail(message="no", **details))
    place.sidecar("a", fake, RESILIENCY=policy([(errors, "p")], p=QUICK))
    place.queue.post("a", envelope("r", 1))
    assert place.queue.wait_json("error-end")[0]["payload"]["details"]["type"] == details["type"]
    assert len(fake.requests) == attempts


@pytest.mark.parametrize("shape,gaps", [
    ({"backoff": "constant"}, [100, 100, 100]),
    ({"backoff": "linear"}, [100, 200, 300]),
    ({"backoff": "exponential"}, [100, 200, 400]),
    ({"backoff": "exponential", "maxInterval": "150ms"}, [100, 150, 150]),
    ({"backoff": "exponential", "jitter": True}, [50, 100, 200]),
], ids=["constant", "linear", "exponential", "capped", "jitter"])
def test_delays_between_attempts_are_those_of_the_policy(place, shape, gaps):
    fake = place.fake(lambda c, _: c.fail())
    place.sidecar("a", fake, RESILIENCY=policy([(["ValueError"], "p")], p=dict({"maxAttempts": 4, "initialDelay": "100ms", "jitter": False}, **shape)))
    place.queue.post("a", envelope("r", 1))
    place.queue.wait("error-end")
    seen = [(b - a) * 1000 for a, b in zip(fake.times, fake.times[1:])]
    assert len(seen) == 3 and all(s >= g - 2 for s, g in zip(seen, gaps)), seen


def test_attempts_are_counted_in_headers_that_end_with_the_hop(place):
    def handle(c, request):
        c.answer(1) if len(fake.requests) == 3 else c.fail()

    fake = place.fake(handle)
    place.sidecar("a", fake, RESILIENCY=policy([(["ValueError"], "p")], p=QUICK))
    place.queue.post("a", envelope("r", 0.5, ["a", "b"], headers={"h": 1}))
    assert place.queue.wait_json("b") == [envelope("r", 1, ["a", "b"], 1, headers={"h": 1})]
    headers = [json.loads(r[1:]).get("headers") for r in fake.requests]
    assert [h.get("asya-attempt") for h in headers] == [None, "2", "3"]
    assert headers[1]["asya-attempt-since"] == headers[2]["asya-attempt-since"] and all(h["h"] == 1 for h in headers)


def test_the_policy_named_default_is_for_the_rest(place):
    fake = place.fake(lambda c, _: c.fail("Whatever"))
    place.sidecar("a", fake, RESILIENCY=policy([(["ValueError"], "never")], never={"maxAttempts": 1}, default=QUICK))
    place.queue.post("a", envelope("r", 1))
    place.queue.wait("error-end")
    assert len(fake.requests) == 3


def test_no_attempt_begins_after_the_longest_duration(place):
    fake = place.fake(lambda c, _: c.fail())
    place.sidecar("a", fake, RESILIENCY=policy([(["ValueError"], "p")], p=dict(QUICK, maxAttempts=0, initialDelay="100ms", maxDuration="350ms")))
    place.queue.post("a", envelope("r", 1))
    place.queue.wait("error-end")
    assert 2 <= len(fake.requests) <= 4 and fake.times[-1] - fake.times[0] < 0.4


def test_a_message_tried_enough_goes_to_the_actors_of_its_policy(place):
    place.sidecar("a", place.fake(lambda c, _: c.fail()), RESILIENCY=policy([(["ValueError"], "p")], p=dict(QUICK, maxAttempts=2, onExhausted=["help", "more"])))
    place.queue.post("a", envelope("r", {"n": 1}, ["a", "b", "c"], headers={"h": 1}))
    env, = place.queue.wait_json("help")
    assert env["route"] == {"actors": ["a", "help", "more"], "current": 1} and env["headers"] == {"h": 1}
    assert env["payload"]["original_payload"] == {"n": 1} and env["payload"]["details"]["type"] == "ValueError"
    assert place.queue.count("error-end") == 0


def test_a_message_at_the_header_limits_can_be_retried_and_fan_out(place):
    """Our own headers do not count against the sender's."""

    def handle(c, request):
        c.answer(1, 2) if b"asya-attempt" in request else c.fail()

    fake = place.fake(handle)
    place.sidecar("a", fake, RESILIENCY=policy([(["ValueError"], "p")], p=QUICK), MAX_HEADERS="8", MAX_HEADER_BYTES="1024")
    place.sidecar("b", place.fake(lambda c, _: c.answer(1)), MAX_HEADERS="8", MAX_HEADER_BYTES="1024")
    headers = {str(i): 1 for i in range(8)}
    headers["7"] = "x" * (1025 - len(dumps(headers)) - 2)
    assert len(dumps(headers)) == 1024
    place.queue.post("a", envelope("r", 1, ["a", "b"], headers=headers))
    got = place.queue.wait_json("happy-end", 2)
    assert len(fake.requests) == 2 and {e["id"] for e in got} == {"r", "r-1"}


def test_a_message_too_large_to_be_sent_again_goes_to_the_dead_letters(place):
    """It is at the limit, and its count of attempts would make it larger."""
    fake = place.fake(lambda c, _: c.fail())
    place.sidecar("a", fake, RESILIENCY=policy([(["ValueError"], "p")], p=QUICK), MAX_MESSAGE_BYTES="2000")
    body = dumps(envelope("r", ""))
    body = body.replace(b'""', b'"' + b"x" * (2000 - len(body)) + b'"')
    assert len(body) == 2000
    place.queue.post("a", body)
    assert place.queue.wait("a", dead=True) == [body] and len(fake.requests) == 1


# ---- deadlines ----


def soon(seconds):
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return now.isoformat().replace("+00:00", "Z")


def test_a_deadline_that_has_passed_is_not_handled(world):
    hop(world, "echo", "late", 1, deadline="2020-01-01T00:00:00Z")
    env = failed(world, "late")
    assert env["payload"]["error"] == "deadline_exceeded" and env["payload"]["details"]["type"] == "DeadlineExceeded"
    assert env["payload"]["details"]["message"] == 'the deadline "2020-01-01T00:00:00Z" has passed' and env["deadline"] == "2020-01-01T00:00:00Z"


def test_a_deadline_passes_while_the_runtime_is_not_ready(place):
    """The message was taken when the runtime was there."""

    def handle(c, request):
        if b'"slow"' in request:
            place.queue.post("a", envelope("waits", 1, deadline=soon(0.4)))
            wait_until("it is taken", lambda: place.queue.leased("a") == 2)
            fake.unready()
        c.answer(1)

    fake = place.fake(handle)
    place.sidecar("a", fake)
    quick = 40  # enough to make the window more than one, on a busy machine too
    place.queue.post("a", *[envelope("quick-%d" % i, 1) for i in range(quick)])
    place.queue.wait("happy-end", quick)
    place.queue.post("a", envelope("slow", 1))
    env, = place.queue.wait_json("error-end")
    assert env["id"] == "waits" and env["payload"]["error"] == "deadline_exceeded" and len(fake.requests) == quick + 1


def test_no_retry_begins_after_the_deadline(place):
    fake = place.fake(lambda c, _: c.fail())
    place.sidecar("a", fake, RESILIENCY=policy([(["ValueError"], "p")], p=dict(QUICK, initialDelay="20s")))
    place.queue.post("a", envelope("r", 1, deadline=soon(10)))
    assert place.queue.wait_json("error-end")[0]["payload"]["details"]["type"] == "DeadlineExceeded"
    assert len(fake.requests) == 1


# ---- end actors ----


@pytest.mark.parametrize("id,name", [
    ("../../x", "%2E./../x"), ("a\u0000b", None), ("/etc/passwd", None), ("..", None), (".hidden", None), ("\u00e9", None), ("x" * 256, None), ("\u0000" * 256, None),
], ids=["dots", "nul", "absolute", "dotdot", "hidden", "unicode", "long", "long-nul"])
def test_hostile_ids_are_names_like_any_other(world, id, name):
    world.queue.post("happy-end", envelope(id, {"i": id}, ["a", "b"], 2))
    (key,) = wait_until("it is kept", lambda: [k for k, body in world.kept().items() if json.loads(body)["payload"] == {"i": id}])
    folder, actor, file = key.rsplit("/", 2)
    assert actor == "b" and re.fullmatch(r"[A-Za-z0-9_~%=-][A-Za-z0-9._~%=-]*\.json", file) and len(file) <= 200
    if len(file) < 200 and "=" not in file:
        assert urllib.parse.unquote(file) == id + ".json"
    assert json.loads(world.kept()[key])["id"] == id
    assert sorted(os.listdir(world.path + "/results"))[-2:] == ["error-asya", "happy-asya"]


def test_poison_at_error_end_goes_to_its_dead_letters_as_it_is(world):
    bodies = [b"\xff\x00not json", dumps({"no": "id"}), b'{"id":"big","payload":"' + b"x" * 200000]
    world.queue.post("error-end", *bodies)
    assert sorted(world.queue.wait("error-end", 3, dead=True)) == sorted(bodies)
    world.queue.drop("error-end", dead=True)


def test_poison_at_happy_end_goes_to_error_end(world):
    body = b"{poison at happy-end"
    world.queue.post("happy-end", body)
    assert failed(world, hashlib.sha256(body).hexdigest())["payload"]["original_payload"] == body.decode()


def test_a_runtime_may_be_the_end_actor_and_what_it_cannot_handle_goes_to_its_dead_letters(place):
    fake = place.fake(lambda c, request: c.fail() if b'"bad"' in request else c.answer({"s3": "x"}))
    sidecar = place.sidecar("error-end", fake, IS_END_ACTOR="true")
    bad = envelope("bad", {"error": "x"}, ["a", "b"], 1)
    place.queue.post("error-end", envelope("good", {"error": "x"}, ["a", "b"], 1), bad)
    assert place.queue.wait_json("error-end", dead=True) == [bad]
    wait_until("both are done", lambda: place.queue.count("error-end") == 0)
    assert [json.loads(r[1:])["id"] for r in fake.requests] == ["good", "bad"] and place.queue.count("happy-end") == 0
    assert sidecar.stop() == 0


def test_a_redelivered_envelope_is_kept_under_the_same_name(place):
    """The end actor is killed after the file is there and before the ack."""
    first = place.end("happy-end", FAILPOINTS="settle.before=kill@1")
    place.queue.post("happy-end", envelope("again", {"n": 1}, ["a"], 1))
    assert first.wait() == -9
    before = place.kept()
    place.end("happy-end")
    wait_until("it is acked", lambda: place.queue.count("happy-end") == 0)
    assert place.kept() == before and len(before) == 1


def test_nothing_is_lost_while_the_disk_refuses(place):
    """Everybody may write but for the sidecar, which runs as nobody."""
    os.mkdir(place.path + "/results")
    for path in (place.path, place.path + "/results"):
        os.chmod(path, 0o777)
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
    place.end("happy-end", command=as_nobody + [place.sidecar_path])
    place.queue.post("happy-end", envelope("before", 1, ["a"], 1))
    place.wait_kept("before")
    folders = [place.path + "/results", place.path + "/results/happy-asya", place.path + "/results/.tmp"]
    sidecar = place.programs[-1]
    for folder, _, _ in os.walk(place.path + "/results"):
        os.chown(folder, os.getuid(), os.getgid())
        os.chmod(folder, 0o555)
    place.queue.post("happy-end", *[envelope("e%d" % i, i, ["a"], 1) for i in range(5)])
    wait_until("it is told", lambda: len(sidecar.lines("not_kept")) >= 5)
    assert len(place.kept()) == 1 and place.queue.count("happy-end") == 5
    for folder, _, _ in os.walk(place.path + "/results"):
        os.chmod(folder, 0o777)
    for i in range(5):
        assert json.loads(list(place.wait_kept("e%d" % i).values())[0])["payload"] == i
    wait_until("all are acked", lambda: place.queue.count("happy-end") == 0)
    assert sidecar.stop() == 0
