"""A small HTTP server on loopback that speaks the Hub's file protocol to the genuine client.

Like the Hub it sends large files (here: .safetensors) from another address, by a redirect with their digest.
"""

import hashlib
import json
import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = hashlib.sha1(b"one commit").hexdigest()


@dataclass
class Fault:
    """Something that goes wrong with requests whose `METHOD path` contains `where`."""

    where: str
    times: int = 1
    status: int = 0
    """Answer this instead; 0: send the file, but not all of it."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    cut: int = 0
    """Bytes of the file after which the connection ends."""
    reset: bool = False
    """End it with a reset instead of an orderly close."""


class Requests(list):
    """(method, path) of every request; `ranges` has the Range headers."""

    def __init__(self):
        super().__init__()
        self.ranges: list[str] = []

    def files(self, repo: str) -> set[str]:
        """Files of the repository whose bytes were sent, or asked for."""
        found = set()
        for method, path in self:
            parts = path.removeprefix("/cdn").removeprefix(f"/{repo}/").split("/")
            if method == "GET" and parts[0] == "resolve":
                found.add("/".join(parts[2:]))
        return found


def commit_of(revision: str) -> str:
    """Commit the server gives to a branch or tag."""
    return COMMIT if revision == "main" else hashlib.sha1(revision.encode()).hexdigest()


@contextmanager
def serve(repos, revisions=None, gated=(), private=(), faults=()):
    """Serve folders as model repositories; yields the endpoint and the requests seen.

    `revisions`: {repo: {branch or tag: folder}} beside main. `gated` repositories show their files but give
    none; `private` ones are answered like missing ones.
    """
    seen = Requests()
    faults = list(faults)
    served = {
        repo: {"main": Path(folder)} | {k: Path(v) for k, v in (revisions or {}).get(repo, {}).items()}
        for repo, folder in repos.items()
    }

    def folder_of(repo: str, revision: str) -> tuple[Path, str] | None:
        for name, folder in served[repo].items():
            if revision in (name, commit_of(name)):
                return folder, commit_of(name)
        return None

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def reply(self, code, body=b"", length=None, cut=None, reset=False, **headers):
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(body[:cut])
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.connection.close()

        def refuse(self, code, error, message=None):
            self.reply(code, b'{"error": "refused"}', X_Error_Code=error, X_Error_Message=message or error)

        def do_GET(self):
            path = unquote(urlparse(self.path).path)
            seen.append((self.command, path))
            if self.headers.get("Range"):
                seen.ranges.append(self.headers["Range"])
            fault = next((f for f in faults if f.times and f.where in f"{self.command} {path}"), None)
            if fault:
                fault.times -= 1
                if fault.status:
                    headers = {name.replace("-", "_"): value for name, value in fault.headers.items()}
                    return self.reply(fault.status, fault.body, **headers)
            parts = path.strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                return self.api("/".join(parts[2:4]), parts[4:])
            from_cdn = parts[0] == "cdn"
            if from_cdn:
                parts = parts[1:]
            return self.file("/".join(parts[:2]), parts[2:], from_cdn, fault)

        do_HEAD = do_GET

        def file(self, repo, rest, from_cdn, fault):
            if repo not in served or rest[:1] != ["resolve"] or repo in private:
                return self.refuse(401, "RepoNotFound", "Invalid username or password.")
            if repo in gated:
                return self.refuse(401, "GatedRepo")
            version = folder_of(repo, rest[1])
            if version is None:
                return self.refuse(404, "RevisionNotFound")
            folder, commit = version
            file = folder.joinpath(*rest[2:])
            if not file.is_file():
                return self.refuse(404, "EntryNotFound")
            data = file.read_bytes()
            headers = {"X_Repo_Commit": commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
            if file.suffix == ".safetensors" and not from_cdn:
                return self.reply(
                    302,
                    Location=f"http://{self.headers['Host']}/cdn/{repo}/resolve/{commit}/{'/'.join(rest[2:])}",
                    X_Linked_ETag=f'"{hashlib.sha256(data).hexdigest()}"',
                    X_Linked_Size=str(len(data)),
                    X_Repo_Commit=commit,
                )
            first, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")
            start, end = int(first), min(int(last) + 1, len(data)) if last else len(data)
            partial = (start, end) != (0, len(data))
            if partial:
                headers["Content_Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            cut = {"cut": fault.cut, "reset": fault.reset} if fault else {}
            return self.reply(206 if partial else 200, data[start:end], **cut, **headers)

        def api(self, repo, rest):
            if repo not in served or repo in private:
                return self.refuse(401, "RepoNotFound", "Invalid username or password.")
            if rest[:1] == ["refs"]:
                named = [{"name": n, "ref": n, "targetCommit": commit_of(n)} for n in served[repo]]
                body = {"branches": named[:1], "tags": named[1:], "converts": []}
                return self.reply(200, json.dumps(body).encode(), Content_Type="application/json")
            version = folder_of(repo, rest[1] if len(rest) > 1 else "main")
            if version is None:
                return self.refuse(404, "RevisionNotFound")
            folder, commit = version
            files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
            if rest[:1] == ["tree"]:
                body = [
                    {
                        "type": "file",
                        "path": name,
                        "size": path.stat().st_size,
                        "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
                    }
                    for name, path in files.items()
                ]
            else:
                siblings = [{"rfilename": name, "size": path.stat().st_size} for name, path in files.items()]
                body = {"id": repo, "sha": commit, "siblings": siblings, "private": repo in private}
            return self.reply(200, json.dumps(body).encode(), Content_Type="application/json")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
