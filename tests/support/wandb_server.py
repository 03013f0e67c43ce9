"""A loopback server that takes what `wandb sync` sends: enough of W&B's API for an upload."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

VIEWER = {
    "id": "u", "username": "me", "entity": "me", "name": "me", "email": "me@localhost",
    "admin": False, "flags": "{}", "teams": {"edges": []}, "apiKeys": {"edges": []},
}  # fmt: skip


class Received:
    """What arrived."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        """Uploaded bytes by path: `/artifact/<artifact>/<file>`, `/run/<run>/<file>`."""
        self.calls: list[tuple[str, dict[str, Any]]] = []
        """GraphQL operations with their variables."""

    def of(self, operation: str) -> list[dict[str, Any]]:
        return [variables for name, variables in self.calls if name == operation]

    def artifact_files(self) -> dict[str, dict[str, bytes]]:
        """Artifact name to its uploaded files."""
        found: dict[str, dict[str, bytes]] = {}
        for path, data in self.files.items():
            kind, name, file = path.removeprefix("/").split("/", 2)
            if kind == "artifact":
                found.setdefault(name, {})[file] = data
        return found

    def answer(self, operation: str, query: str, v: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "UpsertBucket":
                bucket = {
                    "id": "b", "name": v["name"], "displayName": v.get("displayName") or v["name"],
                    "config": "{}", "description": "", "sweepName": None, "historyLineCount": 0,
                    "summaryMetrics": "{}",
                    "project": {"id": "p", "name": v["project"], "entity": {"id": "e", "name": "me"}},
                }  # fmt: skip
                return {"upsertBucket": {"bucket": bucket, "inserted": True}}
            case "CreateRunFiles":
                files = [{"name": f, "uploadUrl": f"{self.url}/run/{v['run']}/{f}"} for f in v["files"]]
                return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
            case "CreateArtifact":
                artifact = {
                    "id": v["input"]["artifactCollectionName"],
                    "state": "PENDING",
                    "artifactSequence": {"id": "s", "latestArtifact": None},
                }
                return {"createArtifact": {"artifact": artifact}}
            case "CreateArtifactManifest":
                file = {
                    "id": "f", "name": "wandb_manifest.json", "displayName": "m", "uploadHeaders": [],
                    "uploadUrl": f"{self.url}/manifest/{v['artifactID']}/wandb_manifest.json",
                }  # fmt: skip
                return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}
            case "CreateArtifactFiles":
                nodes = [
                    {
                        "id": "f", "name": f["name"], "displayName": f["name"], "uploadHeaders": [],
                        "storagePath": None,
                        "uploadUrl": f"{self.url}/artifact/{f['artifactID']}/{f['name']}",
                        "uploadMultipartUrls": None, "artifact": {"id": f["artifactID"]},
                    }
                    for f in v["input"]["artifactFiles"]
                ]  # fmt: skip
                return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
            case "CommitArtifact":
                return {"commitArtifact": {"artifact": {"id": v["artifactID"], "digest": "d"}}}
            case "ArtifactType":
                return {"project": {"artifact": None}}
            case "UpsertView2":
                return {"upsertView": {"view": {"id": "view1", "name": v["name"]}, "inserted": True}}
        info = {"cliVersionInfo": {}, "latestLocalVersionInfo": None, "features": []}
        return {"viewer": VIEWER, "serverInfo": info} if "viewer" in query else {"serverInfo": info}


@contextmanager
def wandb_server(refuses: int | None = None, because: str = "") -> Iterator[Received]:
    """`refuses`: status of the answer to a new run (401: to everything), with `because` as its message."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def body(self) -> bytes:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

        def reply(self, value: Any, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self.reply({})

        def do_PUT(self) -> None:
            received.files[self.path] = self.body()
            self.reply({})

        def do_POST(self) -> None:
            data = self.body()
            if self.path != "/graphql":
                return self.reply({})
            call = json.loads(data)
            query, variables = call["query"], call.get("variables") or {}
            name = call.get("operationName") or query.split("(")[0].split()[-1]
            received.calls.append((name, variables))
            if refuses == 401 or (refuses and name == "UpsertBucket"):
                return self.reply({"errors": [{"message": because}]}, refuses)
            return self.reply({"data": received.answer(name, query, variables)})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
