"""Runs a Python program that nobody has read: in a process with limits, without network, where
nothing is but the system's programs and an empty folder.
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

# Makes a root of its own for the rest of the line: in $PWD/root, with the system's programs and
# $PWD/work. Nobody's files are there, so it does not matter whose rights the program has.
NEW_ROOT = """
set -e
mount -t tmpfs -o size=1m none root
for at in /usr /bin /lib /lib64; do
  if [ -L "$at" ]; then
    cp -d "$at" "root$at"
  elif [ -d "$at" ]; then
    mkdir "root$at"
    mount --rbind "$at" "root$at"
  fi
done
mkdir root/work root/old
mount --bind work root/work
cd root
pivot_root . old
cd /work
exec "$@"
"""

# umount needs /proc, which is not there. 2: MNT_DETACH.
LEAVE_OLD_ROOT = """
import ctypes, os, sys
if ctypes.CDLL(None).umount2(b"/old", 2) != 0:
    sys.exit("the old root stays")
os.execve(sys.argv[1], sys.argv[1:], {})
"""
LEAVE = [PYTHON, "-I", "-c", LEAVE_OLD_ROOT]


def passes(program: str) -> bool:
    """Whether the program comes to its end. One that exits earlier, even with 0, does not."""
    nonce = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="hybrid-sandbox-") as name:
        folder = Path(name)
        make_folders(folder)
        (folder / "work" / "program.py").write_text(f"{program}\nprint('\\n{nonce}')\n")
        with (folder / "output").open("w+b") as output:
            process = subprocess.Popen(
                [*isolation(), PYTHON, "-I", "-B", "program.py"],
                cwd=folder, env={},
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL,
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
    """A command that runs the rest of its line without network, without anybody's files, and ends
    all its processes with the first, as far as this system lets us. It starts in a folder that has
    the folders `root` and `work`.
    """
    unshare = [shutil.which("unshare") or "unshare", *NAMESPACES]
    weak = ["sh", "-c", 'cd work && exec "$@"', "sh"]
    if works(command := [*unshare, "--mount", "--", "sh", "-c", NEW_ROOT, "sh", *LEAVE]):
        return command
    command, seen = weak, "your files and the network"
    if works([*unshare, "--", *weak]):
        command, seen = [*unshare, "--", *weak], "your files"
    print(f"warning: no namespaces for that here: programs have {seen}", file=sys.stderr)
    return command


def works(command: list) -> bool:
    with tempfile.TemporaryDirectory(prefix="hybrid-sandbox-") as name:
        make_folders(Path(name))
        test = [*command, PYTHON, "-I", "-c", ""]
        options = {"cwd": name, "env": {}, "capture_output": True} | unprivileged()
        try:
            return subprocess.run(test, **options).returncode == 0
        except OSError:
            return False


def make_folders(folder: Path) -> None:
    for part in [folder, folder / "root", folder / "work"]:
        part.mkdir(exist_ok=True)
        part.chmod(0o777)


def end(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
