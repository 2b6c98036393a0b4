# SPDX-License-Identifier: Apache-2.0
"""Real queues in a temporary directory, with real sidecars and runtimes, for tests of the command line."""
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.environ.get("ASYA_BUILD", os.path.join(ROOT, "build-test")))
ASYA = os.path.join(BUILD, "src", "asya")
SIDECAR = os.path.join(BUILD, "src", "asya-sidecar")
PATIENCE = 30  # only ever waited out when something is broken

HANDLERS = '''
def split(payload):
    if "fail" in payload:
        raise ValueError(payload["fail"])
    for n in payload["numbers"]:
        yield {"n": n}
'''


def until(condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("waited too long for " + condition.__name__)


class World:
    def __init__(self):
        # sockets have short paths
        self.root = tempfile.mkdtemp(prefix="asya-cli-")
        self.dir = os.path.join(self.root, "state")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("ASYA_") and k != "NO_COLOR"}
        self.env["ASYA_LOCAL_DIR"] = self.dir
        self.running = []

    # ---- the command line ----

    def popen(self, *words, **more):
        return subprocess.Popen([ASYA, *words], env=dict(self.env, **more.pop("env", {})), stdout=more.pop("stdout", subprocess.PIPE),
                                stderr=subprocess.PIPE, cwd=self.root, **more)

    def call(self, *words, code=0, stdin=b"", env=None):
        run = subprocess.run([ASYA, *words], env=dict(self.env, **(env or {})), input=stdin, capture_output=True, cwd=self.root, timeout=PATIENCE)
        assert run.returncode == code, (words, run.returncode, run.stdout, run.stderr)
        return run

    def out(self, *words, **more):
        return self.call(*words, **more).stdout.decode()

    def err(self, *words, **more):
        return self.call(*words, **more).stderr.decode()

    def json(self, *words, **more):
        return [json.loads(line) for line in self.call(*words, "--json", **more).stdout.splitlines()]

    # ---- actors ----

    def start(self, words, **env):
        with open(os.path.join(self.root, "log"), "ab") as log:
            self.running.append(subprocess.Popen(words, env=dict(self.env, **env), stdout=log, stderr=log, cwd=self.root))
        return self.running[-1]

    def sidecar(self, actor, **env):
        return self.start([SIDECAR], ASYA_ACTOR_NAME=actor, ASYA_METRICS_ENABLED="false", **env)

    def end_actor(self, name):
        return self.sidecar(name, ASYA_IS_END_ACTOR="true", ASYA_RESULTS_DIR=os.path.join(self.dir, "results"))

    def actor(self, name, words, **env):
        sockets = os.path.join(self.root, name)
        os.mkdir(sockets)
        self.start(words, ASYA_SOCKET_DIR=sockets, **env)
        return self.sidecar(name, ASYA_SOCKET_DIR=sockets)

    def pipeline(self):
        os.makedirs(self.dir)
        with open(os.path.join(self.root, "handlers.py"), "w", encoding="ascii") as f:
            f.write(HANDLERS)
        self.actor("split", [sys.executable, os.path.join(ROOT, "runtimes/python/asya_runtime.py")], ASYA_HANDLER="handlers.split",
                   PYTHONPATH=self.root)
        self.actor("echo", [os.path.join(BUILD, "runtimes/c/c-echo")])
        self.end_actor("happy-end")
        self.end_actor("error-end")

    def stop(self):
        for p in reversed(self.running):
            p.kill()
            p.wait()
        shutil.rmtree(self.root)

    # ---- behind the transport's back: bytes that no program would send ----

    def post(self, actor, bodies, dead=False, queued_us=None):
        if not os.path.exists(os.path.join(self.dir, "queue.db")):
            self.call("send", "--route", "unused", "--payload", "1")
        now = int(time.time() * 1000000)
        with open(os.path.join(self.dir, "write.lock"), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            db = sqlite3.connect(os.path.join(self.dir, "queue.db"), timeout=PATIENCE)
            db.execute("INSERT OR IGNORE INTO queues(space,actor,dead) VALUES('',?,?)", (actor, dead))
            queue = db.execute("SELECT id FROM queues WHERE space='' AND actor=? AND dead=?", (actor, dead)).fetchone()[0]
            for body in bodies:
                seq = db.execute("INSERT INTO messages(queued_us,body) VALUES(?,?)", (queued_us or now, body)).lastrowid
                db.execute("INSERT INTO slots(queue,visible_us,seq,owner,receives) VALUES(?,?,?,0,0)", (queue, now, seq))
            db.commit()
            db.close()
        os.utime(os.path.join(self.dir, "wake", actor + ("-dlq" if dead else ""))) if self.wakes(actor, dead) else None

    def wakes(self, actor, dead):
        return os.path.exists(os.path.join(self.dir, "wake", actor + ("-dlq" if dead else "")))

    def bodies(self, actor, dead=False):
        db = sqlite3.connect(os.path.join(self.dir, "queue.db"), timeout=PATIENCE)
        rows = db.execute("SELECT m.body FROM slots s JOIN messages m ON m.seq=s.seq JOIN queues q ON q.id=s.queue WHERE q.actor=? AND "
                          "q.dead=? ORDER BY s.visible_us, s.seq", (actor, dead)).fetchall()
        db.close()
        return [bytes(r[0]) for r in rows]

    def depths(self, actor):
        return next((q for q in self.json("queues") if q["actor"] == actor), None)


def envelope(id, payload=1, headers=None, actors=("infer",)):
    body = {"id": id, "route": {"actors": list(actors), "current": 0}, "payload": payload}
    if headers is not None:
        body["headers"] = headers
    return json.dumps(body).encode()


def failed(id, type, message="no", code="processing_error"):
    return envelope(id, {"error": code, "details": {"message": message, "type": type, "traceback": ""}, "original_payload": 1})
