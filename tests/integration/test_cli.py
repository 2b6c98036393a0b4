# SPDX-License-Identifier: Apache-2.0
"""asya get, trace, queues, dead, validate and completion, on real queues."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from cli_world import ASYA, BUILD, PATIENCE, ROOT, SIDECAR, World, envelope, failed, until

COMMANDS = ["send", "get", "trace", "queues", "dead", "validate", "completion"]


@pytest.fixture
def world():
    w = World()
    yield w
    w.stop()


@pytest.fixture(scope="module")
def pipeline():
    w = World()
    w.pipeline()
    w.call("send", "--route", "split,echo", "--payload", '{"numbers": [1, 2, 3]}', "--id", "warm", "--wait", "--timeout", "30s")
    yield w
    w.stop()


def on_terminal(world, *words, env=None, keys=None):
    """What a command draws on a terminal."""
    main, other = pty.openpty()
    p = subprocess.Popen([ASYA, *words], env=dict(world.env, TERM="xterm", **(env or {})), stdin=other, stdout=other, stderr=subprocess.PIPE,
                         cwd=world.root)
    os.close(other)
    text, end = b"", time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if select.select([main], [], [], 0.05)[0]:
            try:
                got = os.read(main, 65536)
            except OSError:
                got = b""
            if not got:
                break
            text += got
        if keys and keys(text):
            p.send_signal(signal.SIGINT)
            keys = None
    code = p.wait(PATIENCE)
    os.close(main)
    return text.decode(), code, p.stderr.read().decode()


# ---- get ----

def test_get_prints_the_envelope_that_happy_end_has_kept(pipeline):
    env = json.loads(pipeline.out("get", "warm"))
    assert env["id"] == "warm" and env["payload"] == {"n": 1}
    assert pipeline.out("get", "warm", "--payload") == '{"n":1}\n' or json.loads(pipeline.out("get", "warm", "--payload")) == {"n": 1}
    child = json.loads(pipeline.out("get", "warm-2"))
    assert child["parent_id"] == "warm" and child["payload"] == {"n": 3}
    (one,) = pipeline.json("get", "warm")
    assert one["id"] == "warm" and one["failed"] is False and one["actor"] == "happy-end" and one["envelope"] == env
    with open(os.path.join(pipeline.root, one["file"]), "rb") as f:
        assert json.loads(f.read()) == env


def test_get_all_prints_every_descendant(pipeline):
    envelopes = [json.loads(line) for line in pipeline.out("get", "warm", "--all").splitlines()]
    assert {e["id"]: e["payload"]["n"] for e in envelopes} == {"warm": 1, "warm-1": 2, "warm-2": 3}
    assert len(pipeline.json("get", "warm", "--all")) == 3
    assert [json.loads(line) for line in pipeline.out("get", "warm-1", "--all", "--payload").splitlines()] == [{"n": 2}]


def test_get_and_trace_find_the_children_of_a_message_for_which_nobody_waited(pipeline):
    pipeline.call("send", "--route", "split,echo", "--payload", '{"numbers": [1, 2]}', "--id", "alone")

    def both():
        run = subprocess.run([ASYA, "get", "alone", "--all"], env=pipeline.env, capture_output=True, cwd=pipeline.root)
        return len(run.stdout.splitlines()) == 2
    until(both)
    assert {h["id"] for h in pipeline.json("trace", "alone")} == {"alone", "alone-1"}
    assert {h["id"] for h in pipeline.json("trace", "alone-1", "--below")} == {"alone", "alone-1"}
    assert {h["id"] for h in pipeline.json("trace", "alone-1")} == {"alone-1"}


def test_get_of_what_failed_prints_it_with_the_error_and_exits_1(pipeline):
    pipeline.call("send", "--route", "split,echo", "--payload", '{"fail": "no such file"}', "--id", "bad", "--wait", code=1)
    run = pipeline.call("get", "bad", code=1)
    assert json.loads(run.stdout)["payload"]["original_payload"] == {"fail": "no such file"}
    assert run.stderr == b"asya: bad ended at error-end: ValueError: no such file (processing_error)\n"
    assert pipeline.json("get", "bad", code=1)[0]["failed"] is True
    assert pipeline.call("get", "bad", "--all", code=1).stdout


def test_get_of_what_is_under_way_says_where_it_was_last(pipeline):
    pipeline.call("send", "--route", "split,nobody", "--payload", '{"numbers": [1]}', "--id", "slow")
    until(lambda: pipeline.depths("nobody"))
    run = pipeline.call("get", "slow", code=3)
    assert b"'slow' is under way: last it was at split (routed, " in run.stderr and not run.stdout


def test_get_without_history_looks_among_the_files(pipeline):
    os.rename(os.path.join(pipeline.dir, "results"), os.path.join(pipeline.root, "kept"))
    try:
        assert "is not in" in pipeline.err("get", "warm", code=3)
    finally:
        os.rename(os.path.join(pipeline.root, "kept"), os.path.join(pipeline.dir, "results"))
    place = os.path.join(pipeline.dir, "results", "error-asya", "2026-01-01T00:00:00.000000Z", "infer")
    os.makedirs(place)
    with open(os.path.join(place, "old.json"), "wb") as f:
        f.write(failed("old", "KeyError"))
    assert "KeyError" in pipeline.err("get", "old", code=1)


# ---- trace ----

def test_trace_shows_every_hop_with_its_times(pipeline):
    hops = pipeline.json("trace", "warm")
    own = [h for h in hops if h["id"] == "warm"]
    assert [(h.get("actor"), h["outcome"]) for h in own] == [(None, "sent"), ("split", "routed"), ("echo", "done"), ("happy-end", "final")]
    assert [h["attempt"] for h in own] == [1] * 4 and all(h["root"] == "warm" for h in own)
    assert "waited_ms" not in own[0] and all(h["waited_ms"] >= 0 and h["took_ms"] >= 0 for h in own[1:])
    assert [h["received"] for h in own] == sorted(h["received"] for h in own)
    child = [h for h in hops if h["id"] == "warm-1"]
    assert [(h["actor"], h["outcome"]) for h in child] == [("echo", "done"), ("happy-end", "final")]
    assert child[0]["parent_id"] == "warm" and child[0]["waited_ms"] >= 0 and child[1]["detail"].startswith("happy-asya/")


def test_trace_shows_children_below_their_parent(pipeline):
    text = pipeline.out("trace", "warm")
    lines = text.splitlines()
    heads = [line for line in lines if "ended well" in line]
    assert [line.split()[0] for line in heads] == ["warm", "warm-1", "warm-2"]
    assert [len(line) - len(line.lstrip()) for line in heads] == [0, 2, 2]
    assert "\033" not in text and "|" not in text
    assert lines[-1].startswith("3 messages, 8 hops; waited ")


def test_trace_on_a_terminal_has_bars_and_colours(pipeline):
    text, code, _ = on_terminal(pipeline, "trace", "warm")
    assert code == 0 and "\033[32m" in text and "#" in text and "|" in text
    plain, code, _ = on_terminal(pipeline, "trace", "warm", env={"NO_COLOR": "1"})
    assert code == 0 and "\033" not in plain


def test_trace_folds_many_children(pipeline):
    pipeline.call("send", "--route", "split,echo", "--payload", json.dumps({"numbers": list(range(30))}), "--id", "many", "--wait")
    text = pipeline.out("trace", "many")
    assert "... and 19 more: 19 ended well, 0 failed, 0 dead letters, 0 under way" in text
    assert pipeline.out("trace", "many", "--below").count("ended well") == 30
    assert len(pipeline.json("trace", "many")) == 2 + 30 * 2


# ---- queues ----

def test_queues_counts_what_waits_where(world):
    for n in range(3):
        world.call("send", "--route", "infer", "--payload", "1")
    world.post("other", [b"x", b"y"], dead=True)
    assert world.json("queues") == [
        {"actor": "infer", "ready": 3, "leased": 0, "delayed": 0, "dead": 0, "done": 0, "failed": 0},
        {"actor": "other", "ready": 0, "leased": 0, "delayed": 0, "dead": 2, "done": 0, "failed": 0}]
    lines = world.out("queues").splitlines()
    assert lines[0].split() == ["ACTOR", "READY", "LEASED", "DELAYED", "DEAD", "DONE", "FAILED"]
    assert lines[1].split() == ["infer", "3", "0", "0", "0", "0", "0"] and lines[3].split() == ["total", "3", "0", "0", "2", "0", "0"]


def test_queues_counts_done_and_failed(pipeline):
    assert pipeline.depths("split")["done"] >= 1 and pipeline.depths("echo")["done"] >= 3


def test_queues_watch_prints_a_line_a_look_and_ends_well_on_ctrl_c(world):
    world.call("send", "--route", "infer", "--payload", "1")
    for words, check in (([], lambda line: b"ready 1" in line), (["--json"], lambda line: json.loads(line)["queues"][0]["ready"] == 1)):
        p = world.popen("queues", "--watch", *words)
        assert check(p.stdout.readline())
        p.send_signal(signal.SIGINT)
        assert p.wait(PATIENCE) == 0
        p.stdout.close()
        p.stderr.close()


def test_queues_watch_draws_over_itself_on_a_terminal(world):
    world.call("send", "--route", "infer", "--payload", "1")
    text, code, _ = on_terminal(world, "queues", "--watch", keys=lambda text: b"\033[2A" in text)
    assert code == 0 and text.count("infer") == 2 and "PER SEC." in text and "0.0" in text


# ---- dead ----

def test_garbage_at_error_end_is_listed_shown_and_redriven(world):
    world.call("send", "--route", "error-end", "--payload", "1", "--id", "first")
    end = world.end_actor("error-end")
    until(lambda: world.depths("error-end")["done"] == 1)
    world.post("error-end", [b"garbage \xff", b'{"id": 5}'])
    until(lambda: world.depths("error-end")["dead"] == 2)
    groups = world.json("dead", "list")
    assert [(g["actor"], g["cause"], g["count"]) for g in groups] == [("error-end", "not an envelope", 1),
                                                                     ("error-end", groups[1]["cause"], 1)]
    assert "'id'" in groups[1]["cause"] and groups[0]["oldest"] == groups[0]["newest"]
    text = world.out("dead", "list", "error-end")
    assert "not an envelope" in text and groups[0]["example"] in text
    (one,) = world.json("dead", "show", groups[0]["example"])
    assert one["base64"] == "Z2FyYmFnZSD/" and one["actor"] == "error-end"
    assert world.call("dead", "show", groups[0]["example"]).stdout == b"garbage \xff\n"
    end.terminate()
    assert end.wait(PATIENCE) == 0
    assert world.bodies("error-end", dead=True) == [b"garbage \xff", b'{"id": 5}']
    assert world.json("dead", "redrive", "error-end", "--type", "not an envelope") == [
        {"actor": "error-end", "to": "error-end", "redriven": 1, "other": 1, "left": 1, "interrupted": False}]
    assert world.bodies("error-end") == [b"garbage \xff"] and world.bodies("error-end", dead=True) == [b'{"id": 5}']
    hops = world.json("trace", groups[0]["example"])
    assert [h["outcome"] for h in hops] == ["dead", "redriven"]


def test_dead_list_groups_by_cause_and_changes_nothing(world):
    bodies = [failed("a", "net.Timeout"), failed("b", "KeyError"), failed("c", "net.Timeout"), envelope("d"), b"[1]"]
    world.post("infer", bodies, dead=True, queued_us=1700000000000000)
    groups = {g["cause"]: g for g in world.json("dead", "list", "infer")}
    assert {c: (g["count"], g["example"]) for c, g in groups.items() if g["example"] in "abcd"} == {
        "net.Timeout (processing_error)": (2, "a"), "KeyError (processing_error)": (1, "b"), "not recorded": (1, "d")}
    assert groups["not an envelope"]["count"] == 1
    assert groups["not recorded"]["oldest"] == "2023-11-14T22:13:20.000000Z" and groups["net.Timeout (processing_error)"]["type"] == "net.Timeout"
    assert world.bodies("infer", dead=True) == bodies and world.bodies("infer") == []
    assert "5 were looked at" not in world.err("dead", "list")
    assert "infer: 2 of 5 were looked at, as --limit says" in world.err("dead", "list", "-n", "2")


def test_dead_show_takes_the_first_ones_of_an_actor(world):
    world.post("infer", [envelope("m%d" % i) for i in range(8)], dead=True)
    assert [m["id"] for m in world.json("dead", "show", "--actor", "infer")] == ["m0", "m1", "m2", "m3", "m4"]
    assert [m["envelope"]["id"] for m in world.json("dead", "show", "--actor", "infer", "-n", "2")] == ["m0", "m1"]
    run = world.call("dead", "show", "m7")
    assert run.stdout == envelope("m7") + b"\n" and b"m7" in run.stderr
    assert "'m8' is not among the dead letters" in world.err("dead", "show", "m8", code=3)
    assert len(world.bodies("infer", dead=True)) == 8


def test_redrive_changes_one_header_and_no_other_byte(world):
    before = b'{ "id":"a" ,"route":{"actors":["infer"],"current":0}, "x":0.10,"headers":{"t":1,"asya-redrive":"1","asya-attempt":"4"},"payload":1e400}'
    world.post("infer", [before], dead=True)
    assert world.out("dead", "redrive", "infer") == "redrove 1 of the 1 dead letters of infer\n"
    after = before.replace(b'{"t":1,"asya-redrive":"1","asya-attempt":"4"}', b'{"t":1,"asya-redrive":"2"}')
    assert world.bodies("infer") == [after] and world.bodies("infer", dead=True) == []


def test_redrive_takes_those_that_were_asked_for(world):
    bodies = [failed("a", "net.Timeout"), failed("b", "KeyError"), failed("c", "Timeout"), failed("d", "Timeout")]
    world.post("infer", bodies, dead=True)
    world.post("spare", [], dead=False)
    assert world.json("dead", "redrive", "infer", "--type", "Timeout", "--limit", "2")[0]["redriven"] == 2
    assert [json.loads(b)["id"] for b in world.bodies("infer")] == ["a", "c"]
    assert world.bodies("infer", dead=True) == [bodies[1], bodies[3]]
    assert world.json("dead", "redrive", "infer", "--id", "d", "--to", "spare")[0]["to"] == "spare"
    assert [json.loads(b)["id"] for b in world.bodies("spare")] == ["d"]
    assert "'zz' is not among the dead letters of infer" in world.err("dead", "redrive", "infer", "--id", "zz", code=3)
    assert world.bodies("infer", dead=True) == [bodies[1]]


def test_redriven_message_counts_for_who_waits_for_its_root(pipeline):
    pipeline.post("split", [envelope("r1", {"numbers": [5]}, {"asya-root": "r1"}, ["split", "echo"])], dead=True)
    pipeline.call("dead", "redrive", "split")

    def ended():
        return subprocess.run([ASYA, "get", "r1"], env=pipeline.env, capture_output=True, cwd=pipeline.root).returncode == 0
    until(ended)
    hops = pipeline.json("trace", "r1")
    assert [h["outcome"] for h in hops] == ["redriven", "routed", "done", "final"] and hops[0]["detail"] == "split"
    assert json.loads(pipeline.out("get", "r1"))["headers"]["asya-redrive"] == "1"


def test_redrive_obeys_its_rate(world):
    world.post("infer", [envelope("m%d" % i) for i in range(12)], dead=True)
    begin = time.monotonic()
    world.call("dead", "redrive", "infer", "--rate", "20/s")
    assert time.monotonic() - begin >= 11 / 20
    assert [json.loads(b)["id"] for b in world.bodies("infer")] == ["m%d" % i for i in range(12)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_redrive_that_is_interrupted_loses_nothing_and_doubles_nothing(world, number):
    ids = ["m%d" % i for i in range(200)]
    world.post("infer", [envelope(i) for i in ids], dead=True)
    p = world.popen("dead", "redrive", "infer", "--rate", "100/s")
    until(lambda: len(world.bodies("infer")) >= 5)
    p.send_signal(number)
    out, err = p.communicate(timeout=PATIENCE)
    if number == signal.SIGINT:
        assert p.returncode == 1 and b"interrupted, the rest stays" in out, (out, err)
    there = [json.loads(b)["id"] for b in world.bodies("infer")]
    left = [json.loads(b)["id"] for b in world.bodies("infer", dead=True)]
    assert 5 <= len(there) < 200 and sorted(there + left) == sorted(ids)
    # Leases of a process that is gone are free again at once, so nothing of it waits for its time.
    world.call("dead", "redrive", "infer")
    assert sorted(json.loads(b)["id"] for b in world.bodies("infer")) == sorted(ids)


def test_redrive_of_many(world):
    world.post("infer", [envelope("m%d" % i) for i in range(2000)] + [b"junk"], dead=True)
    assert "redrove 2001 of the 2001" in world.out("dead", "redrive", "infer")
    assert len(world.bodies("infer")) == 2001 and world.bodies("infer")[-1] == b"junk"


# ---- validate ----

def manifests(kind):
    place = os.path.join(ROOT, "tests", "data", "manifests", kind)
    return place, sorted(f for f in os.listdir(place) if f.endswith(".yaml"))


def report_of(place, name):
    path = os.path.join(place, name[:-5] + ".txt")
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as f:
        return f.read()


def validate(place, *words, code, stdin=b""):
    run = subprocess.run([ASYA, "validate", *words], cwd=place, input=stdin, capture_output=True)
    assert run.returncode == code, run
    return run.stdout.decode()


def test_validate_says_what_the_reports_say():
    for kind, code in (("good", 0), ("bad", 2)):
        place, names = manifests(kind)
        for name in names:
            report = report_of(place, name)
            out = validate(place, name, code=code)
            assert out.startswith(report)
            errors, warnings = report.count(": error: "), report.count(": warning: ")
            rest = out[len(report):]
            assert rest.startswith(name + ": ") and rest.count("\n") == 1
            assert (f" {errors} error" in rest) == (errors > 0) and (f" {warnings} warning" in rest) == (warnings > 0)
            assert ("actor" in rest and ", ok" in rest) == (code == 0)


def test_validate_strict_makes_warnings_count():
    place, _ = manifests("good")
    assert validate(place, "smallest.yaml", "--strict", code=0) == "smallest.yaml: 1 actor, ok\n"
    assert validate(place, "no-handler.yaml", "--strict", code=2).endswith("no-handler.yaml: 1 actor, not ok, 1 warning\n")


def test_validate_takes_directories_and_standard_input(tmp_path):
    place, names = manifests("good")
    out = validate(place, ".", code=0)
    assert re.findall(r"^(\S+): \d+ actors?, ok", out, re.M) == ["./" + n for n in names]
    with open(os.path.join(place, "two-with-anchors.yaml"), "rb") as f:
        assert validate(place, "-", code=0, stdin=f.read()) == "(standard input): 2 actors, ok\n"
    for line in validate(place, ".", "--json", code=0).splitlines():
        assert json.loads(line)["errors"] == 0
    assert json.loads(validate(str(tmp_path), "none.yaml", "--json", code=2))["findings"][0]["message"].startswith("opening 'none.yaml'")
    assert validate(str(tmp_path), ".", code=2) == ""


# ---- completion ----

BASH = 'source "$1"; COMP_WORDS=("${@:2}"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _asya; printf "%s\\n" "${COMPREPLY[@]}"'


def complete(world, *words):
    script = os.path.join(world.root, "completion.bash")
    with open(script, "wb") as f:
        f.write(world.call("completion", "bash").stdout)
    run = subprocess.run(["bash", "-c", BASH, "bash", script, ASYA, *words], env=world.env, capture_output=True, text=True, cwd=world.root)
    assert run.returncode == 0 and not run.stderr, run
    return sorted(run.stdout.split())


def test_bash_completes_commands_options_words_files_and_actors(world):
    world.post("infer", [b"x"])
    world.post("index", [b"x"])
    with open(os.path.join(world.root, "file.yaml"), "wb"):
        pass
    assert complete(world, "se") == ["send"]
    assert set(COMMANDS) <= set(complete(world, ""))
    assert complete(world, "send", "--pay") == ["--payload"] and complete(world, "send", "--di") == ["--dir"]
    assert complete(world, "send", "--route", "in") == ["index", "infer"]
    assert complete(world, "send", "-r", "prep,inf") == ["prep,infer"]
    assert complete(world, "send", "--route", "=", "inf") == ["infer"]
    assert complete(world, "send", "--payload", "@fi") == ["@file.yaml"]
    assert complete(world, "dead", "re") == ["redrive"]
    assert complete(world, "dead", "--limit", "3", "redrive", "inf") == ["infer"]
    assert complete(world, "validate", "fi") == ["file.yaml"] and complete(world, "validate", "a.yaml", "fi") == ["file.yaml"]
    assert complete(world, "completion", "") == ["bash", "fish", "zsh"]
    assert complete(world, "help", "tr") == ["trace"]
    assert complete(world, "get", "x") == []
    assert complete(world, "send", "--dir", os.path.join(world.root, "nowhere"), "--route", "in") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_every_command_and_option(world, shell):
    text = world.out("completion", shell)
    for name in COMMANDS:
        assert name in text
        for line in world.out("help", name).split("\n"):
            word = next((w for w in line.split() if w.startswith("--")), None) if line.startswith("  -") else None
            assert not word or (("-l " + word[2:]) if shell == "fish" else word) in text
    which = subprocess.run(["which", shell], capture_output=True, text=True).stdout.strip()
    if which:
        assert subprocess.run([which, "-n"], input=text, capture_output=True, text=True).stderr == ""


# ---- words, pipes, pages ----

@pytest.mark.parametrize("words,code,says", [
    (["sned"], 2, "there is no command 'sned'; did you mean send?"),
    (["zzz"], 2, "there is no command 'zzz'; `asya help` lists them"),
    (["help", "traec"], 2, "did you mean trace?"),
    (["get"], 2, "usage: asya get [OPTION...] ID"),
    (["get", "a", "b"], 2, "usage: asya get"),
    (["get", "a", "--payloda"], 2, "did you mean --payload?"),
    (["trace"], 2, "usage: asya trace"),
    (["trace", "nothing"], 3, "the history has no hop of 'nothing'"),
    (["get", "nothing"], 3, "nothing is known of 'nothing'"),
    (["get", "nothing", "--all"], 3, "nothing is known of 'nothing'"),
    (["queues", "x"], 2, "usage: asya queues"),
    (["queues", "--transport", "sqss"], 2, "there is no transport 'sqss'; there are: local"),
    (["dead"], 2, "usage: asya dead"),
    (["dead", "lst"], 2, "did you mean list?"),
    (["dead", "list", "infre"], 3, "there is no queue 'infre'; did you mean infer?"),
    (["dead", "list", "zzzzz"], 3, "there is no queue 'zzzzz'; there are: infer"),
    (["dead", "redrive"], 2, "needs the actor"),
    (["dead", "redrive", "zzzzz"], 3, "there are: infer"),
    (["dead", "redrive", "infer", "--to", "infre"], 3, "did you mean infer?"),
    (["dead", "redrive", "infer", "--rate", "fast"], 2, "--rate is 'fast'"),
    (["dead", "redrive", "infer", "--rate", "0"], 2, "--rate is '0'"),
    (["dead", "redrive", "infer", "--limit", "0"], 2, "--limit is '0'"),
    (["dead", "list", "--rate", "1/s"], 2, "--rate is not for `dead list`"),
    (["dead", "show"], 2, "needs an ID"),
    (["validate"], 2, "usage: asya validate"),
    (["completion", "bsh"], 2, "did you mean bash?"),
])
def test_wrong_words_name_what_is_right(world, words, code, says):
    world.post("infer", [envelope("a")])
    run = world.call(*words, code=code)
    assert says in run.stderr.decode() and run.stderr.startswith(b"asya: ") and not run.stdout


@pytest.mark.parametrize("words", [["queues"], ["get", "a"], ["trace", "a"], ["dead", "list"]])
def test_looking_makes_no_directory(world, words):
    assert "there are no queues in" in world.err(*words, code=3)
    assert not os.path.exists(world.dir)


def test_help_of_every_command_has_examples(world):
    for name in COMMANDS:
        assert f"  asya {name}" in world.out("help", name) or f"asya {name}" in world.out(name, "--help")
        assert name in world.out("help")


def test_pipe_that_closes_ends_quietly_and_a_full_disk_does_not(pipeline):
    for words in (["trace", "warm"], ["queues"], ["queues", "--watch"], ["dead", "list"], ["get", "warm"], ["completion", "bash"]):
        r, w = os.pipe()
        os.close(r)
        p = pipeline.popen(*words, stdout=w)
        os.close(w)
        _, err = p.communicate(timeout=PATIENCE)
        assert p.returncode == 0 and err == b"", (words, p.returncode, err)
    with open("/dev/full", "wb") as full:
        p = pipeline.popen("completion", "bash", stdout=full)
        _, err = p.communicate(timeout=PATIENCE)
        assert p.returncode == 5 and b"writing to standard output" in err


def test_settings_document_is_what_the_programs_say():
    text = subprocess.run([SIDECAR, "--markdown"], capture_output=True, check=True).stdout
    with open(os.path.join(ROOT, "docs", "settings.md"), "rb") as f:
        assert f.read() == text, "docs/settings.md is not what the tables say: run make docs"


def test_man_pages_are_made_and_name_every_command():
    for name in ("asya", "asya-sidecar"):
        with open(os.path.join(BUILD, "man", name + ".1"), encoding="ascii") as f:
            page = f.read()
        assert page.startswith(".TH ") and ".SH NAME\n" + name.replace("-", "\\-") + " \\- " in page
        if subprocess.run(["which", "groff"], capture_output=True).stdout:
            run = subprocess.run(["groff", "-man", "-ww", "-Tutf8", "-z"], input=page, text=True, capture_output=True)
            assert run.returncode == 0 and run.stderr == ""
        for command in COMMANDS if name == "asya" else ["ENVIRONMENT"]:
            assert command in page
