"""
How the examples of the docs are run: a page is one story, told in one folder.

What a fence says after its language decides what becomes of the block:

- `python` is run; all such blocks of a page share one namespace.
- `text output` is what the block before it printed; `…` stands for anything.
- `title="tasks.py"`, in any language, is written to that file first.
- `console` holds commands after `$ `, which are run and must succeed, and what they print.
- `console background` is started and, at the page's end, stopped by SIGTERM.
- `python test` is a file of tests for pytest.
- `no-run` leaves a block out; Python among them must still compile.

A page that says `DATABASE_URL` has in it, in the environment, a new database of a real PostgreSQL, and in `OWNER_URL`
the same as the role `shop_owner`, which the page makes.
"""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from servers.installation import installations

_FENCE = re.compile(r"^```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<source>.*?)^```$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r'title="([^"]+)"')
_ROLE = re.compile(r"^CREATE ROLE (\w+)", re.MULTILINE)
_PATIENCE = 60


class Block:
    """A fenced block of a page: its language, what its fence says, and where it stands."""

    def __init__(self, match, page):
        self.language = match["language"]
        self.words = match["info"].split()
        title = _TITLE.search(match["info"])
        self.title = title and title[1]
        self.source = match["source"]
        self.line = match.string.count("\n", 0, match.start()) + 1
        self.page = page

    def __repr__(self):
        return f"{self.page}:{self.line}"


class Page:
    """A page that is being played in a folder of its own."""

    def __init__(self, path, folder, environment):
        self._folder = folder
        self._environment = {
            **os.environ,
            **environment,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), *_psql(), os.environ["PATH"]]),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        self._driver = None
        self._background = []
        self._printed = ""
        self.blocks = [Block(match, path.name) for match in _FENCE.finditer(path.read_text("utf-8"))]

    def play(self):
        """Run the blocks in order."""
        try:
            for block in self.blocks:
                self._play(block)
        finally:
            self._end()

    def _play(self, block):
        if "no-run" in block.words:
            if block.language == "python":
                compile(block.source, repr(block), "exec")
        elif block.title:
            path = self._folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.source)
        elif block.language == "python":
            self._run_tests(block) if "test" in block.words else self._run_python(block)
        elif block.language == "console":
            self._run_commands(block)
        elif block.words == ["output"]:
            _compare(block, block.source, self._printed)

    def _run_python(self, block):
        if self._driver is None:
            self._driver = self._start(
                [sys.executable, Path(__file__).with_name("driver.py")], stdin=subprocess.PIPE, stderr=None
            )
        question = {"source": block.source, "line": block.line, "page": block.page}
        self._driver.stdin.write(json.dumps(question) + "\n")
        self._driver.stdin.flush()
        line = self._driver.stdout.readline()
        assert line, f"{block}: the interpreter ended"
        answer = json.loads(line)
        assert answer["failure"] is None, f"{block}\n{answer['failure']}"
        self._printed = answer["printed"]

    def _run_tests(self, block):
        path = self._folder / f"test_line_{block.line}.py"
        path.write_text(block.source)
        self._run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path.name], block)

    def _run_commands(self, block):
        for part in re.split(r"^\$ ", block.source, flags=re.MULTILINE)[1:]:
            command, _, expected = re.sub(r"\\\n", "", part).partition("\n")
            if "background" in block.words:
                self._background.append((block, self._start(["bash", "-c", f"exec {command}"])))
            else:
                self._printed = self._run(["bash", "-c", command], block)
                _compare(block, expected, self._printed)

    def _run(self, command, block):
        with self._start(command) as process:
            printed, _ = process.communicate(timeout=_PATIENCE)
        assert process.returncode == 0, f"{block}: {command[-1]!r} ended with {process.returncode}\n{printed}"
        return printed

    def _start(self, command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT):
        return subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._environment,
            text=True,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )

    def _end(self):
        if self._driver is not None:
            self._driver.communicate(timeout=_PATIENCE)
        for block, process in self._background:
            # Its first line tells that it is up, and takes a signal in order.
            greeting = process.stdout.readline()
            if greeting:
                process.send_signal(signal.SIGTERM)
            printed, _ = process.communicate(timeout=_PATIENCE)
            assert process.returncode == 0, f"{block}: ended with {process.returncode}\n{greeting}{printed}"


def _compare(block, expected, printed):
    """Look for each line that is shown, in order; `…` stands for anything."""
    position = 0
    for line in filter(None, map(str.strip, expected.splitlines())):
        pattern = re.compile(r"\s+".join(map(_wild, line.split())))
        found = pattern.search(printed, position)
        assert found, f"{block}: {line!r} is not among what was printed:\n{printed}"
        position = found.end()


def _wild(word):
    return ".*?".join(map(re.escape, word.split("…")))


def _psql():
    """The folders of PostgreSQL's client programs, wherever the tests' servers come from."""
    return [str(installation.bin) for installation in installations() if (installation.bin / "psql").exists()]


@pytest.fixture
def new_environment(request):
    """Return a function that gives a page the environment it asks for: a database, without the roles it makes."""
    with ExitStack() as databases:

        def new_environment(text):
            if "DATABASE_URL" not in text:
                return {}
            url = databases.enter_context(request.getfixturevalue("postgres").new_database())
            for role in _ROLE.findall(text):
                databases.callback(_drop_role, url, role)
            return {"DATABASE_URL": url, "OWNER_URL": f"{url}?options=-c%20role%3Dshop_owner"}

        yield new_environment


def _drop_role(url, role):
    with psycopg.connect(url, autocommit=True) as connection:
        for drop in ("DROP OWNED BY {}", "DROP ROLE {}"):
            connection.execute(sql.SQL(drop).format(sql.Identifier(role)))


@pytest.fixture
def play(tmp_path, new_environment):
    """Play a page, or a page's text."""

    def play(page):
        if isinstance(page, str):
            path = tmp_path / "page.md"
            path.write_text(page)
            page = path
        folder = tmp_path / "folder"
        folder.mkdir()
        Page(page, folder, new_environment(page.read_text("utf-8"))).play()
        return folder

    return play
