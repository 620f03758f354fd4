"""A model server small enough to start in a fraction of a second: V2 over HTTP, one unary method over gRPC."""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--http_port", type=int)
parser.add_argument("--grpc_port", type=int)
options, _ = parser.parse_known_args()
if os.environ.get("FAKE") == "broken":
    sys.exit("the bundle is for another model")

time.sleep(float(os.environ.get("START_S", "0")))

ABOUT = {
    "revision": os.environ["K_REVISION"],
    "pid": os.getpid(),
    "arguments": sys.argv[1:],
    "env": dict(os.environ),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for a delayed acknowledgement

    def _answer(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        ready = self.path in {"/v2/health/ready", "/v2/models/echo/ready"}
        self._answer(200 if ready else 404, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if body == b"crash":
            os._exit(7)
        if body == b"slow":
            time.sleep(1)
        if body == b"too slow":
            time.sleep(3)
        self._answer(400 if body == b"refuse" else 200, {**ABOUT, "bytes": len(body)})

    def log_message(self, *_):
        pass


if os.environ.get("FAKE") == "grpc":
    import grpc

    class Echo(grpc.GenericRpcHandler):
        def service(self, details):
            def call(message, context):
                if message == b"refuse":
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "row 3: no such city")
                return details.method.encode() + b"|" + message

            return grpc.unary_unary_rpc_method_handler(call)

    server = grpc.server(ThreadPoolExecutor(2), handlers=(Echo(),))
    server.add_insecure_port(f"127.0.0.1:{options.grpc_port}")
    server.start()

ThreadingHTTPServer(("127.0.0.1", options.http_port), Handler).serve_forever()
