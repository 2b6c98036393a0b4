# SPDX-License-Identifier: Apache-2.0
"""Where the built programs are, and helpers to drive them."""
import json
import os
import signal
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("ASYA_BUILD", os.path.join(ROOT, "build-test"))
ASYA = os.path.join(BUILD, "src", "asya")
SIDECAR = os.path.join(BUILD, "src", "asya-sidecar")


def manifest(name, handler, replicas=1, env=(), sidecar_env=(), extra=""):
    """An AsyncActor of a Python handler."""
    def listed(pairs, indent):
        return "".join(f"\n{indent}- {{name: {k}, value: {json.dumps(str(v))}}}" for k, v in pairs)
    sidecar = f"\n  sidecar:\n    env:{listed(sidecar_env, '    ')}" if sidecar_env else ""
    return f"""---
apiVersion: asya.sh/v1alpha1
kind: AsyncActor
metadata: {{name: {name}}}
spec:
  transport: rabbitmq{sidecar}{extra}
  workload:
    replicas: {replicas}
    template:
      spec:
        containers:
        - name: asya-runtime
          image: none
          env:{listed([("ASYA_HANDLER", handler), *env], '          ')}
"""


def asya(*words, check=None, stdin=None, timeout=120, env=None):
    done = subprocess.run([ASYA, *map(str, words)], capture_output=True, text=True, input=stdin, timeout=timeout,
                          env=dict(os.environ, **(env or {})))
    if check is not None:
        assert done.returncode == check, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


class Runner:
    """`asya run` in a directory of the test's; ended, with all it started, at the end."""

    def __init__(self, folder, *words, env=None):
        self.folder = str(folder)
        self.dir = os.path.join(self.folder, "state")
        self.words = words
        self.env = env or {}
        self.process = None
        self.log = os.path.join(self.folder, "run.log")

    def start(self):
        self.process = subprocess.Popen([ASYA, "run", "--dir", self.dir, *self.words], stderr=open(self.log, "a"),
                                        stdin=subprocess.DEVNULL, env=dict(os.environ, **self.env), start_new_session=True)
        return self

    def __enter__(self):
        return self.start()

    def stop(self, how=signal.SIGINT, timeout=60):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout)

    def __exit__(self, *exc):
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def said(self):
        with open(self.log) as f:
            return f.read()


def wait_until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


def children(pid):
    """Pids of all descendants, with their command lines."""
    table, found = {}, []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as f:
                    table.setdefault(int(f.read().rsplit(")", 1)[1].split()[1]), []).append(int(entry))
            except (OSError, IndexError):
                pass
    todo = [pid]
    while todo:
        for child in table.get(todo.pop(), []):
            try:
                with open(f"/proc/{child}/cmdline") as f:
                    found.append((child, f.read().replace("\0", " ")))
            except OSError:
                pass
            todo.append(child)
    return found
