# SPDX-License-Identifier: Apache-2.0
"""The Python runtime as a sidecar sees it: the real program, driven over its socket."""

import glob
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest
from runtime_client import Client, Closed, ask, ask_v1, children_of, dumps, envelope, frame, outcome

HERE = os.path.dirname(os.path.abspath(__file__))
RUNTIME = os.path.join(HERE, "..", "..", "runtimes", "python", "asya_runtime.py")
PATIENCE = 20


def pythons():
    """One of each version that this machine has, from 3.7 on; the running one first."""
    found = {sys.version_info[:2]: sys.executable}
    places = glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3"))
    places += filter(None, (shutil.which("python3.%d" % minor) for minor in range(7, 20)))
    for path in places:
        named = re.search(r"3\.(\d+)[^/]*(/bin/python3)?$", path)
        if int(named.group(1)) >= 7:
            found.setdefault((3, int(named.group(1))), path)
    return [pytest.param(path, id="%d.%d" % version) for version, path in found.items()]


def wait_until(what, condition):
    end = time.monotonic() + PATIENCE
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, "waited in vain: " + what
        time.sleep(0.005)


def contents(path):
    try:
        with open(path) as text:
            return text.read()
    except (FileNotFoundError, ProcessLookupError):  # the latter of /proc, where a process goes just now
        return ""


def alive(pid):
    state = contents("/proc/%d/stat" % pid).rpartition(")")[2].split()
    return bool(state) and state[0] not in "ZX"


class Runtime:
    """A running asya_runtime.py."""

    def __init__(self, directory, handler, python=sys.executable, path=HERE, redirect="", **variables):
        self.dir = str(directory)
        self.path = os.path.join(self.dir, "asya-runtime.sock")
        self.ready_path = os.path.join(self.dir, "runtime-ready")
        self.log_path = os.path.join(self.dir, "log-%d" % time.monotonic_ns())
        self.out_path = self.log_path + "-out"
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ASYA_", "PYTHON"))}
        env.update(PYTHONPATH=str(path), PYTHONDONTWRITEBYTECODE="1", ASYA_SOCKET_DIR=self.dir)
        if handler is not None:
            env["ASYA_HANDLER"] = handler if "." in handler else "runtime_handlers." + handler
        env.update(("ASYA_" + k, str(v)) for k, v in variables.items())
        command = ["sh", "-c", 'exec "$0" "$1" ' + redirect, python, RUNTIME]
        with open(self.log_path, "w") as log, open(self.out_path, "w") as out, open(RUNTIME) as stdin:
            self.process = subprocess.Popen(
                command, env=env, stdin=stdin, stdout=out, stderr=log, cwd=self.dir, start_new_session=True
            )

    def wait_ready(self):
        wait_until("ready", lambda: os.path.exists(self.ready_path) or self.process.poll() is not None)
        assert self.process.poll() is None, self.log()
        return self

    def log(self):
        return contents(self.log_path)

    def events(self, name):
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith('{"time"')]
        return [line for line in lines if line["event"] == name]

    def exit_code(self):
        return self.process.wait(PATIENCE)

    def stop(self):
        """Two different signals: at once."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGINT)
            try:
                self.exit_code()
            finally:
                self.process.kill()


@pytest.fixture
def start(tmp_path):
    """Starts runtimes that end with the test."""
    running = []

    def begin(handler, wait=True, **more):
        directory = more.pop("directory", tmp_path)
        running.append(Runtime(directory, handler, **more))
        return running[-1].wait_ready() if wait else running[-1]

    yield begin
    for runtime in running:
        runtime.stop()


@pytest.fixture(scope="module", params=pythons())
def acting(request, tmp_path_factory):
    """One runtime for each Python, whose handler does what the payload says."""
    runtime = Runtime(tmp_path_factory.mktemp("act"), "act", python=request.param, WORKERS=2).wait_ready()
    yield runtime
    runtime.stop()


@pytest.fixture(scope="module")
def act(tmp_path_factory):
    """The same, for this Python alone, with one worker."""
    runtime = Runtime(tmp_path_factory.mktemp("act"), "act").wait_ready()
    yield runtime
    runtime.stop()


def do(runtime, what, **more):
    return ask(runtime.path, dict(more, do=what))


def pid_of(runtime):
    return do(runtime, "pid")[0]["pid"]


def roundtrip(runtime, text):
    """What becomes of the JSON text `text` as a payload, in bytes, by protocol 2."""
    body = b'{"id":"1","route":{"actors":["a"],"current":0},"payload":{"do":"echo","value":%s}}' % text.encode()
    with Client(runtime.path) as client:
        return client.request(body)


# ---- Protocol 1, byte by byte --------------------------------------------------------------------

ECHO_REQUEST = b'{"id":"1","route":{"actors":["a","b"],"current":0},"payload":{"x":1}}'
ECHO_REPLY = b'[{"payload":{"x":1},"route":{"actors":["a","b"],"current":1}}]'
RECORDED = {
    "one value": (ECHO_REQUEST, ECHO_REPLY),
    "white space and unknown members": (
        b' {"id": "1",\n\t"route": {"actors": ["a"], "current": 0}, "payload": true, "deadline": "x"} ',
        b'[{"payload":true,"route":{"actors":["a"],"current":1}}]',
    ),
    "headers and metadata stay": (
        b'{"route":{"metadata":{"m":1.50},"actors":["a"],"current":0},"headers":{"t":"\xc3\xbc"},"payload":"hello"}',
        b'[{"payload":"hello","route":{"metadata":{"m":1.50},"actors":["a"],"current":1},"headers":{"t":"\xc3\xbc"}}]',
    ),
    "a list fans out": (
        b'{"id":"1","route":{"actors":["a","b"],"current":1},"payload":[1,[2]]}',
        b'[{"payload":1,"route":{"actors":["a","b"],"current":2}},{"payload":[2],"route":{"actors":["a","b"],"current":2}}]',
    ),
    "null ends": (b'{"id":"1","route":{"actors":["a"],"current":0},"payload":null}', b"[]"),
    "an empty list ends": (b'{"id":"1","route":{"actors":["a"],"current":0},"payload":[]}', b"[]"),
}


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    runtime = Runtime(tmp_path_factory.mktemp("echo"), "echo").wait_ready()
    yield runtime
    runtime.stop()


@pytest.mark.parametrize("case", RECORDED)
def test_v01_request_is_answered_byte_for_byte(echo, case):
    request, reply = RECORDED[case]
    with Client(echo.path) as client:
        client.send(frame(request))
        assert client.read_to_end() == frame(reply)


def test_v01_request_may_come_byte_by_byte(echo):
    with Client(echo.path) as client:
        for byte in b"\0\0\0\x45" + ECHO_REQUEST:
            client.send(bytes([byte]))
        assert client.read_to_end() == b"\0\0\0\x3e" + ECHO_REPLY


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"\xff\xfe{}",
        b"[]",
        b'{"id":"1","payload":1}',
        b'{"id":"1","route":{"actors":["a"],"current":0}}',
    ],
)
def test_v01_request_that_is_no_envelope_is_a_parsing_error(echo, body):
    [error] = ask_v1(echo.path, body)
    assert error["error"] == "msg_parsing_error" and set(error["details"]) == {"message", "type", "traceback"}


def test_v01_handler_error_has_code_message_type_and_traceback(acting):
    [error] = ask_v1(acting.path, envelope({"do": "fail", "kind": "trouble", "text": "so"}))
    assert error["error"] == "processing_error"
    details = error["details"]
    assert list(details) == ["message", "type", "traceback"]
    assert (details["message"], details["type"]) == ("told: so", "Trouble")
    assert "in fail" in details["traceback"] and details["traceback"].endswith("Trouble: told: so\n")


def test_v01_generator_is_collected(acting):
    [error] = ask_v1(acting.path, envelope({"do": "stop_half_way"}))
    assert error["details"]["message"] == "half way"


def test_v01_connection_cut_in_a_frame_is_told_to_who_still_reads(echo):
    with Client(echo.path) as client:
        client.send(b"\0\0\1\0{")
        client.sock.shutdown(socket.SHUT_WR)
        [error] = json.loads(client.read())
    assert error["error"] == "connection_error"
    assert "after 5 bytes" in error["details"]["message"]


def test_v01_half_closed_connection_is_no_cancel(act, tmp_path):
    with Client(act.path) as client:
        client.send(
            frame(dumps(envelope({"do": "hold", "pid_to": str(tmp_path / "pid"), "until": str(tmp_path / "go")})))
        )
        client.sock.shutdown(socket.SHUT_WR)
        wait_until("the handler", lambda: contents(tmp_path / "pid"))
        time.sleep(0.5)  # nothing may happen, and nothing tells so
        (tmp_path / "go").touch()
        assert json.loads(client.read())[0]["payload"]["pid"] == int(contents(tmp_path / "pid"))


# ---- Protocol 2 ----------------------------------------------------------------------------------


def test_v2_answer_is_items_and_end(echo):
    with Client(echo.path) as client:
        client.send(b"\0\0\0\x46R" + ECHO_REQUEST)
        answer = b'\0\0\0\x14I{"payload":{"x":1}}\0\0\0\3E{}'
        assert client.read() + client.read() == answer[4:24] + answer[28:]


def test_v2_connection_carries_many_requests(acting):
    with Client(acting.path) as client:
        pids = {outcome(client.request(envelope({"do": "pid"})))[0]["pid"] for _ in range(50)}
        for i in range(50):
            assert outcome(client.request(envelope({"do": "echo", "value": [i, i]}))) == [i, i]
    assert len(pids) == 1


def framed(**payload):
    return frame(dumps(envelope(payload)), b"R")


def test_v2_requests_sent_ahead_are_answered_in_order_wherever_they_are_split(act):
    whole = b"".join(framed(do="echo", value=[i, "x" * (i * 100)]) for i in range(32))
    with Client(act.path) as client:
        for cut in (0, 1, 3, 5, 100, 30000, len(whole) - 1):
            client.send(whole[:cut])
            client.send(whole[cut:])
            for i in range(32):
                assert outcome(client.answer()) == [i, "x" * (i * 100)]


def test_v2_answer_leaves_before_the_next_handler_begins(act, tmp_path):
    with Client(act.path) as client:
        client.send(framed(do="echo", value=1) + framed(do="hold", pid_to=str(tmp_path / "pid"), until=str(tmp_path / "go")) + framed(do="echo", value=2))
        assert outcome(client.answer()) == [1]
        wait_until("the handler", lambda: contents(tmp_path / "pid"))
        (tmp_path / "go").touch()
        assert outcome(client.answer())[0]["pid"] and outcome(client.answer()) == [2]


def test_v2_death_leaves_the_answers_before_it_and_nothing_of_those_behind(act, tmp_path):
    with Client(act.path) as client:
        behind = framed(do="hold", pid_to=str(tmp_path / "behind"), until=str(tmp_path))
        client.send(framed(do="echo", value=1) + framed(do="echo", value=2) + framed(do="exit", code=3) + behind)
        assert outcome(client.answer()) == [1] and outcome(client.answer()) == [2]
        with pytest.raises(Closed):
            client.answer()
    assert do(act, "echo", value=3) == [3] and not (tmp_path / "behind").exists()


def test_v2_hanging_up_cancels_the_handler_at_work_and_those_behind_it_never_begin(act, tmp_path):
    with Client(act.path) as client:
        behind = framed(do="hold", pid_to=str(tmp_path / "behind"), until=str(tmp_path))
        client.send(framed(do="sleep_in_c", pid_to=str(tmp_path / "hung")) + behind)
        pid = int(wait_until("the handler", lambda: contents(tmp_path / "hung")))
    wait_until("the end of it", lambda: not alive(pid))
    assert do(act, "echo", value=3) == [3] and not (tmp_path / "behind").exists()


def test_v2_what_waits_when_the_sender_has_left_is_not_begun(act, tmp_path):
    """The first handler ends by itself, having no answer to send."""
    with Client(act.path) as client:
        behind = framed(do="hold", pid_to=str(tmp_path / "behind"), until=str(tmp_path))
        client.send(framed(do="hold", pid_to=str(tmp_path / "pid"), until=str(tmp_path / "go")) + behind)
        wait_until("the handler", lambda: contents(tmp_path / "pid"))
    (tmp_path / "go").touch()
    assert do(act, "echo", value=3) == [3] and not (tmp_path / "behind").exists()


def test_v2_connections_with_requests_ahead_take_turns(act):
    done = threading.Event()

    def be_greedy():
        with Client(act.path) as greedy:
            greedy.send(framed(do="none") * 16)
            while not done.is_set():
                greedy.answer()
                greedy.send(framed(do="none"))

    threads = [threading.Thread(target=be_greedy) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        with Client(act.path) as client:
            for i in range(20):
                client.send(framed(do="echo", value=i) + framed(do="echo", value=-i))
                assert outcome(client.answer()) == [i] and outcome(client.answer()) == [-i]
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_v2_connections_run_side_by_side(acting, tmp_path):
    holding = [Client(acting.path) for _ in range(2)]
    for i, client in enumerate(holding):
        work = {"do": "hold", "pid_to": str(tmp_path / ("pid%d" % i)), "until": str(tmp_path / "go")}
        client.send(frame(dumps(envelope(work)), b"R"))
    wait_until("both handlers", lambda: all(contents(tmp_path / ("pid%d" % i)) for i in range(2)))
    (tmp_path / "go").touch()
    pids = [outcome(client.answer())[0]["pid"] for client in holding]
    assert len(set(pids)) == 2


def test_idle_connections_hold_nobody_up(act):
    clients = [Client(act.path) for _ in range(5)]
    for _ in range(3):
        for i, client in enumerate(clients):
            assert outcome(client.request(envelope({"do": "echo", "value": i}))) == [i]
        assert ask_v1(act.path, envelope({"do": "echo", "value": 7}))[0]["payload"] == 7


def test_busy_connections_take_turns(act):
    done = threading.Event()

    def be_greedy():
        with Client(act.path) as greedy:
            while not done.is_set():
                greedy.request(envelope({"do": "none"}))

    threads = [threading.Thread(target=be_greedy) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        with Client(act.path) as client:
            for i in range(20):
                assert outcome(client.request(envelope({"do": "echo", "value": i}))) == [i]
    finally:
        done.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("first", [0, 1])
def test_waiting_connection_gets_whichever_worker_is_done_first(acting, tmp_path, first):
    holding = [Client(acting.path) for _ in range(2)]
    for i, client in enumerate(holding):
        work = {"do": "hold", "pid_to": str(tmp_path / ("pid%d" % i)), "until": str(tmp_path / ("go%d" % i))}
        client.send(frame(dumps(envelope(work)), b"R"))
        wait_until("the handler", lambda: contents(tmp_path / ("pid%d" % i)))
    with Client(acting.path) as third:
        third.send(frame(dumps(envelope({"do": "echo", "value": 1})), b"R"))
        for i in (first, 1 - first):
            (tmp_path / ("go%d" % i)).touch()
            holding[i].answer()
            if i == first:
                assert outcome(third.answer()) == [1]


def test_v2_optional_frames_are_skipped_and_unknown_ones_refused(act):
    with Client(act.path) as client:
        client.request(envelope({"do": "none"}))
        client.send(frame(b"{}", b"p"))
        assert outcome(client.request(envelope({"do": "echo", "value": 1}))) == [1]
        client.send(frame(b"{}", b"Q"))
        [(kind, error)] = client.answer()
        assert kind == "X" and json.loads(error)["error"] == "msg_parsing_error" and b"b'Q'" in error
        assert client.read_to_end() == b""


def test_v2_empty_frame_is_refused(act):
    with Client(act.path) as client:
        client.request(envelope({"do": "none"}))
        client.send(b"\0\0\0\0")
        assert client.answer()[0][0] == "X"
        assert client.read_to_end() == b""


def test_v2_request_that_is_no_json_costs_that_request_only(acting):
    with Client(acting.path) as client:
        for body, message in (
            (b"{", "not JSON"),
            (b"\xff", "not JSON"),
            (b'{"payload":NaN}', "NaN is not JSON"),
            (b"[" * 100000, "nested too deeply"),
            (dumps(envelope(1, actors=[1])), "actors[0] must be a string, but is a number"),
            (dumps(envelope(1, current=3)), "current must be from 0 to 2, but is 3"),
            (dumps(envelope(1, current=True)), "current must be an integer, but is a boolean"),
        ):
            error = outcome(client.request(body))
            assert error["error"] == "msg_parsing_error" and message in error["details"]["message"]
        assert outcome(client.request(envelope({"do": "echo", "value": 1}))) == [1]


def test_v2_fan_out_larger_than_a_buffer_arrives_whole(act):
    assert do(act, "many", n=2000) == ["x" * 1000] * 2000


def test_large_payload_comes_back(act):
    assert do(act, "echo", value="ü" * 5000000) == ["ü" * 5000000]


def test_none_and_empty_list_end_and_tuple_is_one_value(act):
    assert do(act, "none") == [] and do(act, "nothing") == []
    assert do(act, "tuple") == [[1, [2]]]


def test_frame_at_the_limit_passes_and_one_byte_more_is_refused(start):
    runtime = start("act", MAX_MESSAGE_BYTES=2048)
    for length in (2048, 2049):
        request = dumps(envelope({"do": "none", "fill": ""}))
        request = request.replace(b'"fill":""', b'"fill":"%s"' % (b"x" * (length - 1 - len(request))))
        with Client(runtime.path) as client:
            answer = client.request(request)
            assert answer[-1][0] == ("E" if length == 2048 else "X")
        with Client(runtime.path) as client:
            client.send(frame(request + b" "))
            assert client.read()[:10] == (b"[]" if length == 2048 else b'[{"error":')
    error = do(runtime, "big", n=2040)
    assert error["error"] == "processing_error" and "at most 2048 are allowed" in error["details"]["message"]
    assert do(runtime, "big", n=2030) == ["x" * 2030]


def test_oversize_frame_is_refused_before_it_comes(act):
    for first in (b"R", b"{"):
        with Client(act.path) as client:
            client.send(b"\xff\xff\xff\xff" + first)
            reply = client.read()
            assert reply[:1] == (b"X" if first == b"R" else b"[")
            assert b"msg_parsing_error" in reply and b"4294967295" in reply and b"ASYA_MAX_MESSAGE_BYTES" in reply
            assert client.read_to_end() == b""
    assert do(act, "echo", value=1) == [1]


def test_connection_that_ends_while_another_begins_is_not_mistaken_for_it(act):
    def descriptors():
        return len(os.listdir("/proc/%d/fd" % before["pid"]))

    with Client(act.path) as client:
        [before] = outcome(client.request(envelope({"do": "pid"})))
        had = descriptors()
        os.kill(act.process.pid, signal.SIGSTOP)  # so that it sees all that follows at once
    wait_until("the worker to hang up", lambda: descriptors() < had)
    with Client(act.path) as client:
        os.kill(act.process.pid, signal.SIGCONT)
        assert outcome(client.request(envelope({"do": "pid"}))) == [before]


def test_connection_cut_in_a_frame_costs_nothing(act):
    pid = pid_of(act)
    for piece in (b"\0", b"\0\0\0\x50", b"\0\0\0\x50R{"):
        with Client(act.path) as client:
            client.send(piece)
    assert pid_of(act) == pid


def test_connections_beyond_the_limit_wait_their_turn(start):
    runtime = start("act")
    clients = [Client(runtime.path) for _ in range(300)]
    assert outcome(clients[0].request(envelope({"do": "echo", "value": 0}))) == [0]
    assert len(os.listdir("/proc/%d/fd" % runtime.process.pid)) < 280
    clients[-1].send(frame(dumps(envelope({"do": "echo", "value": 1})), b"R"))
    for client in clients[:60]:
        client.close()
    assert outcome(clients[-1].answer()) == [1]
    for client in clients:
        client.close()


def test_default_timeout_of_user_code_does_not_touch_connections(start, tmp_path):
    (tmp_path / "hasty.py").write_text("import socket\nsocket.setdefaulttimeout(0.02)\ndef handle(p): return p\n")
    runtime = start("hasty.handle", path="")  # found in the working directory
    request = frame(dumps(envelope(1)), b"R")
    with Client(runtime.path) as client:
        client.send(request[:10])
        time.sleep(0.2)
        client.send(request[10:])
        assert outcome(client.answer()) == [1]


# ---- JSON ----------------------------------------------------------------------------------------

EXACT = (
    "[9007199254740993,123456789012345678901234,-5,0,-0,0.1,1.50,-0.0,1e5,1E+2,1e-7,1e400,-1e400,"
    "0.1000000000000000055511151231257827,3.141592653589793238462643383279]",
    '{"z":1,"a":{"\u00fc\u4e2d\U0001f600":"\\u0000\\u001f\\"\\\\"},"":null,"b":[true,false,[],{}]}',
    '{"a":1.0,"1":[2.50,{"k":-0}],"s":"-0"}',
    '"\\ud800"',
    '[1.50,"\\udfff x"]',
)


@pytest.mark.parametrize("text", EXACT)
def test_payload_passed_through_keeps_every_digit_and_character(acting, text):
    [(_, item), end] = roundtrip(acting, "[%s]" % text)
    assert item == b'{"payload":' + text.encode() + b"}" and end == ("E", b"{}")


@pytest.mark.parametrize("text", EXACT)
def test_envelope_mode_and_v01_keep_every_digit_and_character(start, tmp_path, text):
    body = '{"id":"1","route":{"actors":["a"],"current":0},"payload":{"code":"","v":%s},"headers":{"v":%s}}' % (
        text,
        text,
    )
    runtime = start("forward", HANDLER_MODE="envelope")
    with Client(runtime.path) as client:
        [(_, item), _] = client.request(body.encode())
    assert item.decode() == '{"payload":{"code":"","v":%s},"route":{"actors":["a"],"current":0},"headers":{"v":%s}}' % (
        text,
        text,
    )
    with Client(runtime.path) as client:
        client.send(frame(body.encode()))
        assert client.read() == b"[" + item + b"]"


@pytest.mark.parametrize(
    "what,value,payloads",
    [
        ("double", "1.50", [b"3.0"]),
        ("double", "-0", [b"0"]),
        ("remake", "[1.50,-0]", [b"[2.5,1]"]),
        ("copies", "[1.50,-0]", [b"[1.50,-0]", b"[1.5,0]"]),
    ],
)
def test_exact_numbers_are_plain_numbers_to_a_handler(acting, what, value, payloads):
    body = '{"route":{"actors":["a"],"current":0},"payload":{"do":"%s","value":%s}}' % (what, value)
    with Client(acting.path) as client:
        assert client.request(body.encode())[:-1] == [("I", b'{"payload":' + p + b"}") for p in payloads]


def test_deep_payload_with_exact_floats_passes(acting):
    text = "[" * 500 + "1.50" + "]" * 500
    assert roundtrip(acting, "[%s]" % text)[0] == ("I", b'{"payload":' + text.encode() + b"}")


def test_integer_beyond_pythons_limit_is_an_error_not_a_crash(act):
    if not hasattr(sys, "get_int_max_str_digits"):
        pytest.skip("this Python has no such limit")
    error = outcome(roundtrip(act, "1" * 5000))
    assert error["error"] == "msg_parsing_error" and "4300" in error["details"]["message"]
    assert "payload.n" in do(act, "big_int")["details"]["message"]


@pytest.mark.parametrize(
    "what,kind,message",
    [
        ("nan", "ValueError", "payload.a[1].b is nan, which JSON has not"),
        ("set", "TypeError", "payload.a[1] is of type set"),
        ("key", "TypeError", "payload.a has a key of type tuple"),
        ("circle", "ValueError", "payload.a[0] contains itself"),
        ("list_with_set", "TypeError", "item 2: the handler's result is not JSON: payload.k is of type set"),
    ],
)
def test_result_that_is_not_json_names_the_type_and_the_place(acting, what, kind, message):
    error = do(acting, what)
    assert error["error"] == "processing_error"
    assert error["details"]["type"] == kind and message in error["details"]["message"]


# ---- Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fail", "fail_async"])
@pytest.mark.parametrize(
    "kind,name,mro",
    [
        ("trouble", "Trouble", ["runtime_handlers.Trouble", "ValueError", "Exception", "BaseException"]),
        ("exit", "SystemExit", ["SystemExit", "BaseException"]),
        ("interrupt", "KeyboardInterrupt", ["KeyboardInterrupt", "BaseException"]),
        ("memory", "MemoryError", ["MemoryError", "Exception", "BaseException"]),
        ("mute", "Mute", ["runtime_handlers.Mute", "Exception", "BaseException"]),
        ("surrogate", "ValueError", ["ValueError", "Exception", "BaseException"]),
    ],
)
def test_whatever_a_handler_raises_costs_that_message_only(acting, how, kind, name, mro):
    with Client(acting.path) as client:
        [before] = outcome(client.request(envelope({"do": "pid"})))
        error = outcome(client.request(envelope({"do": how, "kind": kind})))
        assert error["error"] == "processing_error"
        assert (error["details"]["type"], error["details"]["mro"]) == (name, mro)
        assert list(error["details"]) == ["message", "type", "mro", "traceback"]
        assert "asya_runtime.py" not in error["details"]["traceback"]
        assert "runtime_handlers.py" in error["details"]["traceback"] or kind == "mute"
        assert outcome(client.request(envelope({"do": "pid"}))) == [before]


def test_endless_recursion_is_an_error(acting):
    assert do(acting, "recurse")["details"]["type"] == "RecursionError"


def test_long_error_texts_are_shortened(act):
    error = do(act, "fail", kind="trouble", text="x" * 1000000)
    assert len(dumps(error)) < 65536 and "characters left out" in error["details"]["message"]


def test_error_text_with_a_lone_surrogate_is_spelt_out(act):
    assert do(act, "fail", kind="surrogate")["details"]["message"] == "\\ud800"


# ---- Kinds of handlers ---------------------------------------------------------------------------


@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize(
    "handler,payload,answers",
    [
        ("echo_async", {"x": [1.50]}, [[{"x": [1.5]}]] * 2),
        ("count", {"n": 3}, [[{"i": 0}, {"i": 1}, {"i": 2}]] * 2),
        ("count_async", {"n": 3}, [[{"i": 0}, {"i": 1}, {"i": 2}]] * 2),
        ("Counter.process", 0, [[11], [12]]),
        ("Counter.process_async", 0, [[11], [12]]),
    ],
)
def test_handler_of_every_kind_answers(start, python, handler, payload, answers):
    runtime = start("runtime_handlers." + handler, python=python)
    with Client(runtime.path) as client:
        assert [outcome(client.request(envelope(payload))) for _ in answers] == answers
    last = [element["payload"] for element in ask_v1(runtime.path, envelope(payload))]
    assert last == ([13] if handler.startswith("Counter") else answers[0])


def test_generator_values_are_sent_as_they_are_yielded(start, tmp_path):
    runtime = start("count")
    with Client(runtime.path) as client:
        client.send(frame(dumps(envelope({"n": 1, "then": str(tmp_path / "go"), "last": [7, 8]})), b"R"))
        assert client.read() == b'I{"payload":{"i":0}}'
        (tmp_path / "go").touch()
        assert outcome(client.answer()) == [7, 8]


def test_generator_that_fails_half_way_sends_items_and_then_the_error(acting):
    with Client(acting.path) as client:
        frames = client.request(envelope({"do": "stop_half_way"}))
    assert [kind for kind, _ in frames] == ["I", "I", "X"]
    assert json.loads(frames[2][1])["details"]["message"] == "half way"


def test_generator_is_closed_when_nobody_reads_any_more(acting, tmp_path):
    with Client(acting.path) as client:
        client.send(frame(dumps(envelope({"do": "endless", "pid_to": str(tmp_path / "pid")})), b"R"))
        client.read()
    pid = int(wait_until("the generator's end", lambda: contents(tmp_path / "pid")))
    with Client(acting.path) as one, Client(acting.path) as two:
        work = {"do": "hold", "pid_to": str(tmp_path / "other"), "until": str(tmp_path / "go")}
        one.send(frame(dumps(envelope(work)), b"R"))
        wait_until("the other handler", lambda: contents(tmp_path / "other"))
        pids = {int(contents(tmp_path / "other"))} | {p["pid"] for p in outcome(two.request(envelope({"do": "pid"})))}
        (tmp_path / "go").touch()
        one.answer()
    assert pid in pids


# ---- Envelope mode -------------------------------------------------------------------------------


def forward(runtime, code, **more):
    with Client(runtime.path) as client:
        return client.request(envelope({"code": code}, actors=["a", "b"], current=0, **more))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    runtime = Runtime(tmp_path_factory.mktemp("whole"), "forward", HANDLER_MODE="envelope").wait_ready()
    yield runtime
    runtime.stop()


def test_envelope_mode_returns_payload_route_and_headers(whole):
    code = "e = envelope; e['route'] = {'actors': ['a', 'c'], 'current': 1}; e['headers']['h'] = 2; e['payload'] = 5"
    [(_, item), _] = forward(whole, code, headers={"g": 1})
    assert item == b'{"payload":5,"route":{"actors":["a","c"],"current":1},"headers":{"g":1,"h":2}}'
    [(_, item), _] = forward(whole, "envelope['route']['current'] = 2; envelope['payload'] = 5")
    assert json.loads(item) == {"payload": 5, "route": {"actors": ["a", "b"], "current": 2}}


def test_envelope_mode_fans_out_and_ends(whole):
    assert [k for k, _ in forward(whole, "envelope['result'] = [dict(envelope), dict(envelope)]")] == ["I", "I", "E"]
    assert [k for k, _ in forward(whole, "envelope['result'] = None")] == ["E"]


@pytest.mark.parametrize(
    "code,message",
    [
        ("envelope['result'] = 'text'", "an envelope (dict) must be returned in envelope mode, but it is a string"),
        ("del envelope['payload']", "the returned envelope has no 'payload'"),
        ("del envelope['route']", "the returned envelope has no 'route'"),
        ("envelope['route'] = 'b'", "the returned route must be an object, but is a string"),
        ("envelope['route']['actors'] = 'b'", "the returned route.actors must be a list of names, but is a string"),
        ("envelope['route']['actors'][1] = 3", "the returned route.actors[1] must be a string, but is a number"),
        ("envelope['route']['current'] = 1.5", "the returned route.current must be an integer, but is a number"),
        ("envelope['route']['current'] = 3", "the returned route.current must be from 0 to 2, but is 3"),
        ("envelope['route']['current'] = -1", "the returned route.current must be from 0 to 2, but is -1"),
        ("envelope['route']['actors'][0] = 'z'", "changes its past: actors[0] must stay 'a', but is 'z'"),
        ("envelope['route'] = {'actors': [], 'current': 0}", "changes its past: actors[0] must stay 'a', but is gone"),
        ("envelope['headers'] = 'h'", "the returned headers must be an object, but are a string"),
        ("envelope['result'] = [dict(envelope), {}]", "item 1: the returned envelope has no 'payload'"),
    ],
)
def test_envelope_mode_checks_what_comes_back(whole, code, message):
    error = outcome(forward(whole, code))
    assert error["error"] == "processing_error" and message in error["details"]["message"]


def test_envelope_mode_without_validation_passes_what_comes_back(start):
    runtime = start("forward", HANDLER_MODE="envelope", ENABLE_VALIDATION="off")
    [(_, item), _] = forward(runtime, "envelope['route']['actors'][0] = 'z'; envelope['payload'] = 1")
    assert json.loads(item) == {"payload": 1, "route": {"actors": ["z", "b"], "current": 0}}
    assert forward(runtime, "envelope['result'] = {}")[0] == ("I", b"{}")
    assert ask_v1(runtime.path, {"payload": {"code": ""}}) == [{"payload": {"code": ""}}]


# ---- Workers that die or hang --------------------------------------------------------------------


@pytest.mark.parametrize("death", [{"do": "exit", "code": 0}, {"do": "exit", "code": 9}, {"do": "segv"}])
def test_dead_worker_ends_its_connection_and_is_replaced(acting, death):
    with Client(acting.path) as client:
        [before] = outcome(client.request(envelope({"do": "pid"})))
        client.send(frame(dumps(envelope(death)), b"R"))
        with pytest.raises(Closed):
            client.answer()
    assert pid_of(acting) != before["pid"]
    how = {"exit": "exit status %s" % death.get("code"), "segv": "SIGSEGV"}[death["do"]]
    wait_until(
        "the log", lambda: any(e["how"] == how and e["pid"] == before["pid"] for e in acting.events("worker_died"))
    )


def test_dead_worker_ends_a_v01_connection(act):
    with Client(act.path) as client:
        client.send(frame(dumps(envelope({"do": "exit", "code": 1}))))
        assert client.read_to_end() == b""
    assert do(act, "echo", value=1) == [1]


def test_worker_that_dies_idle_is_replaced(act):
    with Client(act.path) as client:
        [before] = outcome(client.request(envelope({"do": "pid"})))
        os.kill(before["pid"], signal.SIGKILL)
        assert client.read_to_end() == b""
    assert pid_of(act) != before["pid"]


def test_idle_worker_that_is_slow_to_see_a_hang_up_lives(act):
    with Client(act.path) as client:
        [before] = outcome(client.request(envelope({"do": "pid"})))
        os.kill(before["pid"], signal.SIGSTOP)
    time.sleep(0.6)  # three times what a busy one would have
    os.kill(before["pid"], signal.SIGCONT)
    assert pid_of(act) == before["pid"]


@pytest.mark.parametrize("how", ["sleep_in_c", "start_and_sleep"])
def test_hanging_up_cancels_the_handler_while_others_go_on(acting, tmp_path, how):
    with Client(acting.path) as other:
        with Client(acting.path) as client:
            client.send(frame(dumps(envelope({"do": how, "pid_to": str(tmp_path / "hung")})), b"R"))
            hung = [int(pid) for pid in wait_until("the handler", lambda: contents(tmp_path / "hung")).split()]
            [busy] = outcome(other.request(envelope({"do": "pid"})))
            work = {"do": "hold", "pid_to": str(tmp_path / "pid"), "until": str(tmp_path / "go")}
            other.send(frame(dumps(envelope(work)), b"R"))
            wait_until("the other handler", lambda: contents(tmp_path / "pid"))
        wait_until("the end of %s" % hung, lambda: not any(alive(pid) for pid in hung))
        new = pid_of(acting)  # the other worker is busy: this one is new
        (tmp_path / "go").touch()
        assert outcome(other.answer()) == [busy]
    assert new not in hung and new != busy["pid"]
    wait_until("the log", lambda: any(e["pid"] == hung[0] for e in acting.events("worker_cancelled")))


def test_request_whose_sender_left_before_it_began_is_dropped(act, tmp_path):
    with Client(act.path) as client:
        work = {"do": "hold", "pid_to": str(tmp_path / "pid"), "until": str(tmp_path / "go")}
        client.send(frame(dumps(envelope(work)), b"R"))
        wait_until("the handler", lambda: contents(tmp_path / "pid"))
        with Client(act.path) as left:
            left.send(frame(dumps(envelope({"do": "hold", "pid_to": str(tmp_path / "left"), "until": "/"})), b"R"))
        (tmp_path / "go").touch()
        client.answer()
        client.request(envelope({"do": "none"}))
    assert do(act, "echo", value=1) == [1]
    assert not contents(tmp_path / "left")


def test_module_that_fails_to_import_later_is_tried_again_ever_more_slowly(start, tmp_path):
    module = tmp_path / "changing.py"
    module.write_text("import os\ndef handle(payload):\n    return os.getpid()\n")
    runtime = start("changing.handle", path=tmp_path)
    [pid] = ask(runtime.path, 0)
    module.write_text("raise RuntimeError('broken now')\n")
    os.kill(pid, signal.SIGKILL)
    wait_until("four tries", lambda: len(runtime.events("worker_died")) >= 5)
    assert [e["restart_in_ms"] for e in runtime.events("worker_died")][:5] == [0, 0, 100, 200, 400]
    assert "broken now" in runtime.events("handler_import_failed")[0]["message"]
    module.write_text("def handle(payload):\n    return 'mended'\n")
    assert ask(runtime.path, 0) == ["mended"]


def test_killed_parent_leaves_no_workers(start, tmp_path):
    runtime = start("act", WORKERS=3)
    with Client(runtime.path) as client:
        client.send(frame(dumps(envelope({"do": "sleep_in_c", "pid_to": str(tmp_path / "pid")})), b"R"))
        wait_until("the handler", lambda: contents(tmp_path / "pid"))
        workers = children_of(runtime.process.pid)
        assert len(workers) == 3
        runtime.process.kill()
        assert client.read_to_end() == b""
    wait_until("the workers' end", lambda: not any(alive(pid) for pid in workers))
    assert os.path.exists(runtime.path) and os.path.exists(runtime.ready_path)
    runtime = start("echo")
    wait_until("the next one", lambda: runtime.events("ready"))
    assert ask(runtime.path, 1) == [1]


# ---- Output --------------------------------------------------------------------------------------


def test_what_a_handler_prints_goes_nowhere_near_the_answers(act):
    assert do(act, "noise") == [""]
    assert "E{}" * 3 in contents(act.out_path).replace("\0\0\0\3", "")


def test_what_a_handler_prints_is_out_when_its_answer_is(act):
    do(act, "say", text="hello there")
    assert "hello there" in contents(act.out_path)


def test_closed_standard_descriptors_do_not_become_sockets(start):
    runtime = start("act", redirect="<&- >&-", LOG_LEVEL="ERROR")
    with Client(runtime.path) as client:
        assert outcome(client.request(envelope({"do": "raw"}))) == [["/dev/null"] * 2]
        assert outcome(client.request(envelope({"do": "echo", "value": 1}))) == [1]


def test_forks_of_a_handler_can_be_stopped(act):
    assert do(act, "stop_a_fork") == [{"status": signal.SIGTERM}]


def test_python_logging_becomes_json_lines(act):
    do(act, "log")
    [line] = wait_until("the line", lambda: act.events("handler_log"))
    assert (line["level"], line["logger"], line["message"]) == ("WARNING", "mine", "something happened")


def test_logs_never_have_a_payload(start):
    runtime = start("act", LOG_LEVEL="debug")
    do(runtime, "fail", kind="trouble", text="s3cret")
    [line] = wait_until("the line", lambda: runtime.events("handler_failed"))
    assert (line["id"], line["type"]) == ("e-1", "runtime_handlers.Trouble")
    assert re.search(r"runtime_handlers\.py:\d+$", line["at"])
    assert "s3cret" not in runtime.log()


# ---- Stopping ------------------------------------------------------------------------------------


def test_sigterm_lets_the_sidecar_finish(start, tmp_path):
    runtime = start("act", WORKERS=2)
    with Client(runtime.path) as client:
        work = {"do": "hold", "pid_to": str(tmp_path / "pid"), "until": str(tmp_path / "go")}
        client.send(frame(dumps(envelope(work)), b"R"))
        wait_until("the handler", lambda: contents(tmp_path / "pid"))
        runtime.process.send_signal(signal.SIGTERM)
        wait_until("the log", lambda: runtime.events("stopping"))
        assert do(runtime, "echo", value=1) == [1]
        time.sleep(1.3)  # longer than it waits without a connection
        (tmp_path / "go").touch()
        assert outcome(client.answer())[0]["pid"] == int(contents(tmp_path / "pid"))
        assert outcome(client.request(envelope({"do": "echo", "value": 2}))) == [2]
        assert os.path.exists(runtime.ready_path)
    assert runtime.exit_code() == 0
    assert not os.path.exists(runtime.path) and not os.path.exists(runtime.ready_path)


def test_ctrl_c_reaches_the_parent_alone(start, tmp_path):
    runtime = start("act")
    with Client(runtime.path) as client:
        work = {"do": "hold", "pid_to": str(tmp_path / "pid"), "until": str(tmp_path / "go")}
        client.send(frame(dumps(envelope(work)), b"R"))
        wait_until("the handler", lambda: contents(tmp_path / "pid"))
        os.killpg(runtime.process.pid, signal.SIGINT)  # as a terminal does
        wait_until("the log", lambda: runtime.events("stopping"))
        (tmp_path / "go").touch()
        assert outcome(client.answer())[0]["pid"] == int(contents(tmp_path / "pid"))
    assert runtime.exit_code() == 0


def test_signals_to_a_worker_do_not_touch_its_request(act, tmp_path):
    with Client(act.path) as client:
        work = {"do": "hold", "pid_to": str(tmp_path / "pid"), "until": str(tmp_path / "go")}
        client.send(frame(dumps(envelope(work)), b"R"))
        pid = int(wait_until("the handler", lambda: contents(tmp_path / "pid")))
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        (tmp_path / "go").touch()
        assert outcome(client.answer()) == [{"pid": pid}]


def test_second_signal_stops_at_once(start, tmp_path):
    runtime = start("act")
    with Client(runtime.path) as client:
        client.send(frame(dumps(envelope({"do": "sleep_in_c", "pid_to": str(tmp_path / "pid")})), b"R"))
        pid = int(wait_until("the handler", lambda: contents(tmp_path / "pid")))
        runtime.process.send_signal(signal.SIGTERM)
        wait_until("the log", lambda: runtime.events("stopping"))
        runtime.process.send_signal(signal.SIGTERM)
        assert client.read_to_end() == b""
        assert runtime.exit_code() == 0
    assert not alive(pid) and not os.path.exists(runtime.path)


def test_grace_period_is_the_bound(start):
    runtime = start("act", GRACE_PERIOD="100ms")
    with Client(runtime.path) as client:
        client.request(envelope({"do": "none"}))
        runtime.process.send_signal(signal.SIGTERM)
        assert client.read_to_end() == b""
        assert runtime.exit_code() == 0
    assert runtime.events("stopped_with_open_connections")[0]["connections"] == 1


# ---- Starting ------------------------------------------------------------------------------------


def test_ready_file_tells_protocol_and_workers(start):
    runtime = start("echo", WORKERS=3, SOCKET_CHMOD="0o640")
    assert contents(runtime.ready_path) == "protocol 2\nworkers 3\nahead 32\n"
    assert stat.S_IMODE(os.stat(runtime.path).st_mode) == 0o640
    assert not [name for name in os.listdir(runtime.dir) if name.startswith("runtime-ready.")]


def test_ready_file_comes_when_every_worker_has_the_handler(start, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import os, runtime_handlers\n"
        "try:\n    os.mkdir('first')\n"
        "except FileExistsError:\n    runtime_handlers.wait_for('go')\n"
        "handle = runtime_handlers.echo\n"
    )
    runtime = start("slow.handle", wait=False, WORKERS=2, LOG_LEVEL="DEBUG")
    wait_until("one worker", lambda: runtime.events("worker_ready"))
    assert not os.path.exists(runtime.ready_path)
    (tmp_path / "go").touch()
    assert ask(runtime.wait_ready().path, 1) == [1]


def test_live_socket_is_refused_and_stays(start):
    first = start("echo")
    second = start("echo", wait=False)
    assert second.exit_code() == 1
    assert "is in use by a runtime that lives" in second.events("start_failed")[0]["message"]
    assert ask(first.path, 1) == [1] and os.path.exists(first.ready_path)


def test_file_that_is_no_socket_is_left_alone(start, tmp_path):
    (tmp_path / "asya-runtime.sock").write_text("mine")
    runtime = start("echo", wait=False)
    assert runtime.exit_code() == 1
    assert "is no socket" in runtime.events("start_failed")[0]["message"]
    assert contents(runtime.path) == "mine"


@pytest.mark.parametrize(
    "handler,message",
    [
        ("nowhere.handle", "there is no module 'nowhere'"),
        ("runtime_handlers.missing", "runtime_handlers has no 'missing'"),
        ("runtime_handlers.Counter.missing", "runtime_handlers.Counter has no 'missing'"),
        ("runtime_handlers.Counter", "name its method, as runtime_handlers.Counter.process"),
        ("runtime_handlers.Needy.process", "Needy.__init__ needs model: every argument must have a default"),
        ("runtime_handlers.echo.method", "runtime_handlers.echo is no class"),
        ("runtime_handlers.not_callable", "cannot be called: it is of type int"),
        ("broken.handle", "No module named 'missing_library'"),
        ("leaving.handle", "leaving early"),
    ],
)
def test_handler_that_cannot_be_had_ends_the_start_with_the_reason(start, tmp_path, handler, message):
    (tmp_path / "broken.py").write_text("import missing_library\n")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit('leaving early')\n")
    runtime = start(handler, wait=False, path="%s:%s" % (HERE, tmp_path), WORKERS=2)
    assert runtime.exit_code() == 1
    assert message in runtime.events("handler_import_failed")[0]["message"]
    assert runtime.events("start_failed")
    assert not os.path.exists(runtime.path) and not os.path.exists(runtime.ready_path)


@pytest.mark.parametrize(
    "name,value,right",
    [
        ("HANDLER", None, "must be set: module.func or module.Class.method"),
        ("HANDLER", "handler", "must be module.func or module.Class.method"),
        ("HANDLER", "a.b; import os", "must be module.func or module.Class.method"),
        ("HANDLER", "a.b\n", "must be module.func or module.Class.method"),
        ("HANDLER_MODE", "payloads", "must be payload or envelope"),
        ("WORKERS", "0", "must be a whole number from 1 to 256"),
        ("WORKERS", "two", "must be a whole number from 1 to 256"),
        ("WORKERS", "", "must be a whole number from 1 to 256"),
        ("ENABLE_VALIDATION", "maybe", "must be true, 1, yes, on, or false, 0, no, off"),
        ("SOCKET_DIR", "relative", "must be an absolute path"),
        ("SOCKET_DIR", "/" + "x" * 100, "must be at most 89 bytes"),
        ("SOCKET_CHMOD", "0o888", "must be an octal mode such as 0o666"),
        ("MAX_MESSAGE_BYTES", "64MiB", "must be a whole number from 1024 to"),
        ("GRACE_PERIOD", "5 minutes", "must be seconds or a duration such as 30s or 1m30s"),
        ("LOG_LEVEL", "loud", "must be one of DEBUG, INFO, WARNING, ERROR"),
    ],
)
def test_bad_variable_names_itself_its_value_and_what_would_be_right(tmp_path, name, value, right):
    env = {k: v for k, v in os.environ.items() if not k.startswith("ASYA_")}
    env.update(ASYA_HANDLER="runtime_handlers.echo", ASYA_SOCKET_DIR=str(tmp_path))
    env.pop("ASYA_" + name, None)
    if value is not None:
        env["ASYA_" + name] = value
    run = subprocess.run([sys.executable, RUNTIME], env=env, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert run.returncode == 2
    [line] = map(json.loads, run.stderr.splitlines())
    assert (line["event"], line["variable"], line["value"]) == ("bad_setting", "ASYA_" + name, value)
    assert right in line["message"] and "ASYA_" + name in line["message"]


def test_all_bad_variables_are_told_at_once(tmp_path):
    env = {"ASYA_HANDLER": "x", "ASYA_WORKERS": "x", "ASYA_LOG_LEVEL": "x", "ASYA_SOCKET_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, RUNTIME], env=env, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert [json.loads(line)["variable"] for line in run.stderr.splitlines()] == [
        "ASYA_HANDLER",
        "ASYA_WORKERS",
        "ASYA_LOG_LEVEL",
    ]


def test_help_names_every_variable_that_the_program_reads():
    run = subprocess.run([sys.executable, RUNTIME, "--help"], stdout=subprocess.PIPE, env={}, timeout=PATIENCE)
    with open(RUNTIME) as source:
        read = set(re.findall(r'^    \("(ASYA_\w+)"', source.read(), re.M))
    assert run.returncode == 0 and "ASYA_HANDLER" in read
    assert set(re.findall(r"^  (ASYA_\w+) ", run.stdout.decode(), re.M)) == read


def test_unknown_argument_is_refused():
    run = subprocess.run([sys.executable, RUNTIME, "--halp"], stderr=subprocess.PIPE, timeout=PATIENCE)
    assert run.returncode == 2 and b"unknown argument '--halp'" in run.stderr
