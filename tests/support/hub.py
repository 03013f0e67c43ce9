"""A small HTTP server on loopback that speaks the Hub's file protocol to the genuine client."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = hashlib.sha1(b"one commit").hexdigest()


@contextmanager
def serve(repos: dict[str, Path]):
    """Serve folders as model repositories; yields the endpoint and the list of requests seen."""
    seen: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def reply(self, code, body=b"", **headers):
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def refuse(self, code, error):
            self.reply(code, json.dumps({"error": error}).encode(), X_Error_Code=error, X_Error_Message=error)

        def do_GET(self):
            path = unquote(urlparse(self.path).path)
            seen.append((self.command, path))
            parts = path.strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                return self.api("/".join(parts[2:4]), parts[4:])
            repo, rest = "/".join(parts[:2]), parts[2:]
            if repo not in repos or rest[:1] != ["resolve"]:
                return self.refuse(404, "RepoNotFound")
            if rest[1] not in ("main", COMMIT):
                return self.refuse(404, "RevisionNotFound")
            file = repos[repo].joinpath(*rest[2:])
            if not file.is_file():
                return self.refuse(404, "EntryNotFound")
            data = file.read_bytes()
            return self.reply(200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=COMMIT)

        do_HEAD = do_GET

        def api(self, repo, rest):
            if repo not in repos:
                return self.refuse(404, "RepoNotFound")
            if len(rest) > 1 and rest[1] not in ("main", COMMIT):
                return self.refuse(404, "RevisionNotFound")
            files = [p for p in sorted(repos[repo].rglob("*")) if p.is_file()]
            names = [p.relative_to(repos[repo]).as_posix() for p in files]
            if rest[:1] == ["tree"]:
                body = [
                    {
                        "type": "file",
                        "path": n,
                        "size": p.stat().st_size,
                        "oid": hashlib.sha1(p.read_bytes()).hexdigest(),
                    }
                    for n, p in zip(names, files, strict=True)
                ]
            else:
                body = {
                    "id": repo,
                    "sha": COMMIT,
                    "siblings": [{"rfilename": n} for n in names],
                    "private": False,
                }
            return self.reply(200, json.dumps(body).encode(), Content_Type="application/json")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
