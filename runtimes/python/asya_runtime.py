#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python runtime of Asya: serves one handler on a unix socket, for the sidecar next to it.

One file, standard library only, Python 3.7 and later, Linux. `python3 asya_runtime.py --help` prints
its variables. docs/runtime-protocol.md has the wire; both protocol versions are spoken.

Handlers
    ASYA_HANDLER names a function, or a method of a class that is made once per worker. Either may be
    plain, async, a generator or an async generator. In payload mode it gets the payload, in envelope
    mode the whole envelope, whose `route.current` it advances itself; of an envelope that it returns,
    payload, route and headers travel, and headers left out stay what they were. What it returns:

    - None or [] ends the envelope here; a list is a fan-out, one envelope for each element;
    - anything else is one value. Only `list` fans out: a tuple is one JSON array;
    - a generator's values are one envelope each, None and lists too; its `return` value, if there is
      one, is treated like that of a plain function.

    Numbers that a handler passes on untouched keep every digit. Whatever it raises, SystemExit and
    KeyboardInterrupt included, costs that message only.

Processes
    The parent never imports user code. It accepts connections and keeps them parked until they have
    bytes to read; then it lends each to a free worker, by passing the descriptor on. A worker keeps
    its connection over any number of requests and talks to the sidecar directly. Only when another
    connection waits and no worker is free does the parent ask for one back, which the worker gives
    between two requests, once it has answered all that it has read. So idle connections hold nobody up, and busy ones take turns.

    The parent keeps a descriptor of every connection. Hanging up during a request means cancel: the
    worker is killed with its process group, unless it finishes within CANCEL_GRACE, and replaced.
    Whether a request is under way is a byte in shared memory, so that no slow but idle worker dies.
    When a worker dies, its connection is shut down: the sidecar sees the end of the stream.

What it refuses to do: keep messages, retry, time handlers out, or log payloads. That is the
sidecar's.
"""

import collections
import errno
import importlib
import inspect
import json
import logging
import mmap
import os
import re
import select
import signal
import socket
import stat
import struct
import sys
import time
import traceback
import types

SOCKET_NAME = "asya-runtime.sock"
READY_NAME = "runtime-ready"
PROGRAM = "asya-runtime"
CANCEL_GRACE = 0.2  # seconds for a handler whose caller hung up to finish by itself
QUIET = 1.0  # seconds without a connection after SIGTERM before it stops
EXIT_GRACE = 2.0  # seconds for idle workers to leave by themselves
BACKOFF_FIRST, BACKOFF_MAX = 0.1, 10.0  # seconds before a worker that keeps dying is replaced
MAX_CONNECTIONS = 256  # accepted at the same time; the rest waits in the kernel
MAX_TEXT = 12288  # characters of an error's message, and of its traceback: together less than 64 KiB
CHUNK = 65536
AHEAD = 32  # requests that a connection may carry: those behind the first wait in the socket and in a worker
FLUSH = 262144  # bytes of items gathered before they are sent
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}


# ---- Settings ---------------------------------------------------------------------------------


def parse_handler(text):
    if not re.fullmatch(r"[a-zA-Z_]\w*(\.[a-zA-Z_]\w*)+", text):
        raise ValueError("must be module.func or module.Class.method")
    return text


def parse_mode(text):
    if text.lower() not in ("payload", "envelope"):
        raise ValueError("must be payload or envelope")
    return text.lower()


def parse_dir(text):
    if not text.startswith("/"):
        raise ValueError("must be an absolute path")
    room = 107 - len("/" + SOCKET_NAME)  # sockaddr_un
    if len(os.fsencode(text)) > room:
        raise ValueError("must be at most %d bytes, the system's limit for a socket's path" % room)
    return text


def parse_chmod(text):
    if text == "":
        return None
    if not re.fullmatch(r"(0o)?0?[0-7]{3}", text):
        raise ValueError("must be an octal mode such as 0o666, or empty to keep what the umask makes")
    return int(text[-3:], 8)


def parse_bool(text):
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true, 1, yes, on, or false, 0, no, off")


def parse_level(text):
    name = {"WARN": "WARNING", "CRITICAL": "ERROR"}.get(text.upper(), text.upper())
    if name not in LEVELS:
        raise ValueError("must be one of %s" % ", ".join(LEVELS))
    return name


def parse_int(low, high):
    def parse(text):
        if not re.fullmatch(r"[0-9]{1,10}", text) or not low <= int(text) <= high:
            raise ValueError("must be a whole number from %d to %d" % (low, high))
        return int(text)

    return parse


def parse_duration(text):
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "ns": 1e-9}
    number = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
    if re.fullmatch(number, text):
        return float(text)
    if not re.fullmatch("(" + number + "(h|ms|m|s|us|\u00b5s|ns))+", text):
        raise ValueError("must be seconds or a duration such as 30s or 1m30s")
    return sum(float(n) * units[u] for n, u in re.findall("(" + number + ")(h|ms|m|s|us|\u00b5s|ns)", text))


SETTINGS = (  # name, default (None: required), how to read it, help
    ("ASYA_HANDLER", None, parse_handler, "the handler: module.func or module.Class.method (required)"),
    ("ASYA_HANDLER_MODE", "payload", parse_mode, "what it gets: payload or envelope"),
    ("ASYA_WORKERS", "1", parse_int(1, 256), "worker processes, each handles one request at a time"),
    ("ASYA_ENABLE_VALIDATION", "true", parse_bool, "check envelopes that come in and that handlers return"),
    ("ASYA_SOCKET_DIR", "/var/run/asya", parse_dir, "directory of %s and %s" % (SOCKET_NAME, READY_NAME)),
    ("ASYA_SOCKET_CHMOD", "0o666", parse_chmod, "mode of the socket; empty: as the umask makes it"),
    ("ASYA_MAX_MESSAGE_BYTES", str((64 << 20) + 65536), parse_int(1024, (4 << 30) - 8), "longest frame, either way"),
    ("ASYA_GRACE_PERIOD", "30s", parse_duration, "after SIGTERM, the longest wait for the sidecar to finish"),
    ("ASYA_LOG_LEVEL", "INFO", parse_level, ", ".join(LEVELS)),
)


def usage():
    lines = ["usage: asya_runtime.py [--help]", "", "Serves a handler to an Asya sidecar. Variables:", ""]
    for name, default, _, text in SETTINGS:
        lines.append("  %-24s %s%s" % (name, text, "" if default is None else " [%s]" % default))
    return "\n".join(lines) + "\n"


def read_settings(environ):
    """The settings as an object with lower-case names without ASYA_, and a list of what is wrong."""
    found, wrong = types.SimpleNamespace(), []
    for name, default, parse, _ in SETTINGS:
        text = environ.get(name, default)
        try:
            if text is None:
                raise ValueError("must be set: module.func or module.Class.method")
            setattr(found, name[len("ASYA_") :].lower(), parse(text))
        except ValueError as bad:
            wrong.append((name, text, "%s %s, but is %s" % (name, bad, "missing" if text is None else repr(text))))
    return found, wrong


# ---- Logs: a JSON line for each fact -----------------------------------------------------------


class Log:
    threshold = LEVELS["INFO"]

    @classmethod
    def write(cls, level, event, **fields):
        if LEVELS[level] < cls.threshold:
            return
        now = time.time()
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + ".%06dZ" % (now % 1 * 1e6)
        line = {"time": when, "level": level, "program": PROGRAM, "event": event}
        line.update(fields)
        try:
            os.write(2, json.dumps(line, default=str).encode() + b"\n")
        except OSError:
            pass


class LogHandler(logging.Handler):
    """What user code says through `logging`, as lines of the same kind."""

    def emit(self, record):
        try:
            level = max((v, n) for n, v in LEVELS.items() if record.levelno >= v or n == "DEBUG")[1]
            text = record.getMessage()
            if record.exc_info:
                text += "\n" + "".join(traceback.format_exception(*record.exc_info))
            Log.write(level, "handler_log", logger=record.name, message=shorten(text))
        except Exception:  # as logging itself does: a bad log line is not worth a message
            self.handleError(record)


# ---- JSON that keeps its numbers ---------------------------------------------------------------


class Exact:
    """A number that Python would write in another way than it came, and remembers how that was.

    Arithmetic with it gives plain numbers. It pickles as a plain one, too: whoever unpickles may not
    have this class. User code may make one, by type(x)(...): that has no literal.
    """

    literal = None

    def __reduce__(self):
        return self.plain, (self.plain(self),)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self


class ExactFloat(Exact, float):  # 1.50, 1e5, 30 digits, 1e400
    plain = float


class ExactInt(Exact, int):  # -0
    plain = int


def exact(kind, text):
    number = kind(text)
    number.literal = text
    return number


class Json:
    """Reads and writes compact JSON. After a text with a number that Python would write differently,
    and until the next one is read, writing takes a slower way that puts these numbers back."""

    def __init__(self):
        self.exact = False
        self._decoder = json.JSONDecoder(parse_float=self._float, parse_constant=self._constant)
        self._minus_zero_decoder = json.JSONDecoder(
            parse_float=self._float, parse_int=self._int, parse_constant=self._constant
        )
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

    def _float(self, text):
        value = float(text)
        if repr(value) == text:
            return value
        self.exact = True
        return exact(ExactFloat, text)

    def _int(self, text):
        if text != "-0":
            return int(text)
        self.exact = True
        return exact(ExactInt, text)

    @staticmethod
    def _constant(text):
        raise ValueError("%s is not JSON" % text)

    def loads(self, data):
        """The value in `data`, UTF-8 bytes. ValueError says what is wrong."""
        self.exact = False
        text = str(data, "utf-8")
        try:
            return (self._minus_zero_decoder if "-0" in text else self._decoder).decode(text)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None

    def dumps(self, value, where):
        """`value` as text, which may hold lone surrogates (see `utf8`). TypeError or ValueError names
        the place, beginning with `where`, and what is wrong there."""
        try:
            return self._exact_text(value) if self.exact else self._encode(value)
        except (TypeError, ValueError, RecursionError) as bad:
            kind = TypeError if isinstance(bad, TypeError) else ValueError
            raise kind("the handler's result is not JSON: " + find_fault(value, where, bad)) from None

    def _exact_text(self, value):
        # Loops, not comprehensions: before Python 3.12 these cost a frame each and halve the depth.
        if isinstance(value, Exact):
            return value.literal or self._encode(value)
        parts = []
        if isinstance(value, dict):
            for key, member in value.items():
                name = self._encode(key) if type(key) is str else self._encode({key: 0})[1:-3]
                parts.append(name + ":" + self._exact_text(member))
            return "{" + ",".join(parts) + "}"
        if isinstance(value, (list, tuple)):
            for element in value:
                parts.append(self._exact_text(element))
            return "[" + ",".join(parts) + "]"
        return self._encode(value)


def utf8(text):
    """JSON text as bytes. Lone surrogates, which UTF-8 has not, become the escapes that name them."""
    return text.encode("utf-8", "backslashreplace")


def find_fault(value, where, reason):
    """Which part of `value` is not JSON, in words."""
    try:
        return _fault(value, where, ()) or "%s: %s" % (where, reason)
    except RecursionError:
        return "%s is nested too deeply" % where


def _fault(value, where, above):
    if value is None or isinstance(value, (str, bool)):
        return None
    if isinstance(value, float):
        finite = value == value and value not in (float("inf"), float("-inf"))
        return None if finite or getattr(value, "literal", None) else "%s is %r, which JSON has not" % (where, value)
    if isinstance(value, int):
        try:
            return None if int.__repr__(value) else None
        except ValueError as bad:
            return "%s: %s" % (where, bad)
    if not isinstance(value, (dict, list, tuple)):
        return "%s is of type %s" % (where, type_name(type(value)))
    if id(value) in above:
        return "%s contains itself" % where
    above += (id(value),)
    if isinstance(value, dict):
        for key in value:
            if key is not None and not isinstance(key, (str, int, float)):
                return "%s has a key of type %s" % (where, type_name(type(key)))
        members = (("%s.%s" % (where, key), member) for key, member in value.items())
    else:
        members = (("%s[%d]" % (where, i), element) for i, element in enumerate(value))
    for place, member in members:
        fault = _fault(member, place, above)
        if fault:
            return fault
    return None


# ---- Errors as the sidecar gets them -----------------------------------------------------------


def type_name(cls):
    module = getattr(cls, "__module__", None)
    return cls.__qualname__ if module in (None, "builtins") else "%s.%s" % (module, cls.__qualname__)


def shorten(text):
    """Of a length and of characters that every reader takes: lone surrogates are spelt out."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return "%s\n... %d characters left out ...\n%s" % (text[:half], len(text) - 2 * half, text[-half:])


def own_frames_off(tb):
    """The traceback behind the last frame of this file: the handler's part of it."""
    rest = tb
    while tb is not None:
        own = tb.tb_frame.f_code.co_filename == own_frames_off.__code__.co_filename
        tb = tb.tb_next
        rest = tb if own else rest
    return rest


def error_text(exc):
    try:
        return shorten(str(exc))
    except BaseException as worse:
        return "(its text cannot be had: str() raised %s)" % type(worse).__name__


def trace_text(exc):
    try:
        return shorten("".join(traceback.format_exception(type(exc), exc, own_frames_off(exc.__traceback__))))
    except BaseException as worse:
        return "(no traceback: formatting it raised %s)" % type(worse).__name__


def error_object(code, exc, with_mro):
    details = {"message": error_text(exc), "type": type(exc).__name__}
    if with_mro:
        details["mro"] = [type_name(c) for c in type(exc).__mro__ if c is not object]
    details["traceback"] = trace_text(exc)
    return {"error": code, "details": details}


# ---- Envelopes ---------------------------------------------------------------------------------


def check_route(route, what):
    if not isinstance(route, dict):
        raise ValueError("%s must be an object, but is %s" % (what, json_kind(route)))
    actors, current = route.get("actors"), route.get("current")
    if not isinstance(actors, list):
        raise ValueError("%s.actors must be a list of names, but is %s" % (what, json_kind(actors)))
    for i, name in enumerate(actors):
        if not isinstance(name, str):
            raise ValueError("%s.actors[%d] must be a string, but is %s" % (what, i, json_kind(name)))
    if not isinstance(current, int) or isinstance(current, bool):
        raise ValueError("%s.current must be an integer, but is %s" % (what, json_kind(current)))
    if not 0 <= current <= len(actors):
        raise ValueError("%s.current must be from 0 to %d, but is %d" % (what, len(actors), current))


def json_kind(value):
    for kind, name in (
        (bool, "a boolean"),
        (dict, "an object"),
        (list, "a list"),
        (str, "a string"),
        ((int, float), "a number"),
    ):
        if isinstance(value, kind):
            return name
    return "missing or null" if value is None else "of type " + type_name(type(value))


def check_request(envelope):
    if not isinstance(envelope, dict):
        raise ValueError("the envelope must be an object, but is %s" % json_kind(envelope))
    if "payload" not in envelope:
        raise ValueError("the envelope has no 'payload'")


def check_result(envelope, actors, current):
    """Envelope mode: what a handler may return for a request with `actors`, handled at `current`."""
    if not isinstance(envelope, dict):
        raise TypeError("an envelope (dict) must be returned in envelope mode, but it is %s" % json_kind(envelope))
    for name in ("payload", "route"):
        if name not in envelope:
            raise ValueError("the returned envelope has no '%s'" % name)
    check_route(envelope["route"], "the returned route")
    now = envelope["route"]["actors"]
    for i, name in enumerate(actors[: current + 1]):
        if i >= len(now) or now[i] != name:
            is_now = "'%s'" % now[i] if i < len(now) else "gone"
            raise ValueError(
                "the returned route changes its past: actors[%d] must stay '%s', but is %s" % (i, name, is_now)
            )
    headers = envelope.get("headers")
    if headers is not None and not isinstance(headers, dict):
        raise ValueError("the returned headers must be an object, but are %s" % json_kind(headers))


# ---- The handler -------------------------------------------------------------------------------


class HandlerError(Exception):
    """The handler cannot be had; the text says why."""


def import_first(name):
    """The longest leading part of a dotted name that is a module, and the names after it."""
    parts = name.split(".")
    for n in range(len(parts) - 1, max(len(parts) - 3, 0), -1):
        module = ".".join(parts[:n])
        try:
            return importlib.import_module(module), parts[n:]
        except ModuleNotFoundError as missing:
            if missing.name is None or not (module + ".").startswith(missing.name + "."):
                raise
    raise HandlerError(
        "ASYA_HANDLER is '%s', but there is no module '%s' on the path %s (PYTHONPATH adds to it)"
        % (name, ".".join(parts[:-1]), [p for p in sys.path if p])
    )


def make_instance(cls, name):
    try:
        needed = [
            p.name
            for p in inspect.signature(cls).parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
    except (TypeError, ValueError):
        needed = []
    if needed:
        raise HandlerError("%s.__init__ needs %s: every argument must have a default" % (name, ", ".join(needed)))
    return cls()


def load_handler(name):
    """The callable that `name` names. Its module is imported, its class made, here and once."""
    module, rest = import_first(name)
    target, path = module, module.__name__
    for i, part in enumerate(rest):
        if not hasattr(target, part):
            raise HandlerError("ASYA_HANDLER is '%s', but %s has no '%s'" % (name, path, part))
        target, path = getattr(target, part), path + "." + part
        if i < len(rest) - 1:
            if not isinstance(target, type):
                raise HandlerError("ASYA_HANDLER is '%s', but %s is no class" % (name, path))
            target = make_instance(target, path)
    if isinstance(target, type):
        raise HandlerError("ASYA_HANDLER is '%s', which is a class: name its method, as %s.process" % (name, name))
    if not callable(target):
        raise HandlerError(
            "ASYA_HANDLER is '%s', which cannot be called: it is of type %s" % (name, type_name(type(target)))
        )
    return target


# ---- Frames ------------------------------------------------------------------------------------


class TooLong(Exception):
    def __init__(self, length, limit, first):
        Exception.__init__(
            self, "a frame of %d bytes: at most %d are allowed (ASYA_MAX_MESSAGE_BYTES)" % (length, limit)
        )
        self.first = first


class PeerGone(Exception):
    """The other end hung up; nobody is left to tell."""


class Frames:
    """Whole frames from a blocking socket."""

    def __init__(self, sock, limit):
        self._recv = sock.recv
        self._limit = limit
        self.rest = b""

    def next(self):
        """A frame with its four bytes of length, None at the end of the stream. TooLong is raised
        before the frame is read, EOFError where the stream ends inside one."""
        data = self.rest or self._recv(CHUNK)
        if not data:
            return None
        while len(data) < 4:
            data += self._more(4 - len(data), data)
        end = 4 + int.from_bytes(data[:4], "big")
        if len(data) == end and end - 4 <= self._limit:
            self.rest = b""
            return data
        if end - 4 > self._limit:
            data += self._more(1, data) if len(data) == 4 else b""
            raise TooLong(end - 4, self._limit, data[4:5])
        if len(data) < end:
            parts, have = [data], len(data)
            while have < end:
                parts.append(self._more(min(end - have, 1 << 20), data, have))
                have += len(parts[-1])
            data = b"".join(parts)
        self.rest = data[end:]
        return data[:end]

    def _more(self, n, data, have=None):
        more = self._recv(n)
        if not more:
            raise EOFError("the connection ended after %d bytes of a frame" % (len(data) if have is None else have))
        return more


def frame_bytes(kind, text, limit):
    """A frame of protocol 2 (`kind` one letter) or 1 (`kind` empty)."""
    body = utf8(text)
    length = len(kind) + len(body)
    if length > limit:
        raise ValueError(
            "the answer needs a frame of %d bytes: at most %d are allowed (ASYA_MAX_MESSAGE_BYTES)" % (length, limit)
        )
    return struct.pack(">I", length) + kind + body


END = struct.pack(">I", 3) + b"E{}"


# ---- Worker ------------------------------------------------------------------------------------

# What parent and worker say to each other, one letter a packet.
LEND, ASK = b"L", b"A"  # parent: take this connection; give yours back
READY, CLOSED, BACK = b"R", b"C", b"B"  # worker: handler imported; connection closed; given back
CMSG_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0x40000000)


class Request:
    """One request and the answer to it on its way out."""

    def __init__(self, worker, sock, envelope):
        self._dumps = worker.json.dumps
        self._limit = worker.settings.max_message_bytes
        self._whole = worker.settings.handler_mode == "envelope"
        self._checked = worker.settings.enable_validation
        self._send = sock.sendall
        self._envelope = envelope
        self.count = 0
        if self._whole and self._checked:  # copies: the handler may change its envelope in place
            self._actors = list(envelope["route"]["actors"])
            self._current = envelope["route"]["current"]

    def id(self):
        name = self._envelope.get("id")
        return name if isinstance(name, str) else ""

    def argument(self):
        return self._envelope if self._whole else self._envelope["payload"]

    def _returned(self, value):
        """An item of envelope mode. Unchecked, it has what the handler's envelope has."""
        if self._checked:
            check_result(value, self._actors, self._current)
        elif not isinstance(value, dict):
            raise TypeError("an envelope (dict) must be returned in envelope mode, but it is %s" % json_kind(value))
        item = {name: value[name] for name in ("payload", "route") if name in value}
        if value.get("headers") is not None:
            item["headers"] = value["headers"]
        return "{%s}" % ",".join('"%s":%s' % (name, self._dumps(item[name], name)) for name in item)

    def item(self, value):
        """Takes one value of the handler."""
        try:
            self.put(self._returned(value) if self._whole else self.wrap(self._dumps(value, "payload")))
        except (TypeError, ValueError) as bad:
            raise type(bad)("item %d: %s" % (self.count, bad)) from None
        self.count += 1

    def _write(self, data):
        try:
            self._send(data, socket.MSG_NOSIGNAL)
        except OSError as gone:
            raise PeerGone() from gone


class RequestV1(Request):
    def __init__(self, worker, sock, envelope):
        Request.__init__(self, worker, sock, envelope)
        self._items = []
        self._tail = None

    def wrap(self, payload):
        return '{"payload":%s%s}' % (payload, self._rest())

    def _rest(self):
        """Payload mode: the route one further, and the headers, both as they came."""
        if self._tail is None:
            route, headers = self._envelope.get("route"), self._envelope.get("headers")
            if isinstance(route, dict) and isinstance(route.get("current"), int):
                route = dict(route, current=route["current"] + 1)
            self._tail = "" if route is None else ',"route":' + self._dumps(route, "route")
            if headers is not None:
                self._tail += ',"headers":' + self._dumps(headers, "headers")
        return self._tail

    def put(self, item):
        self._items.append(item)

    def flush(self):
        pass

    def end(self):
        return frame_bytes(b"", "[" + ",".join(self._items) + "]", self._limit)

    @staticmethod
    def error(code, exc):
        return frame_bytes(b"", json.dumps([error_object(code, exc, False)], ensure_ascii=False), 1 << 32)


class RequestV2(Request):
    def __init__(self, worker, sock, envelope):
        Request.__init__(self, worker, sock, envelope)
        self._out = []
        self._size = 0

    @staticmethod
    def wrap(payload):
        return '{"payload":' + payload + "}"

    def put(self, item):
        frame = frame_bytes(b"I", item, self._limit)
        self._out.append(frame)
        self._size += len(frame)
        if self._size > FLUSH:
            self.flush()

    def flush(self):
        data = b"".join(self._out)
        del self._out[:]
        self._size = 0
        self._write(data)

    def end(self):
        self._out.append(END)
        return b"".join(self._out)

    @staticmethod
    def error(code, exc):
        return frame_bytes(b"X", json.dumps(error_object(code, exc, True), ensure_ascii=False), 1 << 32)


class Worker:
    """A process that runs the handler, for one connection at a time."""

    PLAIN = (dict, type(None), list, str, int, float, bool, tuple)

    def __init__(self, settings, control, state, slot, parent):
        self.settings = settings
        self.json = Json()
        self._control = control
        self._state = state  # shared: byte 2n: a request is under way; byte 2n+1: one was answered
        self._busy, self._served = 2 * slot, 2 * slot + 1
        self._parent = parent
        self._handler = None
        self._loop = None

    # -- life --

    def main(self):
        self._settle_in()
        try:
            self._handler = load_handler(self.settings.handler)
        except BaseException as bad:
            told = {} if isinstance(bad, HandlerError) else {"traceback": trace_text(bad)}
            Log.write(
                "ERROR",
                "handler_import_failed",
                handler=self.settings.handler,
                type=type(bad).__name__,
                message=error_text(bad),
                **told,
            )
            return 1
        try:
            self._control.send(READY)
            while True:
                said, sock = self._hear()
                if said is None:
                    return 0
                if said != LEND:
                    continue  # asked for a connection that was on its way back already
                outcome = self._serve(sock)
                if outcome is None:
                    return 0
                self._control.send(outcome)
        except ConnectionError:
            return 0  # the parent is gone

    def _settle_in(self):
        die_with_parent(self._parent)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)  # what a killed worker printed is not lost
        # Stopping is the parent's to order: its signal handlers, which do nothing, stay. Not SIG_IGN,
        # which would outlive an exec in the handler's own children; and its forks get the default.
        os.register_at_fork(after_in_child=restore_signals)
        logging.basicConfig(level=LEVELS[self.settings.log_level], handlers=[LogHandler()])
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())

    def _hear(self):
        """The parent's next word and the connection that came with it. (None, None): it is gone."""
        said, extra, _, _ = self._control.recvmsg(16, socket.CMSG_SPACE(4), CMSG_CLOEXEC)
        if not said:
            return None, None
        if said != LEND:
            return said, None
        sock = socket.socket(fileno=struct.unpack("i", extra[0][2][:4])[0])
        sock.settimeout(None)  # user code may have changed the default
        return said, sock

    # -- a connection --

    def _serve(self, sock):
        """Answers requests until the connection ends (CLOSED), the parent wants it (BACK) or the
        parent is gone (None)."""
        frames = Frames(sock, self.settings.max_message_bytes)
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        control = self._control.fileno()
        left = select.poll()
        left.register(sock, 0)  # tells of a hang-up only
        kind = None
        try:
            while True:
                if not frames.rest:
                    for fd, _ in poll.poll():
                        if fd == control:
                            said, _ = self._hear()
                            sock.close()
                            return BACK if said else None
                elif left.poll(0):
                    break  # what was sent ahead is for nobody any more
                data = frames.next()
                if data is None:
                    break
                kind = self._kind_of(kind, data)
                if kind is RequestV2 and b"a" <= data[4:5] <= b"z":
                    continue  # an optional frame
                if not self._answer(kind, sock, data):
                    break
        except TooLong as bad:
            self._refuse(kind or (RequestV2 if bad.first == b"R" else RequestV1), sock, "msg_parsing_error", bad)
        except EOFError as bad:
            self._refuse(kind or RequestV1, sock, "connection_error", bad)
        except (OSError, PeerGone):
            pass
        finally:
            self._state[self._busy] = 0
        hang_up(sock)
        return CLOSED

    @staticmethod
    def _kind_of(kind, data):
        """The first frame of a connection decides which protocol it is."""
        if kind is None:
            return RequestV2 if data[4:5] == b"R" else RequestV1
        return kind

    @staticmethod
    def _refuse(kind, sock, code, exc):
        Log.write("WARNING", "request_refused", type=code, message=str(exc))
        try:
            sock.sendall(kind.error(code, exc), socket.MSG_NOSIGNAL)
        except OSError:
            pass

    def _answer(self, kind, sock, data):
        """Whether the connection goes on."""
        if kind is RequestV2 and data[4:5] != b"R":
            self._refuse(kind, sock, "msg_parsing_error", ValueError("a frame of unknown type %r" % data[4:5]))
            return False
        self._state[self._busy] = 1
        try:
            request = self._open(kind, sock, memoryview(data)[5 if kind is RequestV2 else 4 :])
        except Exception as bad:
            reply = kind.error("msg_parsing_error", bad)
            Log.write("WARNING", "request_refused", type="msg_parsing_error", message=str(bad))
        else:
            reply = self._handle(request)
        self._state[self._served] = 1
        self._state[self._busy] = 0
        sock.sendall(reply, socket.MSG_NOSIGNAL)
        return kind is RequestV2

    def _open(self, kind, sock, body):
        try:
            envelope = self.json.loads(body)
        except ValueError as bad:
            raise ValueError("the request is not JSON: %s" % bad) from None
        check_request(envelope)
        if self.settings.enable_validation:
            check_route(envelope.get("route"), "route")
        return kind(self, sock, envelope)

    def _handle(self, request):
        try:
            self._run(request)
            return request.end()
        except PeerGone:
            raise
        except BaseException as bad:
            place = innermost(bad)
            reply = request.error("processing_error", bad)
            Log.write("WARNING", "handler_failed", id=request.id(), type=type_name(type(bad)), at=place)
            return reply

    # -- the handler --

    def _run(self, request):
        result = self._handler(request.argument())
        if type(result) not in self.PLAIN:
            if inspect.isawaitable(result):
                result = self._await(result)
            if inspect.isasyncgen(result):
                result = self._await(pump(result, request))
            elif inspect.isgenerator(result):
                result = drain(result, request)
        if isinstance(result, list):
            for value in result:
                request.item(value)
        elif result is not None:
            request.item(result)

    def _await(self, awaitable):
        import asyncio  # only async handlers pay for it

        if self._loop is None:
            # Before 3.10 locks made at import are bound to the default loop already.
            if sys.version_info < (3, 10):
                self._loop = asyncio.get_event_loop()
            else:
                self._loop = asyncio.new_event_loop()
                asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(as_coroutine(awaitable))


async def as_coroutine(awaitable):
    return await awaitable


async def pump(values, request):
    try:
        async for value in values:
            request.item(value)
            request.flush()
    finally:
        await values.aclose()


def drain(values, request):
    """Sends a generator's values as they come; gives what it returns."""
    try:
        while True:
            try:
                value = next(values)
            except StopIteration as end:
                return end.value
            request.item(value)
            request.flush()
    finally:
        values.close()


def innermost(exc):
    """File and line where it was raised: what a log may have of an error, whose text may be payload."""
    tb = exc.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return "" if tb is None else "%s:%d" % (tb.tb_frame.f_code.co_filename, tb.tb_lineno)


def restore_signals():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def die_with_parent(parent):
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    except Exception:
        pass  # then the end of the control socket tells, once the handler is done
    if os.getppid() != parent:
        os._exit(0)


def hang_up(sock):
    """Ends a connection for both sides, whoever else holds a descriptor of it."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()


# ---- Parent ------------------------------------------------------------------------------------


class BecomeWorker(BaseException):
    """Takes the child of a fork out of the parent's stack."""

    def __init__(self, worker):
        BaseException.__init__(self)
        self.worker = worker


class StartError(Exception):
    """The runtime cannot start or go on; the text says why."""


class Child:
    """What the parent knows of one worker's place, whoever fills it at the moment."""

    def __init__(self, slot):
        self.slot = slot
        self.pid = None
        self.control = None
        self.ready = False
        self.lent = None  # the Connection that it has
        self.asked = False  # to give it back
        self.cancelled = False
        self.failures = 0  # deaths in a row without an answer between them
        self.start_at = 0.0


class Connection:
    def __init__(self, sock):
        self.sock = sock
        self.child = None  # who has it
        self.kill_at = None  # the peer hung up: when the handler's time is over


class Parent:
    """Accepts connections, lends them to workers, and keeps the workers alive."""

    def __init__(self, settings):
        self.settings = settings
        self.pid = os.getpid()
        self.path = os.path.join(settings.socket_dir, SOCKET_NAME)
        self.ready_path = os.path.join(settings.socket_dir, READY_NAME)
        self.children = [Child(slot) for slot in range(settings.workers)]
        self.state = mmap.mmap(-1, 2 * settings.workers)
        self.connections = {}  # descriptor: Connection, all of them
        self.waiting = collections.deque()  # those with bytes to read and no worker
        self.poll = select.poll()
        self.listener = None
        self.bound = None  # device and inode of the socket file
        self.listening = False
        self.listen_at = None  # after trouble with accepting: when to try again
        self.started = False
        self.stop_at = None
        self.quiet_since = None
        self.stop_now = False
        self.closing = False
        self.wake_r, self.wake_w = socket.socketpair()
        for end in (self.wake_r, self.wake_w):
            end.setblocking(False)

    # -- life --

    def run(self):
        self._take_socket()
        signal.set_wakeup_fd(self.wake_w.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self.poll.register(self.wake_r, select.POLLIN)
        while not self._is_over():
            self._start_workers()
            self._lend()
            self._watch_listener()
            # The listener last: a connection accepted now may get the number of one that ended now.
            happened = self.poll.poll(self._timeout())
            for fd, events in sorted(happened, key=lambda e: e[0] == self.listener.fileno()):
                self._on_event(fd, events)
            self._kill_cancelled()

    def close(self):
        """Stops serving: files first, so that nobody comes, then the workers."""
        if self.bound is None:
            return
        self.closing = True
        self._remove_files()
        self.listener.close()
        if self.connections:
            Log.write("WARNING", "stopped_with_open_connections", connections=len(self.connections))
        for connection in list(self.connections.values()):
            self._drop(connection)
        deadline = time.monotonic() + EXIT_GRACE
        for child in self.children:
            ready = child.ready
            self._forget_control(child)
            if child.pid is not None and (self.stop_now or not ready or self.state[2 * child.slot]):
                self._kill(child)
        while any(c.pid is not None for c in self.children):
            if self.stop_now or time.monotonic() >= deadline:
                for child in self.children:
                    self._kill(child)
            self._reap()
            select.select([self.wake_r], [], [], 0.05)
            self._on_signals()

    # -- the files --

    def _take_socket(self):
        directory = self.settings.socket_dir
        try:
            os.makedirs(directory, exist_ok=True)
            self._remove_stale()
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.setblocking(False)
            self.listener.bind(self.path)
            made = os.stat(self.path)
            self.bound = (made.st_dev, made.st_ino)
            if self.settings.socket_chmod is not None:
                os.chmod(self.path, self.settings.socket_chmod)
            unlink(self.ready_path)
            self.listener.listen(128)
        except OSError as bad:
            raise StartError("cannot listen on %s (ASYA_SOCKET_DIR): %s" % (self.path, bad)) from None

    def _remove_stale(self):
        try:
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                raise StartError("%s is there and is no socket: remove it" % self.path)
        except FileNotFoundError:
            return
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        probe.setblocking(False)
        try:
            answer = probe.connect_ex(self.path)
        finally:
            probe.close()
        if answer != errno.ECONNREFUSED:
            raise StartError(
                "%s is in use by a runtime that lives (%s): give each its own ASYA_SOCKET_DIR"
                % (self.path, os.strerror(answer) if answer else "it accepts connections")
            )
        unlink(self.path)

    def _write_ready(self):
        aside = "%s.%d" % (self.ready_path, self.pid)
        try:
            with open(aside, "w") as out:
                out.write("protocol 2\nworkers %d\nahead %d\n" % (self.settings.workers, AHEAD))
            os.rename(aside, self.ready_path)
        except OSError as bad:
            raise StartError("cannot write %s (ASYA_SOCKET_DIR): %s" % (self.ready_path, bad)) from None

    def _remove_files(self):
        """Unless another runtime has taken the place meanwhile."""
        try:
            there = os.stat(self.path)
        except OSError:
            return
        if (there.st_dev, there.st_ino) == self.bound:
            unlink(self.ready_path)
            unlink(self.path)

    # -- events --

    def _timeout(self):
        """Milliseconds until something is due; None for no limit."""
        due = [c.start_at for c in self.children if c.pid is None]
        due += [c.kill_at for c in self.connections.values() if c.kill_at is not None]
        due += [t for t in (self.listen_at, self.stop_at) if t is not None]
        if self.quiet_since is not None:
            due.append(self.quiet_since + QUIET)
        if not due:
            return None
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1)

    def _is_over(self):
        if self.stop_at is None:
            return False
        now = time.monotonic()
        if self.connections:
            self.quiet_since = None
        elif self.quiet_since is None:
            self.quiet_since = now
        quiet = self.quiet_since is not None and now - self.quiet_since >= QUIET
        return self.stop_now or now >= self.stop_at or quiet

    def _on_event(self, fd, events):
        if fd == self.wake_r.fileno():
            self._on_signals()
        elif fd == self.listener.fileno():
            self._accept()
        elif fd in self.connections:
            self._on_connection(self.connections[fd], events)
        else:
            for child in self.children:
                if child.control is not None and child.control.fileno() == fd:
                    self._hear(child)

    def _on_signals(self):
        try:
            numbers = self.wake_r.recv(4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number == signal.SIGCHLD:
                self._reap()
            elif self.stop_at is not None:
                self.stop_now = True
            else:
                self.stop_at = time.monotonic() + self.settings.grace_period
                Log.write("INFO", "stopping", signal=signal.Signals(number).name, connections=len(self.connections))

    # -- connections --

    def _watch_listener(self):
        now = time.monotonic()
        if self.listen_at is not None and now >= self.listen_at:
            self.listen_at = None
        want = self.listen_at is None and len(self.connections) < MAX_CONNECTIONS
        if want and not self.listening:
            self.poll.register(self.listener, select.POLLIN)
        elif self.listening and not want:
            self.poll.unregister(self.listener)
        self.listening = want

    def _accept(self):
        try:
            sock, _ = self.listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as bad:
            Log.write("ERROR", "accept_failed", message=str(bad))
            self.listen_at = time.monotonic() + 0.1
            return
        sock.setblocking(True)
        self.connections[sock.fileno()] = Connection(sock)
        self.poll.register(sock, select.POLLIN)

    def _on_connection(self, connection, events):
        gone = events & (select.POLLHUP | select.POLLERR)
        if connection.child is not None:
            # Hang-up is all that is watched for. The worker sees it too unless its handler runs.
            self.poll.unregister(connection.sock)
            connection.kill_at = time.monotonic() + CANCEL_GRACE
        elif gone:
            self._drop(connection)
        else:
            self.poll.modify(connection.sock, 0)
            self.waiting.append(connection)

    def _drop(self, connection):
        if connection.kill_at is None:
            self.poll.unregister(connection.sock)
        if connection in self.waiting:
            self.waiting.remove(connection)
        del self.connections[connection.sock.fileno()]
        hang_up(connection.sock)

    def _lend(self):
        free = [c for c in self.children if c.ready and c.lent is None]
        while self.waiting and free:
            child, connection = free.pop(0), self.waiting[0]
            fd = struct.pack("i", connection.sock.fileno())
            try:
                child.control.sendmsg([LEND], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd)])
            except OSError:
                child.ready = False  # it is dying; the signal is on its way
                continue
            self.waiting.popleft()
            child.lent, connection.child = connection, child
        if self.waiting:
            self._ask_back()

    def _ask_back(self):
        """Asks all, since nobody knows who will be done first; who gives back in vain is lent anew."""
        for child in self.children:
            if child.ready and child.lent is not None and not child.asked:
                child.asked = True
                try:
                    child.control.send(ASK)
                except OSError:
                    pass  # it is dying

    def _hear(self, child):
        while child.control is not None:
            try:
                said = child.control.recv(16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if not said:
                self._forget_control(child)
            elif said == READY:
                self._on_ready(child)
            elif child.lent is not None:
                self._take_back(child, said)

    def _take_back(self, child, said):
        connection, child.lent, child.asked = child.lent, None, False
        connection.child = None
        if said == CLOSED or connection.kill_at is not None:
            self._drop(connection)
        else:
            self.poll.modify(connection.sock, select.POLLIN)

    def _kill_cancelled(self):
        now = time.monotonic()
        for connection in list(self.connections.values()):
            if connection.kill_at is None or now < connection.kill_at:
                continue
            child = connection.child
            connection.kill_at = now + CANCEL_GRACE
            self._hear(child)
            if child.lent is connection and self.state[2 * child.slot]:
                child.cancelled = True
                self._kill(child)

    # -- workers --

    def _start_workers(self):
        now = time.monotonic()
        for child in self.children:
            if child.pid is None and now >= child.start_at:
                self._fork(child)

    def _fork(self, child):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.state[2 * child.slot] = self.state[2 * child.slot + 1] = 0
        try:
            pid = os.fork()
        except OSError as bad:
            ours.close()
            theirs.close()
            Log.write("ERROR", "fork_failed", message=str(bad))
            child.start_at = time.monotonic() + 1.0
            return
        if pid == 0:
            os.setpgid(0, 0)  # so that the terminal's Ctrl-C is the parent's alone
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ours.close()
            self._close_all()
            raise BecomeWorker(Worker(self.settings, theirs, self.state, child.slot, self.pid))
        theirs.close()
        child.pid, child.control, child.ready, child.cancelled = pid, ours, False, False
        self.poll.register(ours, select.POLLIN)

    def _close_all(self):
        """In a child: everything that is the parent's."""
        for sock in [self.listener, self.wake_r, self.wake_w]:
            sock.close()
        for connection in self.connections.values():
            connection.sock.close()
        for child in self.children:
            if child.control is not None:
                child.control.close()

    def _on_ready(self, child):
        child.ready = True
        Log.write("DEBUG", "worker_ready", worker=child.slot, pid=child.pid)
        if not self.started and all(c.ready for c in self.children):
            self.started = True
            self._write_ready()
            Log.write(
                "INFO",
                "ready",
                handler=self.settings.handler,
                mode=self.settings.handler_mode,
                workers=self.settings.workers,
            )

    def _reap(self):
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            child = next((c for c in self.children if c.pid == found.si_pid), None)
            if child is not None:
                self._kill(child)  # what its group left behind; its number is still taken
            os.waitpid(found.si_pid, 0)
            if child is not None:
                self._on_death(child, found)

    def _on_death(self, child, found):
        self._hear(child)
        self._forget_control(child)
        pid, child.pid, child.ready, child.asked = child.pid, None, False, False
        if self.closing:
            return
        if child.lent is not None:
            connection, child.lent = child.lent, None
            self._drop(connection)
        how = "exit status %d" % found.si_status if found.si_code == os.CLD_EXITED else signal_name(found.si_status)
        if not self.started and self.stop_at is None:
            raise StartError("worker %d ended before it was ready: %s" % (child.slot, how))
        child.failures = 0 if child.cancelled or self.state[2 * child.slot + 1] else child.failures + 1
        wait = 0.0 if child.failures < 2 else min(BACKOFF_MAX, BACKOFF_FIRST * 2 ** (child.failures - 2))
        child.start_at = time.monotonic() + wait
        event = "worker_cancelled" if child.cancelled else "worker_died"
        Log.write("WARNING", event, worker=child.slot, pid=pid, how=how, restart_in_ms=int(wait * 1000))

    def _forget_control(self, child):
        if child.control is not None:
            self.poll.unregister(child.control)
            child.control.close()
            child.control = None
            child.ready = False

    @staticmethod
    def _kill(child):
        if child.pid is not None:
            for kill in (os.killpg, os.kill):
                try:
                    kill(child.pid, signal.SIGKILL)
                except OSError:
                    pass  # dead already


def signal_name(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number


def unlink(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def fill_standard_descriptors():
    """So that no socket of ours becomes what somebody takes for stdin, stdout or stderr."""
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return
        os.set_inheritable(fd, True)


def serve(settings):
    parent = Parent(settings)
    worker, code = None, 0
    try:
        parent.run()
    except BecomeWorker as child:
        worker = child.worker
    except StartError as bad:
        Log.write("ERROR", "start_failed", message=str(bad))
        code = 1
    except Exception as bug:
        Log.write("ERROR", "runtime_failed", message=str(bug), traceback=trace_text(bug))
        code = 1
    if worker is not None:
        return worker.main()
    parent.stop_now = parent.stop_now or code != 0
    parent.close()
    Log.write("INFO", "stopped")
    return code


def main(arguments):
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(usage())
        return 0
    if arguments:
        sys.stderr.write("asya_runtime.py: unknown argument '%s'\n%s" % (arguments[0], usage()))
        return 2
    fill_standard_descriptors()
    settings, wrong = read_settings(os.environ)
    for name, value, text in wrong:
        Log.write("ERROR", "bad_setting", variable=name, value=value, message=text)
    if wrong:
        return 2
    Log.threshold = LEVELS[settings.log_level]
    return serve(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
