#!/usr/bin/env python3
"""The end-to-end test behind scripts/test-cloud: the demo program against a real server.

test_cloud.py DEMO BUNDLE_WITH_THE_SERVER'S_VOCABULARY BUNDLE_WITH_ANOTHER SERVER.gguf
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SCRIPTS = Path(__file__).resolve().parent.parent
LAST_LINE = re.compile(r"tokens=(\d+) cloud=(\d+) fallback=(\d+) consults=(\d+) tok_s=(\d+\.\d+)")
QUESTION = "What is the capital of France? Answer in one sentence."
STORY = "Write a story about a lighthouse keeper."
RUN_SECONDS = 180


class Outcome(NamedTuple):
    output: str
    errors: str
    tokens: int
    cloud: int
    fallback: int
    consults: int

    @property
    def text(self) -> str:
        """What was generated: between the introduction and the table."""
        return self.output.split("\n\n", 1)[1].rsplit("\nprompt  ", 1)[0]


class Bench:
    """The program, the bundles and a running server."""

    def __init__(self, demo: str, same: str, other: str, server: str):
        self.demo, self.same, self.other, self.server = demo, same, other, server

    def start(self) -> None:
        command = [
            SCRIPTS / "cloud-server",
            "start",
            "--token",
            "--minutes",
            "15",
            "--model",
            self.server,
        ]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        exports = (shlex.split(line)[1].split("=", 1) for line in lines.splitlines())
        environment = dict(exports)
        self.url, self.ca = environment["HYBRID_CLOUD_URL"], environment["HYBRID_CLOUD_CA"]
        self.dir = Path(environment["HYBRID_CLOUD_DIR"])

    def stop(self) -> None:
        if self.dir.exists():
            subprocess.run([SCRIPTS / "cloud-server", "stop", self.dir], check=True)

    def arguments(
        self, bundle: str, *options: str, prompt: str = QUESTION, ca=None, token=None
    ) -> list:
        fixed = [
            "--bundle",
            bundle,
            "--prompt",
            prompt,
            "--max-tokens",
            "24",
            "--deadline-ms",
            "20000",
        ]
        server = [
            "--cloud-url",
            self.url,
            "--ca",
            ca or self.ca,
            "--token-file",
            token or self.dir / "token",
        ]
        return [self.demo, *fixed, *server, *options]

    def run(self, bundle: str, *options: str, **settings) -> Outcome:
        result = subprocess.run(
            self.arguments(bundle, *options, **settings),
            stdin=subprocess.DEVNULL, capture_output=True, timeout=RUN_SECONDS,
        )  # fmt: skip
        return outcome(result.returncode, result.stdout, result.stderr)


def outcome(status: int, output: bytes, errors: bytes) -> Outcome:
    # Strict: whatever the tokens, the program prints whole characters.
    output, errors = output.decode(), errors.decode()
    assert status == 0, f"exit status {status}: {errors}"
    counts = LAST_LINE.fullmatch(output.splitlines()[-1])
    assert counts, f"last line: {output.splitlines()[-1]!r}"
    return Outcome(output, errors, *map(int, counts.groups()[:4]))


def local_only_asks_nobody(bench: Bench) -> None:
    got = bench.run(bench.same, "--local")
    assert got.tokens > 0 and (got.cloud, got.fallback, got.consults) == (0, 0, 0), got
    assert "Paris" in got.text, got.text


def threshold_zero_is_local_only(bench: Bench) -> None:
    got = bench.run(bench.same, "--threshold", "0")
    assert got.consults == 0 and got.text == bench.run(bench.same, "--local").text, got


def ids_to_a_server_with_the_same_vocabulary(bench: Bench, kind: str) -> None:
    """Every token is asked for. The server has the same model, so it says what the SLM would."""
    got = bench.run(bench.same, "--threshold", "2", "--server", kind)
    assert "shares its ids" in got.output, got.output
    assert got.tokens > 0 and got.cloud == got.consults == got.tokens, got
    assert got.text == bench.run(bench.same, "--local").text, got.text


def a_burst_needs_fewer_consults(bench: Bench) -> None:
    got = bench.run(bench.same, "--threshold", "2", "--burst", "8", "--server", "llama-cpp")
    assert got.cloud == got.tokens and got.consults <= (got.tokens + 7) // 8 + 1, got
    assert got.text == bench.run(bench.same, "--local").text, got.text


def bytes_to_a_server_with_another_vocabulary(bench: Bench, kind: str) -> None:
    got = bench.run(bench.other, "--threshold", "0.9", "--server", kind)
    assert "bytes go to the cloud" in got.output, got.output
    assert 0 < got.cloud <= got.tokens and got.fallback == 0 and got.consults > 0, got


def a_wrong_ca_is_never_trusted(bench: Bench) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
        )
        command += " -subj /CN=stranger -keyout key.pem -out ca.pem"
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
        got = bench.run(bench.same, "--threshold", "2", ca=f"{folder}/ca.pem")
    all_fallback(bench, got, "certificate")


def a_wrong_token_is_refused(bench: Bench) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "token").write_text("wrong\n")
        got = bench.run(bench.same, "--threshold", "2", token=f"{folder}/token")
    all_fallback(bench, got, "401")
    assert "wrong" not in got.output + got.errors, "a bearer token was printed"


def all_fallback(bench: Bench, got: Outcome, complaint: str) -> None:
    assert got.cloud == 0 and got.fallback == got.tokens > 0, got
    assert got.text == bench.run(bench.same, "--local").text, got.text
    assert complaint in got.errors, got.errors


def unplugged_in_the_middle(bench: Bench) -> None:
    """Must be the last: it stops the server while the program writes."""
    options = ["--threshold", "2", "--max-tokens", "60"]
    command = bench.arguments(bench.same, *options, prompt=STORY)
    program = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with program:
        before = read_until_written(program, 100)
        bench.stop()
        output, errors = program.communicate(timeout=RUN_SECONDS)
    got = outcome(program.returncode, before + output, errors)
    assert got.cloud > 0 and got.fallback > 0 and got.tokens == 60, got


def read_until_written(program, size: int) -> bytes:
    """The introduction and the first `size` bytes of the text."""
    read, deadline = b"", time.monotonic() + RUN_SECONDS
    while len(read.partition(b"\n\n")[2]) < size:
        assert time.monotonic() < deadline and program.poll() is None, read
        read += os.read(program.stdout.fileno(), 4096)
    return read


CASES = [
    (local_only_asks_nobody,),
    (threshold_zero_is_local_only,),
    (ids_to_a_server_with_the_same_vocabulary, "openai"),
    (ids_to_a_server_with_the_same_vocabulary, "llama-cpp"),
    (a_burst_needs_fewer_consults,),
    (bytes_to_a_server_with_another_vocabulary, "openai"),
    (bytes_to_a_server_with_another_vocabulary, "llama-cpp"),
    (a_wrong_ca_is_never_trusted,),
    (a_wrong_token_is_refused,),
    (unplugged_in_the_middle,),
]


def main() -> int:
    bench = Bench(*sys.argv[1:])
    bench.start()
    failed = 0
    try:
        for case, *settings in CASES:
            name = " ".join([case.__name__, *settings])
            began = time.monotonic()
            try:
                case(bench, *settings)
            except (AssertionError, subprocess.SubprocessError, OSError, UnicodeError) as error:
                failed += 1
                print(f"FAILED {name}: {error}", flush=True)
            else:
                print(f"ok {name} ({time.monotonic() - began:.1f} s)", flush=True)
    finally:
        bench.stop()
    print(f"end-to-end: {len(CASES) - failed} passed, {failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
