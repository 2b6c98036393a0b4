# SPDX-License-Identifier: Apache-2.0
"""The actors of examples/docs-search over this repository's own documents, in this process and as several."""
import glob
import inspect
import json
import math
import os
import re
import sqlite3
import subprocess
import sys

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
DEMO = os.path.join(ROOT, "examples", "docs-search")
sys.path.insert(0, DEMO)
actors = __import__("actors")
docs_text = __import__("docs_text")

DOCS = [os.path.relpath(p, ROOT) for name in ("*.md", "docs/**/*.md") for p in sorted(glob.glob(os.path.join(ROOT, name), recursive=True))]


def through(handler, payload):
    """What a handler makes of a payload that came over a queue: a list of payloads."""
    out = handler(json.loads(json.dumps(payload)))
    out = list(out) if inspect.isgenerator(out) else [] if out is None else [out]
    return json.loads(json.dumps(out))


def passages_of(payload):
    return [e for d in through(actors.read, payload) for p in through(actors.split, d) for e in through(actors.embed, p)]


def ask(question):
    return through(actors.answer, through(actors.retrieve, {"question": question})[0])[0]


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCS_INDEX", str(tmp_path / "index.sqlite3"))
    return str(tmp_path / "index.sqlite3")


@pytest.fixture
def filled(index):
    for path in DOCS:
        for passage in passages_of({"path": path, "root": ROOT}):
            assert through(actors.index, passage) == [{"doc": path, "line": passage["line"], "indexed": True}]
    return index


def rows(index):
    db = sqlite3.connect(index)
    counts = [db.execute("SELECT count(*) FROM " + table).fetchone()[0] for table in ("passages", "words", "vectors")]
    db.close()
    return counts


def questions():
    with open(os.path.join(DEMO, "questions.jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def test_questions_find_the_expected_words_and_no_answer_where_there_is_none(filled):
    for question in questions():
        found = ask(question["question"])
        assert set(found) == {"question", "answer", "passages"} and found["question"] == question["question"]
        if not question["expect"]:
            assert found["answer"] is None and found["passages"] == []
            continue
        said = " ".join([found["answer"]] + [p["text"] for p in found["passages"]])
        assert any(word in said for word in question["expect"]), (question, found)
        assert all(set(p) == {"doc", "line", "text", "score"} for p in found["passages"])


@pytest.mark.parametrize("question,words", [
    ("How should a bug fix begin?", "failing test"), ("Where do I report a vulnerability?", "advisories"),
    ("serving after sigterms", "SIGTERM")])
def test_answer_itself_says_it(filled, question, words):
    assert words in ask(question)["answer"]


@pytest.mark.parametrize("question", [
    "Who won the football world cup?", "How do I bake bread?", "the of and", "???", "\u4eca\u65e5\u306f\u5929\u6c17\u304c\u3044\u3044"])
def test_question_about_something_else_has_no_answer(filled, question):
    assert ask(question)["answer"] is None


def test_empty_index_has_no_answer(index):
    assert ask("How should a bug fix begin?")["answer"] is None


def test_passages_are_ranked_best_first_and_k_of_them(filled):
    for k in (1, 3, 50):
        found = through(actors.retrieve, {"question": "connection between sidecar and runtime", "k": k})[0]["passages"]
        scores = [p["score"] for p in found]
        assert scores == sorted(scores, reverse=True) and 0 < len(found) <= k
        assert all(0 <= s <= 1 for s in scores)


@pytest.mark.parametrize("payload", [{}, {"question": " "}, {"question": 5}, {"question": "x" * 2001}, {"question": "x", "k": 0},
                                     {"question": "x", "k": 51}, {"question": "x", "k": "3"}])
def test_bad_question_is_an_error(index, payload):
    with pytest.raises(ValueError):
        actors.retrieve(payload)


def test_passage_that_comes_again_is_not_indexed_again(filled):
    before = rows(filled)
    for path in DOCS:
        for passage in passages_of({"path": path, "root": ROOT}):
            actors.index(passage)
    assert before[0] > 5 and rows(filled) == before
    actors.index(dict(passage, line=passage["line"] + 1))
    assert rows(filled)[0] == before[0] + 1


def test_processes_that_index_the_same_at_once_make_one_index(index, tmp_path):
    work = tmp_path / "passages.jsonl"
    work.write_text("".join(json.dumps(p) + "\n" for path in DOCS for p in passages_of({"path": path, "root": ROOT})))
    program = "import sys, json, actors\nfor line in open(sys.argv[1]): actors.index(json.loads(line))"
    running = [subprocess.Popen([sys.executable, "-c", program, str(work)], cwd=DEMO) for _ in range(4)]
    assert [p.wait(60) for p in running] == [0] * 4
    together = rows(index)
    assert together[0] == len(work.read_text().splitlines())
    for line in work.read_text().splitlines():
        actors.index(json.loads(line))
    assert rows(index) == together


def all_texts():
    out = subprocess.run(["git", "-C", ROOT, "ls-files", "*.md", "*.c", "*.h", "*.py", "*.yaml", "*.build"], capture_output=True,
                         text=True, check=True)
    for path in out.stdout.split():
        for document in through(actors.read, {"path": path, "root": ROOT}):
            yield document


def test_split_covers_the_whole_of_every_text():
    count = 0
    for document in all_texts():
        lines = document["text"].split("\n")
        parts = through(actors.split, document)
        assert "\n".join(p["passage"] for p in parts).split() == document["text"].split(), document["doc"]
        for p in parts:
            assert lines[p["line"] - 1].startswith(p["passage"].split("\n")[0])
            assert 0 < len(p["passage"].split()) <= docs_text.WORDS_MAX
        count += len(parts)
    assert count > 100


def test_split_ends_at_headings_and_names_them():
    text = "# One\n\n" + "word " * 50 + "\n\n## Two\n\n```\n# no heading\n```\n" + "more " * 60 + "\n# Three\nend\n"
    parts = through(actors.split, {"doc": "a.md", "text": text})
    assert [(p["heading"], p["line"]) for p in parts] == [("One", 1), ("One > Two", 5), ("Three", 11)]
    assert through(actors.split, {"doc": "a.py", "text": "# comment\nx = 1\n"})[0]["heading"] == ""


def test_embedding_is_a_unit_vector_and_near_for_near_texts():
    def cosine(a, b):
        b = dict(map(tuple, b))
        return sum(w * b.get(i, 0) for i, w in a)
    one, near, far = (docs_text.embed(t) for t in (
        "The sidecar closes its connections", "a connection that sidecars are closing", "Bread is baked from flour"))
    assert abs(math.sqrt(sum(w * w for _, w in one)) - 1) < 1e-3
    assert [i for i, _ in one] == sorted({i for i, _ in one}) and all(0 <= i < docs_text.DIMENSIONS for i, _ in one)
    assert cosine(one, near) > 0.5 > 0.2 > cosine(one, far)
    assert docs_text.embed("connection failed")[0] and docs_text.embed("") == []


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\x00\x01binary", b"\xff\xfe\x00", "caf\xe9".encode("latin-1"), b"x" * (actors.MAX_BYTES + 1)])
def test_what_is_no_text_is_skipped(tmp_path, data):
    (tmp_path / "f.txt").write_bytes(data)
    assert actors.read({"path": "f.txt", "root": str(tmp_path)}) is None


def test_what_is_no_plain_file_is_skipped_and_what_is_outside_refused(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    (tmp_path / "root").mkdir()
    os.symlink("/etc/passwd", str(tmp_path / "root" / "link"))
    assert actors.read({"path": "pipe", "root": str(tmp_path)}) is None
    assert actors.read({"path": ".", "root": str(tmp_path)}) is None
    for path in ("../pipe", "/etc/passwd", "link"):
        with pytest.raises(ValueError):
            actors.read({"path": path, "root": str(tmp_path / "root")})
    with pytest.raises(FileNotFoundError):
        actors.read({"path": "nothing", "root": str(tmp_path)})


@pytest.mark.parametrize("text", [
    "x" * 500000, "word " * 100000, "a\r\nb\r\rc\n", "\ufeff# Title\n\ntext", "\u4eca\u65e5 \U0001f600 \u0645\u0631\u062d\u0628\u0627 na\u00efve",
    "#\n##\n###### \n", "```\nnever closed\n# x", "| a |\n|---|\n| |", "- \n- \n* x", "'" * 3000, "\x0c\x0b\x85\u2028x", "_ __ _a_ A_B"])
def test_odd_texts_go_all_the_way(index, tmp_path, text):
    (tmp_path / "odd.md").write_bytes(text.encode())
    document = through(actors.read, {"path": "odd.md", "root": str(tmp_path)})[0]
    assert "\r" not in document["text"] and not document["text"].startswith("\ufeff")
    parts = through(actors.split, document)
    assert "".join("".join(p["passage"].split()) for p in parts) == "".join(document["text"].split())
    assert all(len(p["passage"]) <= 2 * docs_text.CHARACTERS_MAX for p in parts)
    for passage in [e for p in parts for e in through(actors.embed, p)][:20]:
        actors.index(passage)
    ask(text[:100] + "?")


def test_manifests_name_handlers_that_exist():
    with open(os.path.join(DEMO, "actors.yaml"), encoding="utf-8") as f:
        documents = f.read().split("\n---\n")
    handlers = [re.search(r"value: actors\.(\w+)", d).group(1) for d in documents]
    assert handlers == ["read", "split", "embed", "index", "retrieve", "answer"]
    assert all(callable(getattr(actors, name)) and getattr(actors, name).__doc__ for name in handlers)
