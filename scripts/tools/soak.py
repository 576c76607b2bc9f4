#!/usr/bin/env python3
"""What scripts/soak runs: a server that fails and a client that asks it, then the verdict.

soak.py CLIENT SERVER BUNDLE SECONDS SHARE
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

# A quarter of the run may hold so much more than an earlier one, in bytes: what an allocator has
# not handed back. A leak of 1 kB in a consult is more than that within a minute or two.
SLACK = 512 << 10
# A server of tests closes a connection after so many seconds.
CONNECTION_SECONDS = 30


def verdict(samples: list, client: dict, server: dict, seconds: float, share: float) -> list:
    """What is wrong, a line each."""
    wrong = []
    # The first quarter is for warming up.
    quarter = max(1, len(samples) // 4)
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    memory = [statistics.median(s["resident"] for s in part) for part in (early, late)]
    if len(samples) < 8:
        wrong.append(f"only {len(samples)} samples: run it for longer")
    elif memory[1] > memory[0] + SLACK:
        wrong.append(f"memory grows from {memory[0] / 1e6:.1f} to {memory[1] / 1e6:.1f} MB")
    for what in ("descriptors", "threads"):
        before, after = (max(s[what] for s in part) for part in (samples[: 2 * quarter], late))
        if after > before:
            wrong.append(f"{what} grow from {before} to {after}")

    def at_most(low: int, what: str, high: int, other: str) -> None:
        if low > high:
            wrong.append(f"{low} {what}, but {high} {other}")

    if client["consults"] != client["answers"] + client["failed"]:
        counts = "{consults} consults, {answers} answers, {failed} failures".format(**client)
        wrong.append(f"a consult is neither answered nor failed: {counts}")
    if client["failures"] != client["failed"]:
        wrong.append("the session counts {failures} failures, the steps {failed}".format(**client))
    # A request may go into a connection that the server has just closed, or be cut by its deadline.
    closed = server["closed"] + client["timeouts"] + int(seconds / CONNECTION_SECONDS) + 1
    at_most(server["requests"], "requests arrived", client["requests"], "are counted")
    at_most(client["requests"], "requests are counted", server["requests"] + closed,
            "arrived or may have been lost")  # fmt: skip
    at_most(client["answers"], "answers are counted", server["answers"], "were given")
    at_most(server["answers"], "answers were given", client["answers"] + client["timeouts"],
            "are counted, timeouts included")  # fmt: skip
    failed = client["failed"] / max(1, client["consults"])
    if not share / 2 < failed < share * 1.5 + 0.05:
        wrong.append(f"{failed:.0%} of the consults failed; the server fails {share:.0%}")
    return wrong


def run(client: str, server: str, bundle: str, seconds: float, share: float) -> tuple:
    with tempfile.TemporaryDirectory() as folder:
        ca = Path(folder) / "ca.pem"
        serving = subprocess.Popen(
            [server, str(share), ca], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with serving:
            url = serving.stdout.readline().strip()
            command = [client, bundle, str(seconds), url, ca]
            asked = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True,
                                   stdin=subprocess.DEVNULL, timeout=seconds + 120)  # fmt: skip
            counted = serving.communicate(timeout=60)[0]
    *samples, client_counts = map(json.loads, asked.stdout.splitlines())
    return samples, client_counts, json.loads(counted)


def main() -> int:
    client, server, bundle, seconds, share = sys.argv[1:]
    seconds, share = float(seconds), float(share)
    samples, counted, served = run(client, server, bundle, seconds, share)
    print(f"{'seconds':>8} {'MB':>8} {'descriptors':>12} {'threads':>8}")
    for sample in samples[:: max(1, len(samples) // 10)]:
        print("{seconds:8.1f} {0:8.1f} {descriptors:12} {threads:8}".format(
            sample["resident"] / 1e6, **sample))  # fmt: skip
    print("client  ", counted)
    print("server  ", served)
    wrong = verdict(samples, counted, served, seconds, share)
    for line in wrong:
        print(f"FAILED {line}")
    print("soak: {0:.0f} s, {consults} consults, {requests} requests, {failed} failed; {1}".format(
        seconds, "not as it should be" if wrong else "as it should be", **counted))  # fmt: skip
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
