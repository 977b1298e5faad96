"""What does not belong into workflow code: codes, names, and what to write instead."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RULES", "Rule", "rule_of"]


class Rule(NamedTuple):
    """One kind of thing that breaks replay."""

    code: str
    why: str
    instead: str


_ALL = (
    Rule("wall-clock", "reads the clock, which is later on every replay", "beamflow.now()"),
    Rule(
        "chance",
        "draws a number that no replay draws again",
        "beamflow.random() or beamflow.uuid4()",
    ),
    Rule(
        "set-order",
        "takes the members of a set in an order that differs from process to process",
        "sorted(...), or a list or dict in its place",
    ),
    Rule("identity", "depends on the process that runs the code", "a key of your own"),
    Rule("blocking", "blocks the loop of the whole application", "a step, or asyncio.sleep"),
    Rule("files", "touches files, which may be others the next time", "a step"),
    Rule("network", "talks to the network, again on every replay", "a step"),
    Rule("processes", "starts or controls a process, again on every replay", "a step"),
    Rule("threads", "leaves the workflow's own loop", "a step; a plain `def` runs in a thread"),
    Rule("event-loop", "runs another event loop", "await, or start a workflow from the host"),
    Rule("environment", "depends on the machine or its settings", "an argument, or a step"),
    Rule(
        "global-state",
        "changes what outlives the workflow: once more on every replay, and for all others",
        "a variable of the function, or a step",
    ),
    Rule("unknown-code", "is no code of this linter", "one of those in the documentation"),
    Rule("syntax-error", "cannot be read", "Python"),
)

RULES = {rule.code: rule for rule in _ALL}
"""All rules by their codes."""

_NAMES: dict[str, str] = {
    "wall-clock": """
        time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter
        time.perf_counter_ns time.process_time time.process_time_ns time.thread_time
        time.thread_time_ns time.clock_gettime time.clock_gettime_ns time.localtime time.gmtime
        time.ctime time.asctime time.strftime datetime.datetime.now datetime.datetime.utcnow
        datetime.datetime.today datetime.date.today anyio.current_time pendulum.now arrow.now
        arrow.utcnow django.utils.timezone.now""",
    "chance": """
        random.* secrets.* uuid.uuid1 uuid.uuid4 uuid.uuid6 uuid.uuid7 uuid.uuid8 os.urandom
        os.getrandom numpy.random.*""",
    "identity": "id hash",
    "blocking": """
        time.sleep input select.* selectors.* requests.* urllib.request.* urllib3.* socket.* ssl.*
        http.client.* smtplib.* ftplib.* imaplib.* poplib.* sqlite3.* psycopg2.* pymysql.* boto3.*
        httpx.get httpx.post httpx.put httpx.patch httpx.delete httpx.head httpx.options
        httpx.request httpx.stream httpx.Client""",
    "files": """
        open io.open os.open os.read os.write os.listdir os.scandir os.walk os.stat os.lstat
        os.remove os.unlink os.rename os.replace os.mkdir os.makedirs os.rmdir os.removedirs
        os.chmod os.chown os.chdir os.getcwd os.link os.symlink os.readlink os.truncate os.utime
        os.access os.path.exists os.path.lexists os.path.isfile os.path.isdir os.path.islink
        os.path.getsize os.path.getmtime os.path.getctime os.path.getatime os.path.realpath
        os.path.abspath os.path.expanduser shutil.* tempfile.* glob.glob glob.iglob fileinput.*
        pathlib.Path.cwd pathlib.Path.home aiofiles.* anyio.open_file anyio.Path""",
    "network": """
        asyncio.open_connection asyncio.open_unix_connection asyncio.start_server
        asyncio.start_unix_server anyio.connect_tcp anyio.connect_unix anyio.create_tcp_listener
        aiohttp.* httpx.AsyncClient websockets.* asyncpg.* psycopg.* aiosqlite.* aiosmtplib.*
        redis.* motor.* aioboto3.* grpc.*""",
    "processes": """
        subprocess.* asyncio.create_subprocess_exec asyncio.create_subprocess_shell os.system
        os.popen os.fork os.forkpty os.kill os.killpg os.wait os.waitpid os.abort os._exit
        os.execv os.execve os.execl os.execlp os.execvp os.spawnv os.spawnl os.posix_spawn
        multiprocessing.* anyio.run_process anyio.open_process anyio.to_process.*""",
    "threads": """
        threading.* _thread.* concurrent.futures.* asyncio.to_thread anyio.to_thread.*
        anyio.from_thread.* queue.*""",
    "event-loop": """
        asyncio.run asyncio.Runner asyncio.new_event_loop asyncio.set_event_loop
        asyncio.run_coroutine_threadsafe anyio.run trio.run""",
    "environment": """
        os.environ os.environ.* os.environb os.environb.* os.getenv os.getpid os.getppid os.uname
        os.cpu_count os.getlogin os.getuid os.getgid os.getloadavg platform.* sys.argv sys.argv.*
        getpass.* locale.getlocale socket.gethostname socket.getfqdn time.tzname time.timezone""",
}
_CODES = {name: code for code, names in _NAMES.items() for name in names.split()}
_NO_CALLS = ("Error", "Exception", "Warning")


def rule_of(name: str, *, called: bool) -> Rule | None:
    """Return the rule that speaks against a name, such as ``time.time``, or None.

    Types that are only named, as in an ``except`` clause or ``isinstance``, are let pass.

    Args:
        name: in full, as the module that defines it calls it; a builtin by itself.
        called: whether it is called, or only handed on.
    """
    code = _CODES.get(name)
    if code is None:
        last = name.rpartition(".")[2]
        if last.endswith(_NO_CALLS) or (not called and not last[:1].islower()):
            return None
        parts = name.split(".")
        for end in range(len(parts) - 1, 0, -1):
            code = _CODES.get(".".join(parts[:end]) + ".*")
            if code is not None:
                break
    return None if code is None else RULES[code]
