"""A stand-in for a model hub on this machine: repositories in memory, as huggingface_hub reads and writes them."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Files by repository; ``requests`` are the paths that were asked for."""

    def __init__(self):
        self.repositories, self.requests, self.private = {}, [], {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, content, status=200, headers=()):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **dict(headers)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.hub.requests.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if about := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", path):
            return self.describe(about[1])
        if tree := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
            files = self.hub.repositories.get(tree[1], {})
            return self.answer(
                [{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in files.items()]
            )
        if file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self.send_file(file[1], file[2])
        return self.answer({"error": "not here"}, 404)

    do_HEAD = do_GET

    def describe(self, name):
        files = self.hub.repositories.get(name)
        if files is None:
            return self.answer({"error": "Repository not found"}, 404, [("X-Error-Code", "RepoNotFound")])
        return self.answer({"id": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]})

    def send_file(self, name, file):
        data = self.hub.repositories.get(name, {}).get(file)
        if data is None:
            return self.answer({"error": "no file"}, 404, [("X-Error-Code", "EntryNotFound")])
        tag = hashlib.sha256(data).hexdigest()
        return self.answer(data, headers=[("ETag", f'"{tag}"'), ("X-Repo-Commit", COMMIT)])

    def do_POST(self):
        self.hub.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/main", self.path):
            files = json.loads(body)["files"]
            return self.answer({"files": [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in files]})
        if commit := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path.partition("?")[0]):
            return self.commit(commit[1], body)
        return self.answer({"error": "not here"}, 404)

    def create(self, content):
        name = f"{content.get('organization') or 'me'}/{content['name']}"
        if self.headers.get("Authorization") != "Bearer good":
            return self.answer({"error": "Invalid token"}, 401)
        known = name in self.hub.repositories
        self.hub.repositories.setdefault(name, {})
        self.hub.private[name] = content.get("private") or content.get("visibility") == "private"
        return self.answer({"url": f"{self.hub.address}/{name}"}, 409 if known else 200)

    def commit(self, name, body):
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.hub.repositories[name][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return self.answer({"commitOid": COMMIT, "commitUrl": f"{self.hub.address}/{name}/commit/{COMMIT}"})
