"""Dataset repositories on loopback, as far as the genuine `datasets` client asks for the Hub's protocol."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse


@dataclass
class DatasetHub:
    """What is served now; change `version` for a new commit."""

    repos: dict[str, Path]
    endpoint: str = ""
    version: str = "first"
    busy: int = 0
    """Questions about datasets that are still answered with 503."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    """(method, path) of every request."""

    @property
    def commit(self) -> str:
        return hashlib.sha1(self.version.encode()).hexdigest()


@contextmanager
def serve_datasets(repos: dict[str, Path]) -> Iterator[DatasetHub]:
    """Serve folders as dataset repositories `owner/name` with one branch, main."""
    hub = DatasetHub(repos)

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

        def json(self, value):
            self.reply(200, json.dumps(value).encode(), Content_Type="application/json")

        def refuse(self, error):
            self.reply(404, b'{"error": "refused"}', X_Error_Code=error, X_Error_Message=error)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked = json.loads(body) if body.startswith("{") else parse_qs(body)
            self.answer(asked.get("paths", []))

        def do_GET(self):
            self.answer([])

        do_HEAD = do_GET

        def answer(self, paths):
            path = unquote(urlparse(self.path).path)
            hub.seen.append((self.command, path))
            parts = path.strip("/").split("/")
            api = parts[0] == "api"
            if parts[:2] == ["api", "datasets"] and hub.busy:
                hub.busy -= 1
                return self.reply(503, b"{}", Retry_After="0")
            repo, rest = "/".join(parts[api + 1 : api + 3]), parts[api + 3 :]
            if parts[api] != "datasets" or repo not in repos:
                return self.refuse("RepoNotFound")
            if len(rest) > 1 and rest[1] not in ("main", hub.commit):
                return self.refuse("RevisionNotFound")
            folder = repos[repo]
            if not api:
                return self.file(folder.joinpath(*rest[2:]))
            if rest[:1] in (["tree"], ["paths-info"]):
                inside = (
                    [folder / p for p in paths] if paths else sorted(folder.joinpath(*rest[2:]).rglob("*"))
                )
                return self.json([self.entry(p, folder) for p in inside if p.exists()])
            names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
            siblings = [{"rfilename": name} for name in sorted(names)]
            return self.json({"id": repo, "sha": hub.commit, "siblings": siblings, "private": False})

        def entry(self, path, folder):
            oid = hashlib.sha1(path.read_bytes() if path.is_file() else b"").hexdigest()
            name = path.relative_to(folder).as_posix()
            if path.is_dir():
                return {"type": "directory", "path": name, "oid": oid}
            return {"type": "file", "path": name, "oid": oid, "size": path.stat().st_size}

        def file(self, file):
            if not file.is_file():
                return self.refuse("EntryNotFound")
            data = file.read_bytes()
            headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X_Repo_Commit": hub.commit}
            if "Range" not in self.headers:
                return self.reply(200, data, **headers)
            start, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
            last = min(int(end), len(data) - 1) if end else len(data) - 1
            headers["Content_Range"] = f"bytes {start}-{last}/{len(data)}"
            return self.reply(206, data[int(start) : last + 1], **headers)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
