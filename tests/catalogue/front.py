"""A server in front of another one that is busy for some paths, as the Hub is on a bad day."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import Request, urlopen


@contextmanager
def in_front(endpoint: str, part: str, times: int):
    """Yields an endpoint that answers the first `times` requests of a path with `part` in it with 503."""
    refused = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_GET(self):
            if part in self.path and len(refused) < times:
                refused.append(self.path)
                return self.answer(503, {"Retry-After": "0"}, b"{}")
            try:
                with urlopen(Request(endpoint + self.path, method=self.command)) as reply:
                    return self.answer(reply.status, reply.headers, reply.read())
            except HTTPError as error:
                return self.answer(error.code, error.headers, error.read())

        do_HEAD = do_GET

        def answer(self, status, headers, body):
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection", "server", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", headers.get("Content-Length") or str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
