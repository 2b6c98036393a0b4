# SPDX-License-Identifier: Apache-2.0
"""Handlers that the tests of the Python runtime load into it. As old as Python 3.7 in what they use."""

import asyncio
import copy
import ctypes
import logging
import os
import pickle
import signal
import subprocess
import sys
import time


class Trouble(ValueError):
    pass


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.005)


def write(path, text):
    with open(path + ".part", "w") as out:
        out.write(text)
    os.rename(path + ".part", path)


def circle(_):
    value = {"a": []}
    value["a"].append(value)
    return value


def sleep_in_c(payload):
    write(payload["pid_to"], str(os.getpid()))
    ctypes.PyDLL(None).sleep(1000)  # keeps the interpreter's lock


def start_and_sleep(payload):
    child = subprocess.Popen(["sleep", "1000"])
    write(payload["pid_to"], "%d %d" % (os.getpid(), child.pid))
    child.wait()


def hold(payload):
    write(payload["pid_to"], str(os.getpid()))
    wait_for(payload["until"])
    return {"pid": os.getpid()}


def noise(_):
    print("\0\0\0\3E{}" * 20000)
    sys.stderr.write("\0\0\0\3E{}\n")
    os.write(1, b"\0\0\0\1R")
    return sys.stdin.read()


def say(payload):
    print(payload["text"])


def raw(_):
    os.write(1, b"\0\0\0\3E{}")
    return [[os.readlink("/proc/self/fd/%d" % fd) for fd in (0, 1)]]


def stop_a_fork(_):
    there, here = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(here, b"!")
        time.sleep(1000)
    os.read(there, 1)
    os.kill(pid, signal.SIGTERM)
    return {"status": os.waitpid(pid, 0)[1]}


def endless(payload):
    try:
        while True:
            yield "x" * 1000
    finally:
        write(payload["pid_to"], str(os.getpid()))


def log(_):
    logging.getLogger("mine").warning("something %s", "happened")
    logging.debug("too little")


def fail(payload):
    raise {
        "trouble": Trouble("told: " + payload.get("text", "")),
        "exit": SystemExit(3),
        "interrupt": KeyboardInterrupt(),
        "memory": MemoryError(),
        "mute": Mute(),
        "surrogate": ValueError("\ud800"),
    }[payload["kind"]]


async def fail_async(payload):
    await asyncio.sleep(0)
    fail(payload)


def recurse(payload):
    return recurse(payload)


def stop_half_way(_):
    yield 1
    yield 2
    raise Trouble("half way")


ACTIONS = {
    "echo": lambda p: p["value"],
    "pid": lambda _: {"pid": os.getpid()},
    "tuple": lambda _: (1, [2]),
    "none": lambda _: None,
    "nothing": lambda _: [],
    "nan": lambda _: {"a": [1.5, {"b": float("nan")}]},
    "set": lambda _: {"a": [0, {1}]},
    "list_with_set": lambda _: [1, 2, {"k": {1}}],
    "key": lambda _: {"a": {(1, 2): 3}},
    "big_int": lambda _: {"n": 10**5000},
    "big": lambda p: "x" * p["n"],
    "many": lambda p: ["x" * 1000] * p["n"],
    "double": lambda p: p["value"] * 2,
    "remake": lambda p: [[type(v)(v + 1) for v in p["value"]]],
    "copies": lambda p: [copy.deepcopy(p["value"]), pickle.loads(pickle.dumps(p["value"]))],
    "exit": lambda p: os._exit(p["code"]),
    "segv": lambda _: ctypes.string_at(0),
    "circle": circle,
    "sleep_in_c": sleep_in_c,
    "start_and_sleep": start_and_sleep,
    "hold": hold,
    "noise": noise,
    "say": say,
    "raw": raw,
    "stop_a_fork": stop_a_fork,
    "endless": endless,
    "log": log,
    "fail": fail,
    "fail_async": fail_async,
    "recurse": recurse,
    "stop_half_way": stop_half_way,
}


def act(payload):
    return ACTIONS[payload["do"]](payload)


def echo(payload):
    return payload


async def echo_async(payload):
    await asyncio.sleep(0)
    return payload


def count(payload):
    for i in range(payload["n"]):
        yield {"i": i}
        if "then" in payload:
            wait_for(payload["then"])
    return payload.get("last")


async def count_async(payload):
    async with asyncio.Lock():
        for i in range(payload["n"]):
            await asyncio.sleep(0)
            yield {"i": i}


class Counter:
    def __init__(self, start=10):
        self.calls = start

    def process(self, _):
        self.calls += 1
        return self.calls

    async def process_async(self, _):
        self.calls += 1
        return self.calls


class Needy:
    def __init__(self, model, size=1):
        pass

    def process(self, payload):
        return payload


not_callable = 7


def forward(envelope):
    """Envelope mode: does what the payload says to its envelope."""
    exec(envelope["payload"]["code"])
    return envelope.get("result", envelope)
