# SPDX-License-Identifier: Apache-2.0
"""Sidecars, runtimes and queues of one test on a RabbitMQ broker; a namespace of its own keeps tests apart."""
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid

from programs import BUILD, ROOT, SIDECAR, wait_until

BROKER = os.path.join(ROOT, "tests", "brokers", "rabbitmq")
TOOL = os.path.join(BUILD, "tests", "integration", "queue-tool")
ECHO = os.path.join(BUILD, "runtimes", "c", "c-echo")
SHIM = os.path.join(ROOT, "runtimes", "python", "asya_runtime.py")


class Broker:
    """The one that tools/test has started, or, with a folder, one of the test's own."""

    def __init__(self, folder=None):
        self.own = folder is not None
        self.folder = str(folder) if folder else os.environ["ASYA_TEST_RABBITMQ_FOLDER"]
        self.variables = dict(os.environ)

    def __enter__(self):
        if self.own:
            self.start()
        self.url = self.variables["ASYA_TEST_RABBITMQ_URL"]
        self.tls_url = self.variables["ASYA_TEST_RABBITMQ_TLS_URL"]
        return self

    def __exit__(self, *exc):
        if self.own:
            subprocess.run([BROKER, "stop", self.folder])

    def start(self):
        started = subprocess.run([BROKER, "start", self.folder], stdout=subprocess.PIPE, text=True, check=True)
        self.variables = dict(line.split("=", 1) for line in started.stdout.splitlines())

    def kill(self):
        subprocess.run([BROKER, "kill", self.folder], check=True)

    def ctl(self, *words):
        done = subprocess.run([BROKER, "ctl", self.folder, *words], capture_output=True, text=True)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout


class Process:
    def __init__(self, command, env, log):
        self.command, self.env, self.log = command, env, log
        self.process = None
        self.start()

    def start(self):
        self.begin = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        self.process = subprocess.Popen(self.command, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.log, "ab"))

    def end(self, how=signal.SIGTERM, timeout=60):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout)

    def said(self):
        """Since it was last started."""
        with open(self.log) as f:
            f.seek(self.begin)
            return f.read()

    def events(self, name):
        return [e for e in map(json.loads, self.said().splitlines()) if e.get("event") == name]


class World:
    def __init__(self, broker, folder, **env):
        self.broker, self.folder = broker, folder
        self.space = "t" + uuid.uuid4().hex[:12]
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("ASYA_")}
        self.env.update(ASYA_TRANSPORT="rabbitmq", ASYA_RABBITMQ_URL=broker.url, ASYA_NAMESPACE=self.space, ASYA_METRICS_ADDR="127.0.0.1:0",
                        PYTHONPATH=str(folder), **{k: str(v) for k, v in env.items()})
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for p in reversed(self.processes):
            try:
                p.end(signal.SIGKILL)
            except subprocess.TimeoutExpired:
                pass
        if exc[0]:
            for p in self.processes:
                print(f"---- {p.log}\n{p.said()[-3000:]}", file=sys.stderr)

    def queue(self, actor):
        return f"asya-{self.space}_{actor}"

    def started(self, command, env, name):
        p = Process(command, env, str(self.folder / f"{name}-{len(self.processes)}.log"))
        self.processes.append(p)
        return p

    def runtime(self, name, handler=None, **env):
        """A C echo, or a Python handler."""
        directory = self.folder / f"socket-{name}"
        directory.mkdir(exist_ok=True)
        env = dict(self.env, ASYA_SOCKET_DIR=str(directory), **{k: str(v) for k, v in env.items()})
        if handler:
            env["ASYA_HANDLER"] = handler
        return self.started([sys.executable, SHIM] if handler else [ECHO], env, f"runtime-{name}")

    def sidecar(self, name, **env):
        env = dict(self.env, ASYA_ACTOR_NAME=name, ASYA_SOCKET_DIR=str(self.folder / f"socket-{name}"), **{k: str(v) for k, v in env.items()})
        return self.started([SIDECAR], env, f"sidecar-{name}")

    def actor(self, name, handler=None, **env):
        self.runtime(name, handler)
        return self.sidecar(name, **env)

    def end_actor(self, name):
        return self.sidecar(name, ASYA_IS_END_ACTOR="true", ASYA_RESULTS_DIR=self.folder / "results")

    def tool(self, *words, stdin=None, check=0, **env):
        done = subprocess.run([TOOL, *map(str, words)], input=stdin, capture_output=True, text=True, timeout=90,
                              env=dict(self.env, **{k: str(v) for k, v in env.items()}))
        assert check is None or done.returncode == check, f"{words}: exit {done.returncode}: {done.stderr}"
        return done

    def make(self, *actors, **env):
        self.tool("make", *actors, **env)

    def send(self, actors, payloads, first="m"):
        lines = "".join(json.dumps({"id": f"{first}{i}", "route": {"actors": actors, "current": 0}, "payload": p}) + "\n" for i, p in enumerate(payloads))
        self.tool("post", actors[0], stdin=lines)

    def depth(self, actor):
        ready, leased, delayed, dead = map(int, self.tool("depth", actor).stdout.split())
        return {"ready": ready, "dead": dead}

    def await_ready(self, actor, n, seconds=60):
        wait_until(lambda: self.depth(actor)["ready"] >= n, f"{n} messages for {actor}; there are {self.depth(actor)}", seconds)

    def take(self, actor, n, dead=False):
        return [json.loads(line) if line.startswith("{") else line for line in self.tool("take-dead" if dead else "take", actor, n).stdout.splitlines()]

    def take_all(self, actor, seconds=60):
        """Everything, once there is no more to come."""
        self.await_ready(actor, 1, seconds)
        return self.take(actor, self.depth(actor)["ready"])

    def results(self, prefix="happy-asya"):
        found = []
        for root, _, names in os.walk(self.folder / "results" / prefix):
            found += [json.load(open(os.path.join(root, n))) for n in names if n.endswith(".json")]
        return found


def ready(sidecar):
    """Waits until /readyz says so."""
    wait_until(lambda: sidecar.events("started"), "the sidecar to start")
    port = sidecar.events("started")[-1]["metrics_port"]

    def says():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as r:
                return r.status == 200
        except OSError:
            return False
    wait_until(says, f"the sidecar to be ready; it says {sidecar.said()[-1500:]}")
    return port


def metric(port, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as r:
        text = r.read().decode()
    return sum(float(v) for v in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))


def seconds_between(times):
    return [b - a for a, b in zip(times, times[1:])]


__all__ = ["Broker", "World", "metric", "ready", "seconds_between", "time", "wait_until"]
