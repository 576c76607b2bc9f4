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
# Makes every file read-only but those of the folder that it starts in. An ordinary user's program
# would otherwise write into that user's home.
READ_ONLY = """
mount --bind . . && mount -o remount,bind,ro / || exit
home=$(findmnt -n -o TARGET -T "$0") && [ "$home" = / ] || mount -o remount,bind,ro "$home" || exit
cd "$PWD" && exec "$@"
"""


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
    """A command that runs the rest of its line without network, with files that it cannot write,
    and ends all its processes with the first, as far as this system lets us.
    """
    unshare = shutil.which("unshare") or "unshare"
    bare = [unshare, *NAMESPACES]
    read_only = [*bare, "--mount", "--", "sh", "-c", READ_ONLY, str(Path.home())]
    for command, lost in [
        (read_only, None),
        ([*bare, "--"], "can write where you can"),
        ([], "have the network and can write where you can"),
    ]:
        if not command or works(command):
            if lost:
                print(f"warning: no namespaces for that here: programs {lost}", file=sys.stderr)
            return command


def works(command: list) -> bool:
    with tempfile.TemporaryDirectory(prefix="hybrid-sandbox-") as name:
        Path(name).chmod(0o777)
        try:
            ran = subprocess.run(
                [*command, "true"], cwd=name, capture_output=True, **unprivileged()
            )
        except OSError:
            return False
        return ran.returncode == 0


def end(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
