"""A server in front of another one that fails for some paths, as the Hub does on a bad day."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import Request, urlopen


@contextmanager
def in_front(endpoint: str, failing: dict[str, int]):
    """Yields an endpoint that answers paths containing a key of `failing` with its status."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_GET(self):
            status = next((code for part, code in failing.items() if part in self.path), None)
            if status:
                return self.answer(status, {}, b"{}")
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
