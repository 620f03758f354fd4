"""The worker's HTTP port: Prometheus metrics, and whether it is alive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Scrapes and probes are no news."""


def serve_health(host: str, port: int, alive: Callable[[], bool]) -> None:
    """Serves `/healthz`, 200 or 503, and the metrics on every other path, in a thread that ends with the process."""
    metrics = make_wsgi_app()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/healthz":
            found: Iterable[bytes] = metrics(environ, start_response)
            return found
        status, body = ("200 OK", b"ok\n") if alive() else ("503 Service Unavailable", b"the worker stands still\n")
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    server = make_server(host, port, app, _Server, _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
