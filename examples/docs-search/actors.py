# SPDX-License-Identifier: Apache-2.0
"""The actors of a search over documents. Plain functions: a payload comes in, what is returned goes on to the next actor.

    files:      read -> split -> embed -> index
    questions:  retrieve -> answer

Nothing here knows about queues, routes or retries, and nothing is imported that Python (3.7 or later) does not bring along.
"""
import os
import stat

import docs_index
import docs_text

MAX_BYTES = 1 << 20   # of a file; larger ones are skipped
MAX_QUESTION = 2000   # characters
PASSAGES, PASSAGES_MAX = 5, 50
RELEVANT = 0.4        # the share of the question's words, by rarity, that a passage must have to count as an answer
MARKDOWN = (".md", ".markdown", ".rst", ".txt", "")


def read(payload):
    """{"path": file, "root": directory} -> {"doc": path below root, "text": ...}

    Skips (None ends the message's way) what is empty, larger than a mebibyte, no plain file, or not UTF-8 text. A path that
    leads out of the root is a ValueError."""
    root = os.path.realpath(payload.get("root") or ".")
    path = os.path.realpath(os.path.join(root, payload["path"]))
    if path != root and not path.startswith(os.path.join(root, "")):
        raise ValueError("path '%s' leads out of root '%s'" % (payload["path"], root))
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_BYTES:
        return None
    with open(path, "rb") as f:
        data = f.read(MAX_BYTES + 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if len(data) > MAX_BYTES or "\0" in text or not text.strip():
        return None
    return {"doc": os.path.relpath(path, root), "text": text.replace("\r\n", "\n").replace("\r", "\n")}


def split(payload):
    """{"doc", "text"} -> many {"doc", "heading", "passage", "line"}, each a message of its own."""
    markdown = os.path.splitext(payload["doc"])[1].lower() in MARKDOWN
    for line, heading, passage in docs_text.passages(payload["text"], markdown):
        yield {"doc": payload["doc"], "heading": heading, "passage": passage, "line": line}


def embed(payload):
    """A passage -> the same with "v": its vector, [[index, weight], ...], of length 1."""
    return dict(payload, v=docs_text.embed(payload["heading"] + "\n" + payload["passage"]))


def index(payload):
    """A passage with its vector -> {"doc", "line", "indexed": true}, and it is in the index, once, however often it comes."""
    docs_index.add(payload["doc"], payload["line"], payload["heading"], payload["passage"], payload["v"])
    return {"doc": payload["doc"], "line": payload["line"], "indexed": True}


def retrieve(payload):
    """{"question", "k"?} -> {"question", "words": {stem: rarity}, "passages": [{"doc", "line", "heading", "text", "score",
    "coverage"}]}, the k (5) best passages, best first."""
    question, k = payload.get("question"), payload.get("k", PASSAGES)
    if not isinstance(question, str) or not question.strip() or len(question) > MAX_QUESTION:
        raise ValueError("question must be a text of 1 to %d characters" % MAX_QUESTION)
    if not isinstance(k, int) or not 1 <= k <= PASSAGES_MAX:
        raise ValueError("k must be a number from 1 to %d, not %r" % (PASSAGES_MAX, k))
    found, words = docs_index.search(question, k)
    return {"question": question, "words": words, "passages": found}


def _rated(words, passages):
    """(score, passage's place, sentence's place, sentence, its terms of the question) of each sentence."""
    whole = sum(words.values()) or 1.0
    for place, passage in enumerate(passages):
        context = set(docs_text.terms(passage["heading"]))
        trust = 0.5 + 0.5 * passage["score"] / (passages[0]["score"] or 1.0)
        for at, sentence in enumerate(docs_text.sentences(passage["text"])):
            has = set(docs_text.terms(sentence))
            hit = {w for w in words if w in has}
            score = sum(words[w] for w in hit) + 0.3 * sum(words[w] for w in words if w in context and w not in hit)
            short = sentence.startswith("#") or len(sentence.split()) < 4
            yield score / whole * trust * (0.4 if short else 1.0), place, at, sentence, hit


def answer(payload):
    """{"question", "words", "passages"} -> {"question", "answer", "passages": [{"doc", "line", "text", "score"}]}

    The answer is the one or two sentences that say most of what the question asks; null, without passages, when no passage has
    enough of the question's words."""
    words = payload["words"]
    passages = [p for p in payload["passages"] if p["coverage"] >= RELEVANT]
    rated = sorted(_rated(words, passages), key=lambda r: (-r[0], r[1], r[2]))
    if not rated:
        return {"question": payload["question"], "answer": None, "passages": []}
    best = [rated[0]]
    for other in rated[1:]:
        if other[0] >= 0.5 * rated[0][0] and (other[4] - rated[0][4] or other[1:3] == (rated[0][1], rated[0][2] + 1)):
            best.append(other)
            break
    best.sort(key=lambda r: r[1:3])
    return {"question": payload["question"], "answer": " ".join(r[3] for r in best),
            "passages": [{"doc": p["doc"], "line": p["line"], "text": p["text"], "score": p["score"]} for p in passages]}
