#!/usr/bin/env python3
"""What scripts/test-faults does to a real server: llama.cpp's behind nginx, killed or stopped while
it answers. The text must be the SLM's own, and no step longer than its deadline.

kill_cloud.py STEPS BUNDLE SERVER.gguf
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

SCRIPTS = Path(__file__).resolve().parent.parent
DEADLINE_MS = 1500
# For the SLM's part of a step, on a busy machine.
SLACK_MS = 1000
# An answer of so many tokens takes longer than AFTER_SECONDS, so that the signal comes in its
# middle.
LONG = 200
AFTER_SECONDS = 0.12
TOKENS = 16
# Longer than the longest pause of the breaker.
RECOVERY_SECONDS = 90


class Step(NamedTuple):
    token: str
    source: str
    failure: str
    ms: float


class Server:
    """llama.cpp's server and the proxy in front of it."""

    def __init__(self, model: str):
        options = ["--token", "--minutes", "5", "--threads", "1", "--model", model]
        command = [SCRIPTS / "cloud-server", "start", *options]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        exports = (shlex.split(line)[1].split("=", 1) for line in lines.splitlines())
        self.environment = dict(exports)
        self.dir = Path(self.environment["HYBRID_CLOUD_DIR"])

    def send(self, name: str, number: signal.Signals) -> None:
        """To all processes of `llama` or `nginx`: each is a group of its own."""
        os.killpg(int((self.dir / f"{name}.pid").read_text()), number)

    def end(self) -> None:
        for name in ("llama", "nginx"):
            try:
                self.send(name, signal.SIGCONT)
            except ProcessLookupError:
                pass
        subprocess.run([SCRIPTS / "cloud-server", "stop", self.dir], check=True)


class Board:
    """The program that writes: tokens on demand."""

    def __init__(self, steps: str, bundle: str, environment: dict):
        keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.program = subprocess.Popen(
            [steps, bundle, str(DEADLINE_MS)], env=keep | environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.program.stdout.readline() == "ready\n", "the program does not start"

    def begin(self, tokens: int, burst: int) -> None:
        self.program.stdin.write(f"{tokens} {burst}\n")
        self.program.stdin.flush()

    def read(self, tokens: int) -> list:
        lines = (self.program.stdout.readline() for _ in range(tokens))
        # A failure's name may have spaces.
        parts = [re.fullmatch(r"(\d+) (\S+) (.+) (\S+)\n", line) for line in lines]
        assert all(parts), "the program ended early"
        return [Step(p[1], p[2], p[3], float(p[4])) for p in parts]

    def write(self, tokens: int) -> list:
        self.begin(tokens, 1)
        return self.read(tokens)

    def end(self) -> None:
        self.program.stdin.close()
        assert self.program.wait(60) == 0, "the program failed"


def row(what: str, steps: list, alone: list) -> bool:
    """One line of the matrix; returns whether it is as it should be."""
    first, slowest = steps[0], max(step.ms for step in steps)
    equal = [step.token for step in steps] == alone
    good = equal and first.source == "fallback" and first.failure != "none"
    good = good and slowest < DEADLINE_MS + SLACK_MS
    print(f"{what:<44} {slowest:7.0f} {'equal' if equal else 'OTHER':<6} {first.failure}"
          f"{'' if good else '   FAILED'}", flush=True)  # fmt: skip
    return good


def kill(server: Server, board: Board, name: str, alone: list) -> bool:
    board.begin(TOKENS, LONG)
    time.sleep(AFTER_SECONDS)
    server.send(name, signal.SIGKILL)
    return row(f"{name} is killed in its answer", board.read(TOKENS), alone)


def stop(server: Server, board: Board, name: str, alone: list) -> bool:
    board.begin(TOKENS, LONG)
    time.sleep(AFTER_SECONDS)
    server.send(name, signal.SIGSTOP)
    good = row(f"{name} is stopped in its answer", board.read(TOKENS), alone)
    server.send(name, signal.SIGCONT)
    # It still has what it was asked before, and the breaker pauses.
    for _ in range(RECOVERY_SECONDS):
        time.sleep(1)
        again = board.write(1)[0]
        if again.source == "cloud":
            break
    answered = again.source == "cloud"
    print(f"{name + ' goes on, and answers again':<44} {again.ms:7.0f}        {again.source}"
          f"{'' if answered else '   FAILED'}", flush=True)  # fmt: skip
    return good and answered


CASES = [(stop, "llama"), (stop, "nginx"), (kill, "llama"), (kill, "nginx")]


def main() -> int:
    steps, bundle, model = sys.argv[1:]
    local = Board(steps, bundle, {})
    alone = [step.token for step in local.write(TOKENS)]
    local.end()
    print(f"{'a real server':<44} {'ms':>7} {'text':<6} failure   (deadline {DEADLINE_MS} ms)")
    failed = 0
    for act, name in CASES:
        server = Server(model)
        try:
            board = Board(steps, bundle, server.environment)
            failed += not act(server, board, name, alone)
            board.end()
        finally:
            server.end()
    print(f"processes: {len(CASES) - failed} as they should be, {failed} not")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
