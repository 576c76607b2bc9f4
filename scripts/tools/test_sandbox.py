#!/usr/bin/env python3
"""What the sandbox lets pass and what it ends."""

import secrets
import socket
import tempfile
import time
import unittest
from pathlib import Path

import sandbox

RIGHT = "def add(a, b):\n    return a + b\nassert add(1, 2) == 3\n"


def command_lines() -> list[bytes]:
    """Of all processes of this machine that we may look at."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            pass
    return lines


class Sandbox(unittest.TestCase):
    def test_programs(self):
        table = {
            "right": (RIGHT, True),
            "wrong": (RIGHT.replace("== 3", "== 4"), False),
            "no Python": ("def add(a, b:\n", False),
            "an exit before the asserts": (f"import sys\nsys.exit(0)\n{RIGHT}", False),
            "memory": (f"x = bytearray({2 * sandbox.MEMORY_BYTES})", False),
            "memory, little by little": (
                "x = []\nwhile True:\n    x.append(bytes(1 << 20))",
                False,
            ),
            "a large file": (f"open('x', 'wb').write(bytes({2 * sandbox.FILE_BYTES}))", False),
            "a small file": ("open('x', 'w').write('x')", True),
            "much output": ("for _ in range(10 ** 6):\n    print('x' * 100)", False),
            "many open files": ("x = [open('x', 'w') for _ in range(100)]", False),
            "an environment": ("import os\nassert 'PATH' in os.environ", False),
            "input": ("assert input()", False),
        }
        for name, (program, want) in table.items():
            with self.subTest(name):
                self.assertEqual(sandbox.passes(program), want)

    def test_an_endless_loop_is_ended(self):
        began = time.monotonic()
        self.assertFalse(sandbox.passes("while True:\n    pass"))
        self.assertLess(time.monotonic() - began, sandbox.WALL_SECONDS + 5)

    def test_a_sleeper_is_ended(self):
        self.assertFalse(sandbox.passes("import time\ntime.sleep(1000)"))

    def test_children_end_with_the_program(self):
        if "--net" not in sandbox.isolation():
            self.skipTest("no namespaces here")
        mark = secrets.token_hex(16)
        program = (
            "import os, sys\n"
            "end, other_end = os.pipe()\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            f"    os.execv(sys.executable, ['{mark}', '-c', 'import time; time.sleep(60)'])\n"
            "os.close(other_end)\n"
            "assert os.read(end, 1) == b''  # the child runs that now\n"
        )
        self.assertTrue(sandbox.passes(program))
        self.assertFalse([line for line in command_lines() if mark.encode() in line])

    def test_there_are_no_files_of_others(self):
        if "--mount" not in sandbox.isolation():
            self.skipTest("no namespaces for that here")
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).chmod(0o666)
            self.assertFalse(sandbox.passes(f"open({file.name!r})"))
        self.assertFalse(sandbox.passes(f"open({str(Path.home() / 'sandbox-test')!r}, 'w')"))
        names = ["bin", "lib", "lib64", "usr", "work", "old"]
        self.assertTrue(sandbox.passes(f"import os\nassert set(os.listdir('/')) <= set({names})"))
        self.assertTrue(sandbox.passes("import os\nassert os.listdir('/old') == []"))
        self.assertTrue(sandbox.passes("import os\nassert os.listdir('.') == ['program.py']"))
        self.assertFalse(sandbox.passes("open('/usr/sandbox-test', 'w')"))

    def test_there_is_no_network(self):
        if "--net" not in sandbox.isolation():
            self.skipTest("no namespaces here")
        program = "import socket\nsocket.create_connection(('127.0.0.1', {}), 2)"
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.assertFalse(sandbox.passes(program.format(server.getsockname()[1])))


if __name__ == "__main__":
    unittest.main()
