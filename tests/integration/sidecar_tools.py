# SPDX-License-Identifier: Apache-2.0
"""Starts sidecars, runtimes and end actors in a directory of its own, and puts messages into and reads them from its local queue
(src/transport/local/store.c has the tables). Waits for what happens; nothing sleeps for a time."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
BUILD = os.environ.get("ASYA_BUILD", os.path.join(ROOT, "build-test"))
SIDECAR = os.path.join(BUILD, "src", "asya-sidecar")
ECHO = os.path.join(BUILD, "runtimes", "c", "c-echo")
PYTHON_RUNTIME = os.path.join(ROOT, "runtimes", "python", "asya_runtime.py")
PATIENCE = 30
SANITIZER = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error:")


def wait_until(what, condition, patience=PATIENCE):
    """The first true value of `condition`. `what` may be a function that tells what is wrong."""
    end = time.monotonic() + patience
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, "waited in vain: " + (what() if callable(what) else what)
        time.sleep(0.005)


def dumps(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def envelope(id, payload=None, actors=("a",), current=0, **more):
    return dict({"id": id, "route": {"actors": list(actors), "current": current}, "payload": payload}, **more)


def frame(body, kind=b""):
    return struct.pack(">I", len(kind) + len(body)) + kind + body


class Queue:
    """The local transport in a directory, as a program beside it."""

    def __init__(self, path):
        self.path = path
        self._db = None
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def _open(self):
        with self._lock:
            if self._db is None:
                wait_until("a database in " + self.path, self._ready)
                self._db = sqlite3.connect(self.path + "/queue.db", timeout=30, isolation_level=None, check_same_thread=False)
            yield self._db

    def _ready(self):
        if not os.path.exists(self.path + "/queue.db"):
            return False
        with contextlib.closing(sqlite3.connect("file:%s/queue.db?mode=ro" % self.path, timeout=30, uri=True)) as db:
            try:
                return db.execute("PRAGMA user_version").fetchone()[0] == 1
            except sqlite3.OperationalError:
                return False

    @contextlib.contextmanager
    def _writing(self):
        with self._open() as db, open(self.path + "/write.lock", "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def close(self):
        if self._db is not None:
            self._db.close()
            self._db = None

    @staticmethod
    def _id(db, actor, dead, make=False):
        row = db.execute("SELECT id FROM queues WHERE space='' AND actor=? AND dead=?", (actor, dead)).fetchone()
        if row or not make:
            return row[0] if row else None
        return db.execute("INSERT INTO queues(space,actor,dead) VALUES('',?,?)", (actor, dead)).lastrowid

    def post(self, actor, *messages, dead=False):
        """Bytes as they are, anything else as JSON."""
        now = int(time.time() * 1e6)
        with self._writing() as db:
            queue = self._id(db, actor, dead, make=True)
            for m in messages:
                body = m if isinstance(m, bytes) else dumps(m)
                seq = db.execute("INSERT INTO messages(queued_us,body) VALUES(?,?)", (now, body)).lastrowid
                db.execute("INSERT INTO slots(queue,visible_us,seq,owner,receives) VALUES(?,?,?,0,0)", (queue, now, seq))
        name = "%s/wake/%s%s" % (self.path, actor, "-dlq" if dead else "")
        open(name, "a").close()
        os.utime(name)

    def rows(self, actor, dead=False):
        """(body, owner, visible_us, receives) of each message, the oldest first."""
        with self._open() as db:
            sql = "SELECT m.body,s.owner,s.visible_us,s.receives FROM slots s JOIN messages m ON m.seq=s.seq WHERE s.queue=? ORDER BY s.seq"
            return db.execute(sql, (self._id(db, actor, dead),)).fetchall()

    def bodies(self, actor, dead=False):
        return [bytes(row[0]) for row in self.rows(actor, dead)]

    def wait(self, actor, n=1, dead=False):
        """The bodies, once there are `n`; no more may be there."""
        name = actor + ("-dlq" if dead else "")
        found = wait_until(lambda: "%d in %s: %r" % (n, name, self.bodies(actor, dead)[:5]), lambda: self.count(actor, dead) >= n and self.bodies(actor, dead))
        assert len(found) == n, (name, found)
        return found

    def wait_json(self, actor, n=1, dead=False):
        return [json.loads(body) for body in self.wait(actor, n, dead)]

    def count(self, actor, dead=False):
        with self._open() as db:
            return db.execute("SELECT count(*) FROM slots WHERE queue=?", (self._id(db, actor, dead),)).fetchone()[0]

    def leased(self, actor):
        with self._open() as db:
            return db.execute("SELECT count(*) FROM slots WHERE owner<>0 AND queue=?", (self._id(db, actor, False),)).fetchone()[0]

    def drop(self, actor, dead=False):
        with self._writing() as db:
            db.execute("DELETE FROM slots WHERE queue=?", (self._id(db, actor, dead),))


class Program:
    """A running program whose standard error is JSON lines."""

    def __init__(self, place, name, command, restore_signals=True, **variables):
        self.name, self.place = name, place
        self.log_path = "%s/%s-%d.log" % (place.path, name, time.monotonic_ns())
        env = {k: v for k, v in os.environ.items() if not k.startswith("ASYA_")}
        env.update(PYTHONPATH=HERE, PYTHONDONTWRITEBYTECODE="1")
        env.update(("ASYA_" + k, str(v)) for k, v in variables.items())
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=place.path, start_new_session=True, restore_signals=restore_signals)
        place.programs.append(self)

    def text(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def lines(self, event=None, **fields):
        found = []
        for line in self.text().splitlines():
            if line.startswith("{") and line.endswith("}"):
                entry = json.loads(line)
                if (event is None or entry.get("event") == event) and all(entry.get(k) == v for k, v in fields.items()):
                    found.append(entry)
        return found

    def wait_line(self, event, **fields):
        def look():
            found = self.lines(event, **fields)
            assert found or self.process.poll() is None, "%s ended with %d:\n%s" % (self.name, self.process.returncode, self.text())
            return found

        return wait_until(lambda: "%s of %s:\n%s" % (event, self.name, self.text()), look)[0]

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, patience=PATIENCE):
        """Its exit code."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError("%s does not end:\n%s" % (self.name, self.text())) from None

    def stop(self):
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Sidecar(Program):
    def __init__(self, place, actor, runtime=None, command=(SIDECAR,), restore_signals=True, **variables):
        self.actor = actor
        defaults = dict(ACTOR_NAME=actor, LOCAL_DIR=place.queue.path, LOCAL_SYNCHRONOUS="NORMAL", METRICS_ADDR="127.0.0.1:0")
        if runtime is not None:
            defaults["SOCKET_DIR"] = runtime.dir
        defaults.update(variables)
        Program.__init__(self, place, "sidecar-" + actor, list(command), restore_signals, **{k: v for k, v in defaults.items() if v is not None})

    def stop(self):
        self.wait_line("started")  # before that nobody listens to signals
        return Program.stop(self)

    def port(self):
        return self.wait_line("started")["metrics_port"]

    def get(self, path):
        """(status, text)"""
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.port(), path), timeout=PATIENCE) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()

    def wait_page(self, path, status):
        return wait_until(lambda: "%s %d, is %r" % (path, status, self.get(path)), lambda: (lambda got: got if got[0] == status else None)(self.get(path)))[1]


class Runtime(Program):
    """The Python runtime, or a C one."""

    def __init__(self, place, directory, command, **variables):
        self.dir = directory
        Program.__init__(self, place, "runtime", command, SOCKET_DIR=directory, **variables)

    def wait_ready(self):
        wait_until(lambda: "ready: " + self.text(), lambda: os.path.exists(self.dir + "/runtime-ready") or self.process.poll() is not None)
        assert self.process.poll() is None, self.text()
        return self


class Connection:
    """What a fake runtime does on one connection."""

    def __init__(self, sock):
        self.sock = sock

    def exactly(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def read(self):
        """The next frame without its length."""
        return self.exactly(struct.unpack(">I", self.exactly(4))[0])

    def send(self, data):
        self.sock.sendall(data)

    def answer(self, *payloads):
        self.send(b"".join(frame(dumps({"payload": p}), b"I") for p in payloads) + frame(b"{}", b"E"))

    def answer_v1(self, *items):
        self.send(frame(dumps(list(items))))

    def fail(self, type="ValueError", message="no", **more):
        self.send(frame(dumps({"error": "processing_error", "details": dict({"message": message, "type": type}, **more)}), b"X"))

    def hung_up(self):
        """Waits until the sidecar closes."""
        with contextlib.suppress(ConnectionError):
            while self.sock.recv(65536):
                pass


class Fake:
    """A runtime written in the test: `serve(connection)` runs in a thread for each connection, `handle(connection, request)` for each
    request, its type included. The default `serve` reads requests for as long as they come (protocol 1: one)."""

    def __init__(self, place, handle=None, serve=None, protocol=2, workers=1, ready=True, directory=None, ahead=None):
        self.dir = directory or place.socket_dir()
        self.protocol, self.workers, self.ahead = protocol, workers, ahead
        self.handle = handle
        self.serve = serve or self._serve
        self.connections, self.requests, self.times = [], [], []
        self.errors = []
        self.listener = None
        place.fakes.append(self)
        self.listen()
        if ready:
            self.ready()

    def listen(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.dir + "/asya-runtime.sock")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.dir + "/asya-runtime.sock")
        self.listener.listen(128)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def ready(self):
        text = "protocol 2\nworkers %d\n" % self.workers if self.protocol == 2 else "ready\n"
        if self.ahead is not None:
            text += "ahead %d\n" % self.ahead
        with open(self.dir + "/aside", "w") as out:
            out.write(text)
        os.rename(self.dir + "/aside", self.dir + "/runtime-ready")

    def unready(self):
        os.unlink(self.dir + "/runtime-ready")

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            connection = Connection(sock)
            self.connections.append(connection)
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection):
        try:
            self.serve(connection)
        except (EOFError, OSError):
            pass
        except Exception as bad:
            self.errors.append(bad)
        finally:
            connection.sock.close()

    def _serve(self, connection):
        while True:
            request = connection.read()
            self.times.append(time.monotonic())
            self.requests.append(request)
            self.handle(connection, request)
            if self.protocol == 1:
                return

    def stop_listening(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def stop(self):
        self.stop_listening()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)


class Ahead(Fake):
    """A runtime of one worker that takes requests ahead. It reads all that comes, and answers each at once with the message's id, or, while
    it holds, when it is told to: `held` has (connection, id) of what is not answered."""

    def __init__(self, place, ahead=8, **more):
        self.held, self.most, self.holding = [], 0, False
        self.lock = threading.Lock()
        self.rounds = 0
        Fake.__init__(self, place, serve=self._read, ahead=ahead, **more)

    def _read(self, connection):
        while True:
            request = connection.read()
            with self.lock:
                self.requests.append(request)
                self.held.append((connection, json.loads(request[1:])["id"]))
                self.most = max(self.most, len(self.held))
                if not self.holding:
                    self._answer(1)

    def _answer(self, n):
        """Answers the first `n` in one piece."""
        done, self.held = self.held[:n], self.held[n:]
        for connection, id in done[:1]:
            connection.send(b"".join(frame(dumps({"payload": id}), b"I") + frame(b"{}", b"E") for _, id in done))

    def answer(self, n=1):
        with self.lock:
            self._answer(n)

    def go_on(self):
        with self.lock:
            self.holding = False
            self._answer(len(self.held))

    def came(self, id):
        """How many requests have come for a message."""
        return sum(b'"id":"%s"' % id.encode() in r for r in list(self.requests))

    def hold(self, queue, messages, least=3):
        """Makes the sidecar believe in a quick handler, and holds what `messages` (of a prefix for their ids) gives it. Returns the ids
        that were sent ahead, at least so many; slow machines need some tries."""

        def attempt():
            self.rounds += 1
            done = queue.count("happy-end")
            queue.post("a", *[envelope("warm-%d-%d" % (self.rounds, i)) for i in range(60)])
            wait_until("a handler at work", lambda: queue.count("happy-end") == done + 60)
            self.holding = True
            posted = messages("t%d-" % self.rounds)
            queue.post("a", *posted)
            with contextlib.suppress(AssertionError):
                wait_until("requests sent ahead", lambda: len(self.held) >= least, 2)
                n = 0
                while n != len(self.held):  # those that were on their way
                    n = len(self.held)
                    time.sleep(0.1)
                return [id for _, id in self.held]
            self.go_on()
            wait_until("all is done", lambda: queue.count("happy-end") == done + 60 + len(posted))
            return None

        return wait_until("requests sent ahead", attempt)


class Place:
    """A directory for one test."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="asya-", dir="/tmp")
        self.sidecar_path = SIDECAR
        self.queue = Queue(self.path + "/q")
        self.programs, self.fakes = [], []
        self._n = 0

    def socket_dir(self):
        self._n += 1
        path = "%s/s%d" % (self.path, self._n)
        os.mkdir(path)
        return path

    def sidecar(self, actor, runtime=None, **variables):
        return Sidecar(self, actor, runtime, **variables)

    def python(self, handler="runtime_handlers.act", directory=None, **variables):
        return Runtime(self, directory or self.socket_dir(), [sys.executable, PYTHON_RUNTIME], HANDLER=handler, **variables)

    def echo(self, directory=None, **variables):
        return Runtime(self, directory or self.socket_dir(), [ECHO], **variables)

    def fake(self, handle=None, **more):
        return Fake(self, handle, **more)

    def end(self, actor, **variables):
        return Sidecar(self, actor, IS_END_ACTOR="true", RESULTS_DIR=self.path + "/results", **variables)

    def kept(self, id=None, prefix=""):
        """{key: bytes} of kept envelopes, those of one id."""
        found = {}
        for folder, _, names in os.walk(self.path + "/results"):
            for name in names:
                path = os.path.join(folder, name)
                key = os.path.relpath(path, self.path + "/results")
                if not key.startswith(".") and key.startswith(prefix) and (id is None or name == id + ".json"):
                    with open(path, "rb") as body:
                        found[key] = body.read()
        return found

    def wait_kept(self, id, n=1, prefix=""):
        found = wait_until(lambda: "%d kept of %s: %r" % (n, id, list(self.kept())), lambda: (lambda k: k if len(k) >= n else None)(self.kept(id, prefix)))
        assert len(found) == n, found
        return found

    def close(self):
        """Ends everything; fails if a sidecar has crashed or a sanitizer has spoken."""
        for fake in self.fakes:
            fake.stop()
        for program in self.programs:
            if isinstance(program, Sidecar) and program.process.poll() is None:
                program.signal(signal.SIGTERM)
        try:
            for program in self.programs:
                if isinstance(program, Sidecar):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        program.process.wait(10)
            for program in self.programs:
                program.kill()
            for program in self.programs:
                if isinstance(program, Sidecar):
                    text = program.text()
                    assert not SANITIZER.search(text), text[-6000:]
                    assert program.process.returncode in (0, 1, 2, -signal.SIGKILL, -signal.SIGTERM), (program.process.returncode, text[-6000:])
            for fake in self.fakes:
                assert not fake.errors, fake.errors
        finally:
            for program in self.programs:
                program.kill()
            self.queue.close()
            shutil.rmtree(self.path, ignore_errors=True)


def read_metrics(text):
    """{name: type} and {(name, frozenset of labels): value} of the Prometheus text format, strictly."""
    types, helps, values = {}, set(), {}
    name_re = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
    assert text.endswith("\n")
    for line in text.splitlines():
        said = re.fullmatch(r"# (HELP|TYPE) (%s) (.+)" % name_re, line)
        if said and said.group(1) == "HELP":
            assert said.group(2) not in helps
            helps.add(said.group(2))
            continue
        if said:
            assert said.group(2) not in types and said.group(3) in ("counter", "gauge", "histogram"), line
            types[said.group(2)] = said.group(3)
            continue
        sample = re.fullmatch(r"(%s)(?:\{(.*)\})? (\S+)" % name_re, line)
        assert sample, line
        name, labels, value = sample.groups()
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in types or types.get(family) == "histogram", line
        pairs = re.findall(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"', labels or "")
        assert ",".join('%s="%s"' % pair for pair in pairs) == (labels or ""), line
        key = (name, frozenset(pairs))
        assert key not in values, line
        values[key] = float(value)
    assert set(types) == helps
    return types, values
