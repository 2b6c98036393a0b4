# SPDX-License-Identifier: Apache-2.0
"""The index of the passages: an SQLite file that any number of processes read and write at once.

It is `DOCS_INDEX`, else `docs-index.sqlite3` in `ASYA_LOCAL_DIR` (the directory of the local transport), else the same in the
current directory.
"""
import hashlib
import json
import math
import os
import sqlite3
import threading
import time
from collections import Counter

import docs_text

K1, B = 1.4, 0.6  # BM25: how soon repetition stops counting, how much length counts
WORDS, VECTOR = 0.7, 0.3  # the shares of BM25 and of the embedding in a score
UNSEEN = 1.6  # what a word that is in no passage counts at most, in rarities of the rarest that is

SCHEMA = """
CREATE TABLE IF NOT EXISTS passages (id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, doc TEXT NOT NULL, line INTEGER NOT NULL,
    heading TEXT NOT NULL, text TEXT NOT NULL, words INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS words (term TEXT, passage INTEGER, n INTEGER, PRIMARY KEY (term, passage)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors (dimension INTEGER, passage INTEGER, weight REAL, PRIMARY KEY (dimension, passage)) WITHOUT ROWID;
"""

_local = threading.local()


def path():
    return os.environ.get("DOCS_INDEX") or os.path.join(os.environ.get("ASYA_LOCAL_DIR") or ".", "docs-index.sqlite3")


def _connect(file):
    db = sqlite3.connect(file, timeout=30, isolation_level=None)
    for attempt in range(100):
        try:
            # Not under the busy timeout: two that switch a new file at once refuse each other.
            db.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:
            if attempt == 99:
                raise
            time.sleep(0.02)
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA.split(";"):
        db.execute(statement)
    db.execute("COMMIT")
    return db


def database():
    """This thread's connection, made anew after a fork: SQLite's must not cross one."""
    key = (os.getpid(), path())
    if getattr(_local, "key", None) != key:
        _local.db = _connect(key[1])
        _local.key = key
    return _local.db


def add(doc, line, heading, text, vector):
    """Adds a passage, all of it or nothing. False if it was there already: messages may come twice."""
    digest = hashlib.sha256(json.dumps([doc, line, text]).encode()).hexdigest()
    counts = Counter(docs_text.terms(heading + "\n" + text))
    db = database()
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("SELECT 1 FROM passages WHERE hash = ?", (digest,)).fetchone():
            return False
        made = db.execute("INSERT INTO passages (hash, doc, line, heading, text, words) VALUES (?, ?, ?, ?, ?, ?)",
                          (digest, doc, line, heading, text, sum(counts.values()))).lastrowid
        db.executemany("INSERT INTO words VALUES (?, ?, ?)", [(t, made, n) for t, n in counts.items()])
        db.executemany("INSERT INTO vectors VALUES (?, ?, ?)", [(i, made, w) for i, w in vector])
        return True
    finally:
        db.execute("COMMIT")


def _rarity(total, having):
    return math.log(1.0 + (total - having + 0.5) / (having + 0.5))


def _by_words(db, wanted, total, mean):
    """BM25 of each passage that has one of the terms, the share of the question's rarity that it covers, and the rarities."""
    score, covered, rarity, seen = {}, {}, {}, {}
    for term in wanted:
        rows = db.execute("SELECT w.passage, w.n, p.words FROM words w JOIN passages p ON p.id = w.passage WHERE w.term = ?",
                          (term,)).fetchall()
        rarity[term] = _rarity(total, len(rows))
        if rows:
            seen[term] = rarity[term]
        for passage, n, words in rows:
            damped = n * (K1 + 1) / (n + K1 * (1 - B + B * words / mean))
            score[passage] = score.get(passage, 0.0) + rarity[term] * damped
            covered[passage] = covered.get(passage, 0.0) + rarity[term]
    # A word that is nowhere is often just another word for the same thing: it counts, but not as much as its rarity.
    rarity = {t: r if t in seen else min(r, UNSEEN * max(seen.values(), default=r)) for t, r in rarity.items()}
    whole = sum(rarity.values()) or 1.0
    return score, {p: c / whole for p, c in covered.items()}, rarity


def _by_vector(db, vector, total):
    """The cosine between the question and each passage, dimensions weighted by how few passages have them."""
    score, length = {}, 0.0
    for dimension, weight in vector:
        rows = db.execute("SELECT passage, weight FROM vectors WHERE dimension = ?", (dimension,)).fetchall()
        rarity = _rarity(total, len(rows))
        length += (weight * rarity) ** 2
        for passage, other in rows:
            score[passage] = score.get(passage, 0.0) + weight * other * rarity * rarity
    return {p: s / math.sqrt(length) for p, s in score.items()}


def search(question, k):
    """The k best passages, best first, each with a `score` from 0 to 1 and the `coverage` of the question's words; and how
    much each of these words tells."""
    db = database()
    vector = docs_text.embed(question)
    db.execute("BEGIN")
    try:
        total, mean = db.execute("SELECT count(*), coalesce(avg(words), 1) FROM passages").fetchone()
        words, coverage, rarity = _by_words(db, sorted(set(docs_text.terms(question))), total, max(mean, 1.0))
        near = _by_vector(db, vector, total)
        top_words, top_near = max(words.values(), default=0) or 1.0, max(near.values(), default=0) or 1.0
        score = {p: (WORDS * words.get(p, 0) / top_words + VECTOR * near.get(p, 0) / top_near) * (1 + coverage.get(p, 0)) / 2
                 for p in set(words) | set(near)}
        best = sorted(score, key=lambda p: (-score[p], p))[:k]
        found = []
        for passage in best:
            doc, line, heading, text = db.execute("SELECT doc, line, heading, text FROM passages WHERE id = ?", (passage,)).fetchone()
            found.append({"doc": doc, "line": line, "heading": heading, "text": text, "score": round(score[passage], 4),
                          "coverage": round(coverage.get(passage, 0.0), 4)})
    finally:
        db.execute("COMMIT")
    return found, {term: round(weight, 4) for term, weight in rarity.items()}
