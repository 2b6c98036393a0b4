# SPDX-License-Identifier: Apache-2.0
"""Text without a library: words, stems, an embedding, passages, sentences. Pure functions.

The embedding is a sparse vector of 2^15 dimensions. Words, pairs of words and letter groups of words are hashed into it:
words carry most of the weight, pairs the order, and letter groups let "connection" come near "connecting" and a misspelling
near its word. No training and no download, and the same text always makes the same vector.
"""
import math
import re
import zlib

DIMENSIONS = 1 << 15
WORDS_MIN, WORDS_MAX = 80, 160  # of a passage
CHARACTERS_MAX = 2000           # of a passage, for text that has no words to count
SECTION_MIN = 40                # a heading begins a new passage once the one before has so many words

STOP = frozenset("""
a about above after again all also am an and any are as at be because been before being below between both but by can cannot
could did do does doing down during each else ever every few for from further get give given had has have having he her here
hers him his how i if in into is it its itself just let like may me might more most much my no nor not of off on once only or
other our ours out over own per same shall she should so some such than that the their theirs them then there these they this
those through to too under until up us very was we were what when where whether which while who whom whose why will with
would you your yours happen happens mean means tell
""".split())

WORD = re.compile(r"\w+", re.UNICODE)
HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
FENCE = re.compile(r"^\s*(```|~~~)")
BULLET = re.compile(r"^\s*([-*+]|\d+[.)])\s+")
RULE = re.compile(r"^[\s|:=*_+-]*$")
SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9`\"'(\[])")


def stem(word):
    """A word's stem, roughly: plural, -ing, -ed, -ly and a silent e go."""
    if len(word) < 4 or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "xes", "ches", "shes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for end in ("ing", "ed", "ly"):
        if word.endswith(end) and len(word) - len(end) >= 3 and re.search("[aeiouy]", word[:-len(end)]):
            word = word[:-len(end)]
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def terms(text):
    """The stems of a text in order, without stop words; ASYA_RUNTIME_TIMEOUT counts whole and in its parts."""
    out = []
    for word in WORD.findall(text.lower()):
        parts = [p for p in word.split("_") if p]
        if len(parts) > 1:
            out.append(word)
        out.extend(stem(p) for p in parts if p not in STOP and len(p) <= 64)
    return out


def embed(text):
    """The text's vector, [[index, weight], ...] in order of index, of length 1; [] if it has no words."""
    counts = {}
    found = terms(text)

    def count(feature, weight):
        seen = counts.setdefault(feature, [0, weight])
        seen[0] += 1
    for one, two in zip(found, found[1:] + [None]):
        count("w " + one, 1.0)
        if two is not None:
            count("p " + one + " " + two, 0.5)
        edged = "^" + one + "$"
        for n in (3, 4):
            for at in range(len(edged) - n + 1):
                count("l " + edged[at:at + n], 0.2)
    vector = {}
    for feature, (seen, weight) in counts.items():
        index = zlib.crc32(feature.encode("utf-8", "replace")) % DIMENSIONS
        vector[index] = vector.get(index, 0.0) + weight * (1.0 + math.log(seen))
    norm = math.sqrt(sum(w * w for w in vector.values()))
    return [[i, round(w / norm, 5)] for i, w in sorted(vector.items())]


def _pieces(line):
    """A line in pieces that fit into a passage: nearly always the line itself."""
    if len(line) <= CHARACTERS_MAX and len(line.split()) <= WORDS_MAX:
        return [line]
    pieces, words, size = [], [], 0
    for word in line.split():
        for part in (word[i:i + CHARACTERS_MAX] for i in range(0, len(word), CHARACTERS_MAX)):
            if words and (len(words) >= WORDS_MAX or size + len(part) > CHARACTERS_MAX):
                pieces.append(" ".join(words))
                words, size = [], 0
            words.append(part)
            size += len(part) + 1
    return pieces + ([" ".join(words)] if words else [])


def _marked(lines, markdown):
    """Yields (number, line, depth and title of the heading or None, whether a passage may well end before this line)."""
    fenced, blank = False, True
    for number, line in enumerate(lines, 1):
        if FENCE.match(line):
            fenced = not fenced
        heading = HEADING.match(line) if markdown and not fenced else None
        good = blank or bool(BULLET.match(line)) or line.startswith("|")
        blank = not line.strip()
        if not blank:
            yield number, line, (len(heading.group(1)), heading.group(2)) if heading else None, good and not fenced


def passages(text, markdown=True):
    """Cuts a text into passages of 80 to 160 words where it can: at headings, else between paragraphs, list items or lines.
    Yields (line, heading, passage); the heading is the path to it, `Chapter > Section`. Every line that is not blank is in
    exactly one passage; one that is too long for a passage is in several."""
    path, kept, words, size, first, title = [], [], 0, 0, 0, ""
    for number, line, heading, good in _marked(text.split("\n"), markdown):
        if heading:
            path = [h for h in path if h[0] < heading[0]] + [heading]
        for piece in _pieces(line.rstrip()):
            n = len(piece.split())
            full = words + n > WORDS_MAX or size + len(piece) > CHARACTERS_MAX
            if kept and (full or (heading and words >= SECTION_MIN) or (good and words >= WORDS_MIN)):
                yield first, title, "\n".join(kept)
                kept, words, size = [], 0, 0
            if not kept:
                first, title = number, " > ".join(h[1] for h in path)
            kept.append(piece)
            words, size = words + n, size + len(piece) + 1
    if kept:
        yield first, title, "\n".join(kept)


def sentences(passage):
    """The sentences of a passage; headings, list items and table rows are sentences of their own."""
    units, code = [], False
    fresh = True
    for line in passage.split("\n"):
        bare = BULLET.sub("", line.strip())
        if line.startswith("|"):
            bare = " | ".join(cell.strip() for cell in line.split("|") if cell.strip())
        if FENCE.match(line):
            code, fresh = not code, True
            continue
        if RULE.match(line):
            fresh = True
            continue
        if fresh or code or BULLET.match(line) or line.startswith(("|", "#", "    ")) or not units:
            units.append(bare)
        else:
            units[-1] += " " + bare
        fresh = line.startswith(("|", "#", "    "))
    for unit in units:
        for sentence in SENTENCE.split(unit):
            if sentence.strip():
                yield " ".join(sentence.split())
