"""The linter finds what breaks replay in workflow functions, at its place, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent, indent

import pytest

from beamflow.lint.module import Finding, lint_source
from beamflow.lint.rules import RULES

ROOT = Path(__file__).resolve().parents[3]

IMPORTS = """\
import asyncio, random, time, os, os.path, uuid, secrets, requests, subprocess, socket, threading
import shutil, sys, datetime as dt, concurrent.futures as cf, urllib.request, anyio, numpy as np
from datetime import date, datetime
from pathlib import Path
from random import choice as pick
from time import sleep as pause
from beamflow import now, step, uuid4, workflow
pause_too = time.sleep
CACHE: dict[str, int] = {}
SEEN = []
LIMIT = 3
"""

BREAKS = {
    "wall-clock": [
        "time.time()",
        "datetime.now()",
        "dt.datetime.utcnow()",
        "date.today()",
        "x = time.monotonic",
        "print(datetime.now().isoformat())",
    ],
    "chance": [
        "random.random()",
        "pick([1, 2])",
        "uuid.uuid4()",
        "secrets.token_hex()",
        "os.urandom(8)",
        "np.random.rand(3)",
        "random.Random()",
        "sorted([1], key=random.random)",
        "lambda: random.random()",
    ],
    "set-order": [
        "for each in {'a', 'b'}: pass",
        "s = set(what)\nfor each in s: pass",
        "s = {each for each in what}\nt = s | {'x'}\nlist(t)",
        "[each for each in frozenset(what)]",
        "await asyncio.gather(*{each for each in what})",
        "s = set(what)\ns.pop()",
        "s: set[str] = make(what)\nfirst = next(iter(s))",
        "', '.join({'a', what})",
        "first, second = {'a', 'b'}",
        "for i, each in enumerate(set(what)): pass",
        "for each in set(what) - {'a'}: pass",
    ],
    "identity": ["id(what)", "sorted(what, key=hash)"],
    "blocking": [
        "time.sleep(1)",
        "pause(1)",
        "pause_too(1)",
        "requests.get(what)",
        "urllib.request.urlopen(what)",
        "socket.create_connection(what)",
        "input()",
    ],
    "files": [
        "open(what)",
        "Path(what).read_text()",
        "p = Path(what)\np.mkdir()",
        "p = Path(what)\nq = p / 'x'\nq.exists()",
        "os.listdir(what)",
        "os.path.exists(what)",
        "shutil.rmtree(what)",
        "await anyio.open_file(what)",
    ],
    "network": ["await asyncio.open_connection(what)", "await anyio.connect_tcp(what, 1)"],
    "processes": [
        "subprocess.run([what])",
        "await asyncio.create_subprocess_exec(what)",
        "os.system(what)",
    ],
    "threads": [
        "threading.Thread(target=what)",
        "await asyncio.to_thread(what)",
        "cf.ThreadPoolExecutor()",
        "asyncio.get_running_loop().run_in_executor(None, what)",
        "await anyio.to_thread.run_sync(what)",
    ],
    "event-loop": ["asyncio.run(what())", "asyncio.new_event_loop()"],
    "environment": [
        "os.environ['HOME']",
        "os.environ.get('HOME')",
        "os.getenv('HOME')",
        "os.getpid()",
        "sys.argv.index('--fast')",
    ],
    "global-state": [
        "global LIMIT\nLIMIT = 4",
        "CACHE[what] = 1",
        "SEEN.append(what)",
        "del CACHE[what]",
        "CACHE[what] += 1",
        "CACHE.setdefault(what, 1)",
    ],
}

FITS = [
    "now()",
    "uuid4()",
    "random.Random(3)",
    "r: random.Random = what",
    "await asyncio.sleep(1)",
    "for each in sorted({'a', 'b'}): pass",
    "'a' in {'a', 'b'} and len({'a'})",
    "for each in {1, 2, 3}: pass",
    "for each in {'a': 1}: pass",
    "done, pending = await asyncio.wait({asyncio.create_task(what())})",
    "s = set()\ns.add('x')\nmax(s)",
    "try:\n    pass\nexcept subprocess.CalledProcessError:\n    raise requests.HTTPError()",
    "isinstance(what, threading.Thread)",
    "time = what\ntime.sleep(1)",
    "def open(x): return x\nopen(what)",
    "CACHE.get(what)",
    "CACHE = {}\nCACHE[what] = 1",
    "local = []\nlocal.append(what)",
    "datetime(2026, 1, 1).isoformat()",
    "Path(what).name",
    "os.path.join('a', what)",
    "print(what)",
    "@step\nasync def inner(): return time.time()\nawait inner()",
]


def found(source: str) -> list[Finding]:
    return lint_source("app.py", source)


def in_workflow(body: str) -> str:
    return f"{IMPORTS}\n@workflow\nasync def order(what):\n{indent(dedent(body), '    ')}\n"


@pytest.mark.parametrize(
    ("code", "body"), [(code, body) for code, bodies in BREAKS.items() for body in bodies]
)
def test_what_breaks_replay_is_found(code: str, body: str) -> None:
    """Once, with its code, below the line that begins the workflow."""
    source = in_workflow(body)
    (finding,) = found(source)
    assert finding.code == code
    assert finding.line > source[: source.index("async def order")].count("\n") + 1
    assert "workflow 'order'" in finding.message
    assert RULES[code].instead in finding.message


@pytest.mark.parametrize("body", FITS)
def test_what_any_replay_repeats_is_let_pass(body: str) -> None:
    assert found(in_workflow(body)) == []


def test_every_rule_is_tried() -> None:
    """But those about the linter itself."""
    assert {*BREAKS, "unknown-code", "syntax-error"} == set(RULES)


@pytest.mark.parametrize(
    "head",
    [
        "from beamflow import workflow\n@workflow\nasync def w():",
        "from beamflow import workflow\n@workflow(name='x', version=2)\nasync def w():",
        "import beamflow as b\n@b.workflow\nasync def w():",
        "from beamflow import workflow as wf\n@wf()\nasync def w():",
        "from beamflow.authoring.workflow import workflow\n@workflow\nasync def w():",
        "if 1:\n  from beamflow import workflow\n@workflow\nclass W:\n  async def run(self):",
        "from beamflow import workflow\nasync def w():",
        "from beamflow import workflow\ndef make():\n  @workflow\n  async def w():",
    ],
)
def test_a_workflow_is_known_however_it_is_made(head: str) -> None:
    """By the decorator under any name, as a class, or by calling it."""
    made = "\nmade = workflow(name='x')(w)" if "@" not in head else ""
    source = f"import time\n{head}\n        time.time()\n{made}"
    assert [each.code for each in found(source)] == ["wall-clock"]


def test_only_workflows_are_looked_at() -> None:
    """Steps, compensations and the rest of an application do as they like."""
    source = """
        import time
        from beamflow import step, workflow

        @step(retry=None)
        async def charge(): time.sleep(1)

        @charge.compensation(timeout=3)
        def refund(*_): time.sleep(1)

        def host(): time.sleep(1)

        @workflow
        async def order():
            await charge()
        """
    assert found(dedent(source)) == []


def test_plain_functions_that_it_uses_are_followed() -> None:
    """Through each other, called or handed on; each finding once, with the workflow it serves."""
    source = """
        import time
        from beamflow import workflow

        async def helper(): return later()

        def later(): return time.time() if helper else 0

        def handed_on(x): return time.time_ns()

        def not_used(): return time.time()

        @workflow
        async def order():
            await helper()
            return sorted([], key=handed_on)

        @workflow
        async def other():
            await helper()
        """
    findings = found(dedent(source))
    assert [(each.line, each.code) for each in findings] == [(7, "wall-clock"), (9, "wall-clock")]
    assert "workflow 'order', in a function that it calls, 'later'" in findings[0].message


def test_a_variable_is_not_the_function_of_its_name() -> None:
    """What the workflow binds for itself is its own."""
    source = """
        import time
        from beamflow import workflow

        def later(): return time.time()

        @workflow
        async def order(later):
            return later

        def make(later):
            @workflow
            async def other():
                return later
        """
    assert found(dedent(source)) == []


def test_the_place_is_told_in_characters() -> None:
    """As editors count them, from 1."""
    source = "import time\nfrom beamflow import workflow\n@workflow\nasync def w():\n  x = 'ß', time.time()\n"
    assert [(each.line, each.column) for each in found(source)] == [(5, 12)]


def test_a_comment_lets_one_code_pass_on_its_line() -> None:
    """Not another code, not another line; what is no code is told."""
    body = """
        time.time()  # beamflow: ignore[wall-clock]
        time.time()  # beamflow: ignore[chance, wall-clock] because
        time.time()  # beamflow: ignore[chance]
        time.time()  # beamflow: ignore
        x = "# beamflow: ignore[wall-clock]", time.time()
        1  # beamflow: ignore[clock]
        """
    source = in_workflow(body)
    first = source.splitlines().index("    time.time()  # beamflow: ignore[wall-clock]") + 1
    assert [(each.line - first, each.code) for each in found(source)] == [
        (2, "wall-clock"),
        (3, "wall-clock"),
        (4, "wall-clock"),
        (5, "unknown-code"),
    ]


@pytest.mark.parametrize("source", ["def (:", "x = '\0'", "async def w(:\n  pass"])
def test_what_is_no_python_is_a_finding(source: str) -> None:
    """The rest of a project is looked through all the same."""
    (finding,) = found(source)
    assert finding.code == "syntax-error"


def test_nothing_is_imported_or_run(tmp_path: Path) -> None:
    """Source is read as text."""
    mark = tmp_path / "ran"
    source = f"open({str(mark)!r}, 'w')\nimport no_such_module\n"
    assert found(source) == []
    assert not mark.exists()


def test_our_own_examples_are_clean() -> None:
    """The demos, and every workflow in the documentation."""
    files = sorted((ROOT / "docs" / "examples").rglob("*.py"))
    assert len(files) > 10
    findings = [each for file in files for each in lint_source(str(file), file.read_text())]
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for block in re.findall(
            r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
        ):
            findings += [
                each for each in lint_source(page.name, block) if each.code != "syntax-error"
            ]
    assert findings == []
