"""Downloads of scripts/models from a publisher: a server on 127.0.0.1 plays the publisher."""

import contextlib
import hashlib
import http.server
import importlib.machinery
import importlib.util
import io
import os
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

SCRIPT = Path(__file__).resolve().parent.parent / "models"
LOADER = importlib.machinery.SourceFileLoader("models", str(SCRIPT))
models = importlib.util.module_from_spec(importlib.util.spec_from_loader("models", LOADER))
LOADER.exec_module(models)

DATA = bytes(range(256)) * 400
SHA256 = hashlib.sha256(DATA).hexdigest()


class Publisher(http.server.BaseHTTPRequestHandler):
    """Serves DATA; what else it does is in the server's fields."""

    def do_GET(self):
        self.server.ranges.append(self.headers.get("Range"))
        start = 0
        if self.server.knows_ranges and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if self.path != "/official/file.gguf":
            return self.send_error(404)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.server.data) - start))
        self.end_headers()
        self.wfile.write(self.server.data[start:][: self.server.bytes_a_request])
        return None

    def log_message(self, *_):
        pass


class PublisherTest(unittest.TestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Publisher)
        self.server.data, self.server.bytes_a_request = DATA, len(DATA)
        self.server.knows_ranges, self.server.ranges = True, []
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.cache = Path(folder.name)
        address = f"http://127.0.0.1:{self.server.server_port}/"
        for patch in (
            mock.patch.object(models, "CACHE", self.cache),
            mock.patch.dict(os.environ, {"HYBRID_MODELS_URL": address}),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            patch.__enter__()
            self.addCleanup(patch.__exit__, None, None, None)

    def fetch(self, sha256=SHA256, official="official/file.gguf"):
        model = models.Model("file.gguf", len(DATA), sha256, [], "", official)
        with mock.patch.dict(models.MODELS, {"test": model}):
            return models.ensure("test", models.download)

    def leave(self, data):
        (self.cache / "file.gguf.download").write_bytes(data)

    def test_download(self):
        self.assertEqual(self.fetch().read_bytes(), DATA)
        self.assertEqual(self.server.ranges, [None])
        self.assertEqual(self.fetch().read_bytes(), DATA)
        self.assertEqual(len(self.server.ranges), 1, "a file that is there is not fetched again")

    def test_resumes_where_a_download_stopped(self):
        self.leave(DATA[:1000])
        self.assertEqual(self.fetch().read_bytes(), DATA)
        self.assertEqual(self.server.ranges, ["bytes=1000-"])

    def test_goes_on_after_a_connection_that_ended_early(self):
        self.server.bytes_a_request = 50_000
        self.assertEqual(self.fetch().read_bytes(), DATA)
        self.assertEqual(self.server.ranges, [None, "bytes=50000-", "bytes=100000-"])

    def test_a_server_without_ranges_sends_all_of_it(self):
        self.server.knows_ranges = False
        self.leave(b"x" * 1000)
        self.assertEqual(self.fetch().read_bytes(), DATA)

    def test_refusals(self):
        cases = {
            "another SHA-256": {"sha256": "0" * 64},
            "404": {"official": "official/none.gguf"},
        }
        for expected, change in cases.items():
            with self.subTest(expected), self.assertRaisesRegex(RuntimeError, expected):
                self.fetch(**change)
            self.assertFalse((self.cache / "file.gguf").exists())

    def test_incomplete_says_how_to_go_on(self):
        self.server.bytes_a_request = 10
        with self.assertRaisesRegex(RuntimeError, "run this again"):
            self.fetch()
        self.assertEqual((self.cache / "file.gguf.download").stat().st_size, 30)

    def test_too_many_bytes(self):
        self.server.data = DATA + b"x"
        self.server.bytes_a_request = len(DATA) + 1
        with self.assertRaisesRegex(RuntimeError, "more bytes"):
            self.fetch()


if __name__ == "__main__":
    unittest.main()
