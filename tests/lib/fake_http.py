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
