#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An HTTP server for tests of clients. Prints its port, serves until its standard input ends.

usage: fake_http.py [CERTIFICATE KEY]
"""
import http.server
import json
import os
import ssl
import sys
import threading
import time
import urllib.parse

connections = 0
seen = {}  # calls of the SQS protocol by what they ask for
sts_calls = 0


def keys(prefix, seconds, token="Token"):
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    return {"AccessKeyId": prefix + "KEY", "SecretAccessKey": prefix + "SECRET", token: prefix + "TOKEN", "Expiration": until}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        global connections
        connections += 1
        super().setup()

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value, status=200):
        self.answer(status, json.dumps(value).encode(), [("Content-Type", "application/json")])

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urllib.parse.urlsplit(self.path).path
        if path == "/echo":
            self.json({"method": self.command, "target": self.path, "body": body.decode(), "connections": connections,
                       "headers": {k.lower(): v for k, v in self.headers.items()}})
        elif path == "/silent":
            time.sleep(60)
        elif path == "/close":
            self.close_connection = True
        elif path.startswith("/status/"):
            self.answer(int(path[8:]), b"nothing", [("X-Odd", "  a b ")])
        elif path.startswith("/bytes/"):
            self.answer(200, b"x" * int(path[7:]))
        elif path.startswith("/sqs/"):
            self.sqs(path.split("/")[2], body)
        else:
            self.aws(path, body)

    def aws(self, path, body):
        global sts_calls
        if path == "/latest/api/token" and self.command == "PUT":
            self.answer(200, b"session-of-imds")
        elif path.startswith("/latest/") and self.headers.get("X-aws-ec2-metadata-token") != "session-of-imds":
            self.answer(401, b"")
        elif path == "/latest/meta-data/iam/security-credentials/":
            self.answer(200, b"the-role")
        elif path == "/latest/meta-data/iam/security-credentials/the-role":
            self.json(keys("IMDS", 3600))
        elif path == "/container" and self.headers.get("Authorization") == "Bearer pod":
            self.json(keys("POD", 3600))
        elif path == "/sts" and self.command == "POST":
            form = dict(urllib.parse.parse_qsl(body.decode()))
            sts_calls += 1
            if form.get("WebIdentityToken") != "a token/of=the pod" or form.get("Action") != "AssumeRoleWithWebIdentity":
                self.answer(400, b"<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>no</Message></Error></ErrorResponse>")
                return
            k = keys(form["RoleArn"][-4:] + str(sts_calls), 2)
            inner = "".join(f"<{n}>{v}</{n}>" for n, v in
                            (("AccessKeyId", k["AccessKeyId"]), ("SecretAccessKey", k["SecretAccessKey"]),
                             ("SessionToken", k["Token"]), ("Expiration", k["Expiration"])))
            self.answer(200, f"<AssumeRoleWithWebIdentityResponse><Credentials>{inner}</Credentials></AssumeRoleWithWebIdentityResponse>".encode())
        else:
            self.answer(404, b"")

    def fault(self, code, status=400):
        self.json({"__type": "com.amazonaws.sqs#" + code, "message": "on purpose"}, status)

    # /sqs/HOW/: throttle: every action is refused once; entry: the fourth of ten entries fails once, and none may come
    # twice but that one; refuse: no post is taken; small: MaximumMessageSize is 1024; none: there is no queue; hiccup:
    # two receives fail; late: the first message comes after 1.5 s; void: no receipt is valid.
    def sqs(self, how, body):
        action = self.headers["X-Amz-Target"].split(".")[1]
        asked = json.loads(body)
        n = seen[action] = seen.get(action, 0) + 1
        if how == "throttle" and n == 1:
            self.fault("ThrottlingException" if action != "GetQueueUrl" else "ServiceUnavailable", 400 if n % 2 else 503)
        elif how == "none" and action == "GetQueueUrl":
            self.fault("QueueDoesNotExist")
        elif action == "GetQueueUrl":
            self.json({"QueueUrl": "http://x/" + asked["QueueName"]})
        elif action == "GetQueueAttributes":
            self.json({"Attributes": {"MaximumMessageSize": "1024" if how == "small" else "262144", "QueueArn": "arn:x"}})
        elif action == "ReceiveMessage":
            if how == "hiccup" and n <= 2:
                self.fault("InternalFailure", 500)
            elif how == "late" and n == 1:
                time.sleep(1.5)
                self.json({"Messages": [{"Body": "hello", "ReceiptHandle": "r"}]})
            elif n == (3 if how == "hiccup" else 1):
                self.json({"Messages": [{"Body": "hello", "ReceiptHandle": "r", "Attributes": {"ApproximateReceiveCount": "1"}}]})
            else:
                time.sleep(0.05)
                self.json({})
        else:
            self.batch(how, action, asked["Entries"], n)

    def batch(self, how, action, entries, n):
        bad = {}
        if how == "entry" and action == "SendMessageBatch":
            if n == 1:
                bad["3"] = ("InternalError", False)
            elif len(entries) != 1 or n > 3:
                bad = {e["Id"]: ("SentTwice", True) for e in entries}
        elif how == "refuse" and action == "SendMessageBatch":
            bad = {e["Id"]: ("InvalidMessageContents", True) for e in entries}
        elif how == "void":
            bad = {e["Id"]: ("ReceiptHandleIsInvalid", True) for e in entries}
        self.json({"Successful": [{"Id": e["Id"]} for e in entries if e["Id"] not in bad],
                   "Failed": [{"Id": i, "Code": c, "SenderFault": f, "Message": "on purpose"} for i, (c, f) in bad.items()]})

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = serve


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):  # clients that go away, or do not trust us
        pass


def main():
    server = Server(("127.0.0.1", 0), Handler)
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1], sys.argv[2])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    os._exit(0)


main()
