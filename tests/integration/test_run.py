# SPDX-License-Identifier: Apache-2.0
"""`asya run` and `asya send`: real actors on the local transport."""
import json
import os
import signal
import sqlite3
import subprocess

import pytest

from programs import ASYA, Runner, asya, children, json_lines, manifest, wait_until

HANDLERS = '''
import asyncio, os, time
def double(p): return {"n": p["n"] * 2}
def spread(p): return [{"n": p["n"], "part": i} for i in range(3)]
def stream(p):
    for i in range(p["n"]): yield i
def nothing(p): return None
def fail(p): raise KeyError("no such key")
def flaky(p):
    path = p["path"]
    with open(path, "a") as f: f.write("x")
    if os.path.getsize(path) < 3: raise TimeoutError("not yet")
    return "done"
async def slow(p):
    await asyncio.sleep(p["s"])
    return p
def die(p): os._exit(3)
def where(p): return {"dir": os.environ.get("GREETING"), "local": os.environ.get("ASYA_LOCAL_DIR")}
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


def write(folder, *manifests):
    path = folder / "actors.yaml"
    path.write_text("".join(manifests))
    return str(path)


def send(run, route, payload, *words, check=0):
    done = asya("send", "--dir", run.dir, "--route", route, "--payload", json.dumps(payload), "--wait", "--json", "--timeout", "30s",
                *words, check=check)
    return json_lines(done.stdout)


def test_message_goes_through_two_actors_to_a_kept_result(folder):
    with Runner(folder, write(folder, manifest("a", "handlers.double"), manifest("b", "handlers.double", replicas=2))) as run:
        results = send(run, "a,b", {"n": 10**23 + 1})
        assert [r["payload"] for r in results] == [{"n": 4 * (10**23 + 1)}]
        with open(os.path.join(run.dir, "results", results[0]["detail"])) as f:
            kept = json.load(f)
        assert kept["id"] == results[0]["id"]
        assert kept["route"] == {"actors": ["a", "b"], "current": 2}
    assert run.process.returncode == 0


def test_fan_outs_are_all_waited_for_and_their_ids_never_repeat(folder):
    with Runner(folder, write(folder, manifest("a", "handlers.spread"), manifest("b", "handlers.spread"))) as run:
        results = send(run, "a,b", {"n": 1})
        assert len(results) == 9
        assert len({r["id"] for r in results}) == 9
        assert sorted(r["payload"]["part"] for r in results) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_generator_fans_out_and_nothing_ends_the_message(folder):
    with Runner(folder, write(folder, manifest("a", "handlers.stream"), manifest("b", "handlers.nothing"))) as run:
        assert sorted(r["payload"] for r in send(run, "a", {"n": 4})) == [0, 1, 2, 3]
        assert [r["payload"] for r in send(run, "b", {"n": 4})] == [{"n": 4}]


def test_failure_is_kept_at_error_end_and_makes_the_exit_code(folder):
    with Runner(folder, write(folder, manifest("a", "handlers.fail"))) as run:
        result, = send(run, "a", {"n": 1}, check=1)
        assert result["actor"] == "error-end"
        assert result["payload"]["error"] == "processing_error"
        assert result["payload"]["details"]["type"] == "KeyError"
        assert "handlers.py" in result["payload"]["details"]["traceback"]
        assert result["payload"]["original_payload"] == {"n": 1}


def test_resiliency_of_the_manifest_retries(folder):
    extra = """
  resiliency:
    policies: {soon: {maxAttempts: 5, backoff: constant, initialDelay: 20ms, jitter: false}}
    rules: [{errors: [TimeoutError], policy: soon}]"""
    with Runner(folder, write(folder, manifest("a", "handlers.flaky", extra=extra))) as run:
        result, = send(run, "a", {"path": str(folder / "tries")})
        assert result["payload"] == "done"
        assert (folder / "tries").read_text() == "xxx"


def test_worker_that_dies_costs_attempts_and_not_the_others(folder):
    with Runner(folder, write(folder, manifest("a", "handlers.die", sidecar_env=[("ASYA_CRASH_MAX_ATTEMPTS", 1)]),
                              manifest("b", "handlers.double"))) as run:
        result, = send(run, "a", {}, check=1)
        assert result["payload"]["details"]["type"] == "RuntimeLost"
        assert send(run, "b", {"n": 1})[0]["payload"] == {"n": 2}


def test_variables_of_the_manifest_reach_the_handler(folder):
    with Runner(folder, write(folder, manifest("a", "handlers.where", env=[("GREETING", "hi: 'there'")]))) as run:
        assert send(run, "a", {})[0]["payload"] == {"dir": "hi: 'there'", "local": run.dir}


def test_lines_of_a_file_are_sent_and_the_first_result_can_be_had(folder):
    lines = folder / "lines.jsonl"
    lines.write_text("".join(json.dumps({"n": i}) + "\n" for i in range(450)))
    with Runner(folder, write(folder, manifest("a", "handlers.double"))) as run:
        done = asya("send", "--dir", run.dir, "-r", "a", "--lines", lines, "--wait", "--json", "-t", "60s", check=0)
        assert sorted(r["payload"]["n"] for r in json_lines(done.stdout)) == [2 * i for i in range(450)]
        done = asya("send", "--dir", run.dir, "-r", "a", "--lines", lines, "--first", "--json", "-t", "60s", check=0)
        assert len(json_lines(done.stdout)) == 1


def test_until_empty_ends_when_the_work_is_done(folder):
    path = write(folder, manifest("a", "handlers.spread"), manifest("b", "handlers.fail"))
    state = str(folder / "state")
    asya("send", "--dir", state, "-r", "a", "-p", "{\"n\": 1}", check=0)
    done = asya("run", "--dir", state, "--until-empty", path, check=0)
    kept = [f for _, _, files in os.walk(os.path.join(state, "results", "happy-asya")) for f in files]
    assert len(kept) == 3
    asya("send", "--dir", state, "-r", "b", "-p", "{}", check=0)
    done = asya("run", "--dir", state, "--until-empty", path, check=1)
    assert "1 messages ended at error-end" in done.stderr


def test_killed_sidecar_and_runtime_are_started_again(folder):
    with Runner(folder, write(folder, manifest("a", "handlers.double"))) as run:
        send(run, "a", {"n": 1})
        for word in ("asya-sidecar", "asya_runtime"):
            for pid, line in children(run.process.pid):
                if word in line:
                    os.kill(pid, signal.SIGKILL)
            assert send(run, "a", {"n": 2})[0]["payload"] == {"n": 4}


def test_everything_ends_when_the_runner_is_killed(folder):
    run = Runner(folder, write(folder, manifest("a", "handlers.double")))
    with run:
        send(run, "a", {"n": 1})
        pids = [pid for pid, _ in children(run.process.pid)]
        assert len(pids) >= 4
        run.process.kill()
        run.process.wait()
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "the children to end")
        run.start()
        assert send(run, "a", {"n": 3})[0]["payload"] == {"n": 6}


def test_interrupt_lets_a_handler_finish(folder):
    with Runner(folder, write(folder, manifest("a", "handlers.slow"))) as run:
        send(run, "a", {"s": 0})
        sent = subprocess.Popen([ASYA, "send", "--dir", run.dir, "-r", "a", "-p", '{"s": 1.0}', "--wait", "-t", "30s"],
                                stdout=subprocess.PIPE, text=True)
        wait_until(lambda: any(q["leased"] for q in queues(run)), "the handler to begin")
        assert run.stop() == 0
        sent.kill()
        sent.communicate()
    assert "a" not in {q["actor"] for q in queues(run)}


def queues(run):
    """Those that are not empty."""
    db = sqlite3.connect(os.path.join(run.dir, "queue.db"))
    try:
        return [{"actor": actor, "ready": ready, "leased": leased} for actor, ready, leased in db.execute(
            "SELECT q.actor, sum(s.owner = 0), sum(s.owner <> 0) FROM queues q JOIN slots s ON s.queue = q.id GROUP BY q.actor")]
    finally:
        db.close()


def test_handler_that_cannot_be_imported_ends_the_run_with_its_reason(folder):
    done = asya("run", "--dir", folder / "state", write(folder, manifest("a", "missing.thing")), timeout=60)
    assert done.returncode == 1
    assert "a-0 runtime cannot start" in done.stderr
    assert "missing" in done.stderr


@pytest.mark.parametrize("words,code,says", [
    (["run"], 2, "usage: asya run"),
    (["run", "/nonexistent.yaml"], 2, "opening '/nonexistent.yaml'"),
    (["send"], 2, "--route"),
    (["send", "-r", "a,B"], 2, "an actor's name is a DNS label"),
    (["send", "-r", "a", "-p", "{"], 2, "--payload: not JSON"),
    (["send", "-r", "a", "-p", "text"], 2, "a text needs its quotes"),
    (["send", "-r", "a", "--deadline", "soon"], 2, "it must be a duration"),
    (["send", "-r", "a", "--headers", "[]"], 2, "--headers must be a JSON object"),
    (["send", "-r", "a", "--lines", "/nonexistent"], 2, "/nonexistent"),
    (["send", "-r", "a", "--rout", "b"], 2, "did you mean --route?"),
    (["send", "-r"], 2, "--route needs a value"),
    (["send", "-r", "a", "--transport", "pigeon"], 2, "no transport 'pigeon'"),
])
def test_wrong_words_are_told_and_nothing_is_done(folder, words, code, says):
    done = asya(*words, "--dir", folder / "state") if words != ["send", "-r"] else asya(*words)
    assert done.returncode == code
    assert says in done.stderr
    assert not os.path.exists(folder / "state" / "queue.db")


def test_bad_line_sends_nothing(folder):
    (folder / "lines").write_text('{"n": 1}\n{"n": \n')
    done = asya("send", "--dir", folder / "state", "-r", "a", "--lines", folder / "lines", check=2)
    assert f"{folder}/lines:2: not JSON" in done.stderr
    assert not os.path.exists(folder / "state" / "queue.db")


def test_manifest_with_a_mistake_is_pointed_at(folder):
    path = write(folder, manifest("a", "handlers.double").replace("transport:", "transprot:"))
    done = asya("run", "--dir", folder / "state", path, check=2)
    assert "transprot" in done.stderr and ":6:" in done.stderr


def test_waiting_ends_with_its_timeout(folder):
    done = asya("send", "--dir", folder / "state", "-r", "nobody", "--wait", "--timeout", "200ms", check=4)
    assert "have not ended after 200ms" in done.stderr
