"""A web server of this machine that serves files, and fails as asked."""

import contextlib
import hashlib
import http.server
import threading
import time


class Server:
    """Files by path, and what has been asked for.

    Attributes:
        files: path -> bytes.
        cuts: path -> sizes; each answer takes one, and breaks off after so many bytes.
        statuses: path -> statuses; each answer takes one in place of the file.
        redirects: path -> address.
        headers: path -> headers beside the usual ones.
        etags: whether answers have an ETag; without one nothing is resumed.
        delay: seconds before each answer.
        requests: (path, first byte that was asked for), in order.
    """

    def __init__(self):
        self.files, self.cuts, self.statuses, self.redirects, self.headers = {}, {}, {}, {}, {}
        self.etags, self.delay, self.requests = True, 0.0, []
        self.url = ""


@contextlib.contextmanager
def serve():
    server = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            answer(server, self)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


def answer(server, handler):
    path = handler.path
    requested = handler.headers.get("Range", "bytes=0-")
    start = int(requested.removeprefix("bytes=").removesuffix("-"))
    server.requests.append((path, start))
    time.sleep(server.delay)
    if path in server.redirects:
        return head(handler, 302, {"Location": server.redirects[path], "Content-Length": "0"},
                    server.headers.get(path, {}))  # fmt: skip
    status = server.statuses[path].pop(0) if server.statuses.get(path) else 200
    if status != 200 or path not in server.files:
        status = status if status != 200 else 404
        return head(handler, status, {"Content-Length": "0"}, {})
    content = server.files[path]
    etag = f'"{hashlib.md5(content).hexdigest()}"'
    headers = {"ETag": etag} if server.etags else {}
    status = 200
    if start and handler.headers.get("If-Range") == etag:
        if start >= len(content):
            return head(handler, 416, {"Content-Length": "0"}, {})
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        content, status = content[start:], 206
    headers["Content-Length"] = str(len(content))
    head(handler, status, headers, server.headers.get(path, {}))
    if server.cuts.get(path):
        handler.wfile.write(content[: server.cuts[path].pop(0)])
        handler.close_connection = True
    else:
        handler.wfile.write(content)


def head(handler, status, *headers):
    handler.send_response(status)
    for each in headers:
        for name, value in each.items():
            handler.send_header(name, value)
    handler.end_headers()
