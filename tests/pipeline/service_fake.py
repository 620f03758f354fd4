"""A service of ours that starts in a fraction of a second: it is ready, and answers with the version of its bundle.

The word that a bundle is made of decides how: "broken" does not load, and "failing" answers every second request with
an error.
"""

import argparse
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--http_port", type=int)
parser.add_argument("--model_dir", type=Path)
options, _ = parser.parse_known_args()
version, word = 0, ""
if options.model_dir:
    version = json.loads((options.model_dir / "registration.json").read_text())["version"]
    word = (options.model_dir / "model_card.md").read_text().rpartition("Made of ")[2].rstrip(".\n")
if word == "broken":
    sys.exit("the bundle cannot be loaded")
requests = count()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for a delayed acknowledgement

    def _answer(self, code):
        body = json.dumps({"version": version}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self._answer(200)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(500 if word == "failing" and next(requests) % 2 else 200)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", options.http_port), Handler).serve_forever()
