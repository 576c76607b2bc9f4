"""Runs a Python program that nobody has read: in a process with limits, without network, in an
empty folder.
"""

import functools
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

CPU_SECONDS = 5
WALL_SECONDS = 15
MEMORY_BYTES = 512 << 20
FILE_BYTES = 1 << 20
OPEN_FILES = 32
NOBODY = 65534

# The system's interpreter, since another user can run it.
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
NAMESPACES = ["--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"]


def passes(program: str) -> bool:
    """Whether the program comes to its end. One that exits earlier, even with 0, does not."""
    nonce = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="hybrid-sandbox-") as name:
        folder = Path(name)
        (folder / "program.py").write_text(f"{program}\nprint('\\n{nonce}')\n")
        folder.chmod(0o777)
        with (folder / "output").open("w+b") as output:
            process = subprocess.Popen(
                [*isolation(), PYTHON, "-I", "-B", "program.py"],
                cwd=folder, env={}, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=limit, **unprivileged(),
            )  # fmt: skip
            try:
                status = process.wait(WALL_SECONDS)
            except subprocess.TimeoutExpired:
                return False
            finally:
                end(process)
            output.seek(0)
            return status == 0 and output.read().rstrip().endswith(nonce.encode())


def limit() -> None:
    """In the child, before the program."""
    for what, value in [
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ]:
        resource.setrlimit(what, (value, value))


def unprivileged() -> dict:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}


@functools.cache
def isolation() -> list:
    """A command that runs the rest of its line without network and ends all its processes with
    the first, where this system lets us.
    """
    unshare = shutil.which("unshare")
    command = [unshare, *NAMESPACES, "--"]
    if (
        unshare
        and subprocess.run([*command, "true"], capture_output=True, **unprivileged()).returncode
        == 0
    ):
        return command
    print("warning: no namespaces here: programs have the network", file=sys.stderr)
    return []


def end(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
