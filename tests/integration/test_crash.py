# SPDX-License-Identifier: Apache-2.0
"""A pipeline with a fan-out while sidecars, runtimes and the runner die, at random and at failpoints.

CI does a seeded tenth; `make soak` sets ASYA_CRASH_ENVELOPES=10000. Needs a build with failpoints.

What is shown: every envelope's results are complete, none is there twice; how often handlers ran twice, and that between the
two runs one of the processes in question died; every failpoint was hit. With the ack put before the send, messages are lost:
the same test sees it.
"""
import collections
import json
import os
import random
import re
import signal
import subprocess
import threading
import time

from programs import ASYA, Runner, asya, children, json_lines, manifest, wait_until

ENVELOPES = int(os.environ.get("ASYA_CRASH_ENVELOPES", "1000"))
SEED = int(os.environ.get("ASYA_CRASH_SEED", "1"))
PARTS = 3
DEATHS_MIN = 100
# Per mille of the hits: so that a run of any length has about as many deaths. Points that are hit once a batch, not once a
# message, die more often.
EACH = 0.8 * 1000 / ENVELOPES
BATCHED = 7 * 1000 / ENVELOPES
KEPT = 1.6 * 1000 / ENVELOPES
POINTS = {
    "local.take": 2 * BATCHED, "receive.after": EACH / 4, "invoke.before": EACH, "invoke.answered": EACH, "settle.before": EACH,
    "settle.after": EACH, "local.posted": EACH, "local.acked": EACH, "local.commit": BATCHED, "local.committed": BATCHED,
    "store.write": KEPT, "store.rename": KEPT, "store.renamed": KEPT,
}

HANDLERS = '''
import json, os, time
def _note(actor, p):
    line = "%s %s %d %d\\n" % (actor, p["key"], time.time() * 1e6, os.getppid())
    fd = os.open(os.environ["INVOKED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode())
    os.close(fd)
def one(p):
    p["key"] = str(p["n"])
    _note("one", p)
    return dict(p, seen=["one"])
def split(p):
    _note("split", p)
    return [dict(p, key="%s.%d" % (p["key"], i), seen=p["seen"] + ["split"]) for i in range(3)]
def two(p):
    _note("two", p)
    return dict(p, seen=p["seen"] + ["two"])
def three(p):
    _note("three", p)
    return dict(p, seen=p["seen"] + ["three"])
'''


class Pipeline:
    def __init__(self, folder, failpoints):
        self.folder = folder
        self.invoked = folder / "invoked"
        self.invoked.touch()
        self.failpoint_log = folder / "failpoints.log"
        self.failpoint_log.touch()
        self.killed = []
        (folder / "handlers.py").write_text(HANDLERS)
        path = folder / "actors.yaml"
        path.write_text("".join(
            manifest(name, f"handlers.{name}", replicas=2, env=[("INVOKED", self.invoked), ("ASYA_WORKERS", 2)],
                     sidecar_env=[("ASYA_CRASH_MAX_ATTEMPTS", 1000), ("ASYA_LOG_LEVEL", "WARNING")],
                     extra="\n  resiliency:\n    policies: {lost: {maxAttempts: 1000, backoff: constant, initialDelay: 20ms}}"
                           "\n    rules: [{errors: [RuntimeLost], policy: lost}]")
            for name in ("one", "split", "two", "three")))
        self.runner = Runner(folder, str(path), env={
            "ASYA_FAILPOINTS": failpoints, "ASYA_FAILPOINT_SEED": str(SEED), "ASYA_FAILPOINT_LOG": str(self.failpoint_log)})
        self.random = random.Random(SEED)
        self.owner = {}
        self.ended = threading.Event()

    def kill_at_random(self):
        """One process below the runner, or the runner itself."""
        victims = [c for c in children(self.runner.process.pid)]
        if not victims:
            return
        if self.random.random() < 0.06:
            self.runner.process.kill()
            self.runner.process.wait()
            self.killed.append((time.time() * 1e6, self.runner.process.pid, "runner"))
            self.runner.start()
            return
        pid, line = self.random.choice(victims)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.killed.append((time.time() * 1e6, pid, "sidecar" if "asya-sidecar" in line else "runtime"))

    def watch(self):
        """Notes which process is whose, for as long as they run."""
        while not self.ended.wait(0.03):
            for pid, line in children(self.runner.process.pid):
                if pid not in self.owner:
                    try:
                        with open(f"/proc/{pid}/environ") as f:
                            found = re.search(r"ASYA_SOCKET_DIR=[^\0]*/([a-z-]+)-\d+\0", f.read())
                    except OSError:
                        continue
                    if found:
                        self.owner[pid] = found.group(1)

    def deaths(self):
        """(microseconds, pid, what or where)"""
        at_points = [line.split() for line in self.failpoint_log.read_text().splitlines()]
        return [(float(us), int(pid), name) for name, pid, us in at_points] + self.killed


def run_pipeline(folder, failpoints, seconds, interval):
    """Sends, kills until all have ended, and gives back the pipeline, the results and whether they all ended."""
    lines = folder / "lines.jsonl"
    lines.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(ENVELOPES)))
    p = Pipeline(folder, failpoints)
    with p.runner:
        sender = subprocess.Popen([ASYA, "send", "--dir", p.runner.dir, "-r", "one,split,two,three", "--lines", str(lines), "--wait",
                                   "--json", "-t", f"{seconds}s"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        output = []
        reader = threading.Thread(target=lambda: output.extend(sender.communicate()))
        reader.start()
        watcher = threading.Thread(target=p.watch)
        watcher.start()
        next_kill = time.monotonic() + (interval or 1e9)
        while sender.poll() is None:
            time.sleep(0.1)
            if p.runner.process.poll() is not None:  # it uses the queue too, so it dies at failpoints too
                p.runner.start()
            elif time.monotonic() > next_kill:
                next_kill = time.monotonic() + interval * p.random.uniform(0.5, 1.5)
                p.kill_at_random()
        reader.join()
        p.ended.set()
        watcher.join()
    return p, json_lines(output[0]), sender.returncode, output[1]


def hit_the_rest(p, names):
    """What chance has left out dies at its fifth hit."""
    for name in names:
        p.runner.env["ASYA_FAILPOINTS"] = f"{name}=kill@5"
        with p.runner:
            asya("send", "--dir", p.runner.dir, "-r", "one,split,two,three", "--lines", p.folder / "lines.jsonl", check=0)
            wait_until(lambda: f"{name} " in p.failpoint_log.read_text(), f"{name} to be hit", 60)


def missing_and_twice(results):
    counts = collections.Counter(r["payload"]["key"] for r in results)
    wanted = {f"{n}.{i}" for n in range(ENVELOPES) for i in range(PARTS)}
    return wanted - set(counts), {k for k, n in counts.items() if n > 1}


def unexplained(p):
    """Handler runs that came twice with no death in between of a process of that actor, of the runner, or of a process that died
    too soon to be known."""
    runs = collections.defaultdict(list)
    for line in p.invoked.read_text().splitlines():
        actor, key, us, _ = line.split()
        runs[(actor, key)].append(int(us))
    deaths = [(us, p.owner.get(pid)) for us, pid, what in p.deaths() if what != "runner"]
    deaths += [(us, None) for us, _, what in p.deaths() if what == "runner"]
    twice, odd = 0, []
    for run, times in runs.items():
        times.sort()
        for before, after in zip(times, times[1:]):
            twice += 1
            if not any(before - 5e4 <= us <= after and owner in (run[0], None) for us, owner in deaths):
                odd.append((run, before, after))
    return twice, odd


def test_nothing_is_lost_or_repeated_whatever_dies(tmp_path):
    rules = ",".join(f"{name}=kill%{chance:.6f}" for name, chance in POINTS.items())
    p, results, code, said = run_pipeline(tmp_path, rules, 100 + ENVELOPES // 5, 1.0)
    deaths = p.deaths()
    assert code == 0, f"asya send: exit {code}: {said}\n{p.runner.said()[-2000:]}"
    missing, twice = missing_and_twice(results)
    assert not missing, f"{len(missing)} results are missing, such as {sorted(missing)[:5]}"
    assert not twice, f"{len(twice)} results are there twice, such as {sorted(twice)[:5]}"
    assert all(r["payload"]["seen"] == ["one", "split", "two", "three"] for r in results)
    repeated, odd = unexplained(p)
    hit = collections.Counter(name for _, _, name in deaths)
    print(f"\ncrash: {ENVELOPES} envelopes, {len(results)} results, {len(deaths)} deaths {dict(hit)}; "
          f"{repeated} handler runs came twice, {len(odd)} of them with no death in between; "
          f"{sum(pid not in p.owner for _, pid, what in deaths if what != 'runner')} deaths of unknown processes")
    assert not odd, f"ran twice with no death in between: {odd[:5]}"
    assert len(deaths) >= DEATHS_MIN
    hit_the_rest(p, set(POINTS) - set(hit))
    hit = {name for _, _, name in p.deaths()}
    assert set(POINTS) <= set(hit), f"never hit: {set(POINTS) - set(hit)}"


def test_ack_before_send_loses_messages_and_is_seen(tmp_path):
    rules = f"local.ack_first=on,local.swapped=kill%{12 * 1000 / ENVELOPES:.6f}"
    p, results, code, said = run_pipeline(tmp_path, rules, 15 + ENVELOPES // 100, None)
    missing, _ = missing_and_twice(results)
    died = [name for _, _, name in p.deaths()]
    assert "local.swapped" in died
    assert code != 0 or missing, "the ack went before the send, a process died in between, and nothing was lost?"
