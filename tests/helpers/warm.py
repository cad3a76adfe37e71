"""Python processes that begin at once: forks of one that has imported the libraries.

`import torch` takes three seconds and MLflow's client four, hundreds of times in the slow tests. Within `processes()`,
what `subprocess` starts of this Python (`-m MODULE`, `-c CODE` or a script) is such a fork. It is a process of its own:
a child of whoever asked, with its own number, folder, environment and files; it dies of `kill -9`, and it ends with an
exit code. Only its libraries were imported before; ncexp is not among them, so a command begins at its entry point.
Whatever Python it starts itself is started in the same way. A test of the imports themselves, of variables that a
library reads when it is imported, or of what figures look like is marked `cold`: its processes are ordinary ones. So
are MLflow's servers, and SLURM's jobs, which in most tests fork what they start themselves.

How: a *nursery* has imported the libraries and waits for requests. It forks twice; the first fork ends at once, and the
system gives the second to the process that asked, which has declared itself the parent of its orphans. Each process
gets a nursery of its own, forked before it has begun: none is forked that has threads, locks or a state.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

#: What every run imports.
OF_RUNS = (
    "torch", "torchvision", "torch.distributed", "torch.utils.flop_counter", "torch._dynamo", "omegaconf", "pydantic",
    "rich.live", "rich.table", "yaml", "matplotlib.pyplot", "matplotlib.backends.backend_pdf", "scipy.optimize",
    "safetensors.torch", "filelock",
)  # fmt: skip
#: And what other commands import beside it.
LIBRARIES = (
    *OF_RUNS, "hydra._internal.hydra", "pandas", "scipy.integrate", "sklearn.datasets", "submitit", "jinja2", "mlflow",
    "mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.db.utils",
)  # fmt: skip
#: Of prctl(2): whether orphans among our descendants become our children.
SET_CHILD_SUBREAPER = 36
#: Room for the command line of a process, by which `ps` and the tests find it.
ROOM = "-" * 4000

#: What `ncexp` and `python` are in a shell of the tests: they ask the nursery, and end as the process there ends.
COMMAND = """\
#!{python} -IS
import json, os, signal, socket, sys
nursery = socket.socket(socket.AF_UNIX)
nursery.connect({address!r})
words = [{python!r}, *{before!r}, *sys.argv[1:]]
request = {{"words": words, "folder": os.getcwd(), "environment": dict(os.environ), "places": [0, 1, 2]}}
content = json.dumps(request).encode()
socket.send_fds(nursery, [len(content).to_bytes(8, "little")], [0, 1, 2])
nursery.sendall(content)
code = int.from_bytes(nursery.recv(8), "little", signed=True)
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)
"""

_fork_exec = subprocess._fork_exec  # type: ignore[attr-defined]  # what Popen calls once its pipes are made
_one_at_a_time = threading.Lock()
_nursery: socket.socket | None = None
_address: str | None = None


@contextmanager
def processes() -> Iterator[None]:
    """Have subprocess take Python's processes from the nursery, which is begun where there is none."""
    _begin_nursery()
    subprocess._fork_exec = _fork_or_exec  # type: ignore[attr-defined]
    try:
        yield
    finally:
        subprocess._fork_exec = _fork_exec  # type: ignore[attr-defined]


def commands(folder: Path) -> None:
    """Write `ncexp` and `python` into a folder for PATH: a shell that has it starts them from the nursery, too."""
    _begin_nursery()
    folder.mkdir(parents=True)
    for name, before in (("ncexp", ["-m", "ncexp"]), ("python", [])):
        (folder / name).write_text(COMMAND.format(python=sys.executable, address=_address, before=before))
        (folder / name).chmod(0o755)


def fork_from_here() -> None:
    """Import what runs need in this process, and have it fork the Python that it starts, to its end."""
    global _nursery
    _import(OF_RUNS)
    _nursery, theirs = socket.socketpair()
    if os.fork() == 0:
        _nursery.close()
        _begin(_wait(theirs))
    theirs.close()
    subprocess._fork_exec = _fork_or_exec  # type: ignore[attr-defined]


def _begin_nursery() -> None:
    global _nursery, _address
    if _nursery is None:
        _address = f"{tempfile.mkdtemp(prefix='nursery')}/socket"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(_address)
        listener.listen(16)  # now: who asks while the libraries are imported waits
        _nursery, theirs = socket.socketpair()
        code = f"import warm; warm.serve({theirs.fileno()}, {listener.fileno()}, {_address!r})"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", code, ROOM]
        passed = [theirs.fileno(), listener.fileno()]
        subprocess.Popen(command, pass_fds=passed, env=environment, stdin=subprocess.DEVNULL)
        theirs.close()
        listener.close()


def _fork_or_exec(arguments: Sequence[Any], *others: Any) -> int:
    """In the place of Popen's own: the number of a new process, forked by the nursery where the command is Python's."""
    words = [os.fsdecode(word) for word in arguments]
    (_, _, kept, folder, variables, stdin, _, _, stdout, _, stderr, _, errors, _, session, group) = others[:16]
    if words[0] != sys.executable or not _can_be_forked(words):
        return int(_fork_exec(arguments, *others))
    passed = [fd for fd in kept if fd not in (errors, stdin, stdout, stderr)]
    request = {
        "words": words,
        "folder": os.fsdecode(folder or os.getcwd()),
        "environment": dict(os.environ) if variables is None else dict(os.fsdecode(v).split("=", 1) for v in variables),
        "blocked": [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "session": session,
        "group": group,
        "places": [0, 1, 2, *passed],
    }
    ours = [own if fd == -1 else fd for own, fd in enumerate((stdin, stdout, stderr))]
    assert _nursery is not None
    content = json.dumps(request).encode()
    prctl = ctypes.CDLL(None).prctl
    with _one_at_a_time:
        prctl(SET_CHILD_SUBREAPER, 1)
        socket.send_fds(_nursery, [len(content).to_bytes(8, "little")], [*ours, *passed])
        _nursery.sendall(content)
        pid = int.from_bytes(_received(_nursery, 8), "little")
        prctl(SET_CHILD_SUBREAPER, 0)
    if pid == 0:
        raise OSError(f"{request['folder']}: expected a folder that is there, for {words}")
    return pid


def _can_be_forked(words: list[str]) -> bool:
    start = words[2:] if words[1:2] == ["-u"] else words[1:]
    return start[:1] == ["-c"] or (start[:1] == ["-m"] and start[1] != "mlflow") or start[0].endswith(".py")


def _received(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise EOFError("the nursery has ended")
        content += part
    return content


# The nursery's side.


def serve(descriptor: int, listening: int, address: str) -> NoReturn:
    """Import the libraries, then fork what is asked for, until whoever asks has ended."""
    listener = socket.socket(fileno=listening)
    _import(LIBRARIES)
    _copy_new_stores(Path(address).parent / "mlflow.db")
    _begin(_wait(socket.socket(fileno=descriptor), listener))


def _import(libraries: Sequence[str]) -> None:
    """Import them, and have figures leave their files empty: to render those of one run takes three seconds."""
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # Arrow's memory has a thread otherwise
    gc.disable()  # millions of objects are made, and stay
    for name in libraries:
        import_module(name)
    gc.freeze()
    gc.enable()
    assert len(os.listdir("/proc/self/task")) == 1, "a fork has the first thread only"
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    Figure.savefig = lambda self, path, **options: Path(path).touch()
    ConstrainedLayoutEngine.execute = lambda self, figure: None


def _copy_new_stores(template: Path) -> None:
    """In the forks a new SQLite store of MLflow's is a copy of the first: its migrations take MLflow ten seconds."""
    import mlflow.store.db.utils as stores
    from filelock import FileLock

    migrate = stores._initialize_tables

    def copy(engine: Any) -> None:
        with FileLock(f"{template}.lock"):
            if not template.exists():
                migrate(engine)
                with (
                    closing(sqlite3.connect(f"{template}.part")) as whole,
                    closing(sqlite3.connect(engine.url.database)) as made,
                ):
                    made.backup(whole)
                os.rename(f"{template}.part", template)
                return
        with closing(sqlite3.connect(template)) as whole, closing(sqlite3.connect(engine.url.database)) as new:
            whole.backup(new)

    stores._initialize_tables = copy
    for name in ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"):
        module = import_module(name)
        if getattr(module, "_initialize_tables", None) is migrate:
            module._initialize_tables = copy


def _wait(parent: socket.socket, listener: socket.socket | None = None) -> dict[str, Any]:
    """Of the nursery: forks until its parent ends, and ends. Of a fork: what it is to be."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for own in (0, 1, 2):  # pipes of others must close when those end who use them
        os.dup2(nothing, own)
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())  # until a fork is what it is to be
    while True:
        asking = parent
        if listener and parent not in select.select([parent, listener], [], [])[0]:
            asking, _ = listener.accept()
        header, descriptors, _, _ = socket.recv_fds(asking, 8, 64)
        if not header:
            os._exit(0)
        request = json.loads(_received(asking, int.from_bytes(header, "little")))
        reading, writing = os.pipe()
        if (first := os.fork()) == 0:
            if asking is not parent and os.fork() != 0:
                os._exit(0)
            between = os.getpid()
            if (second := os.fork()) == 0:
                while asking is parent and os.getppid() == between:  # it may ask for its parent
                    time.sleep(0.001)
                for connection in filter(None, (parent, listener, asking)):
                    connection.close()
                os.close(reading)
                return {**request, "descriptors": descriptors, "ready": writing}
            if asking is not parent:  # a command in a shell, which is no parent of ours
                _close(reading, writing, *descriptors)
                _supervise(second, asking)
            os._exit(0)
        os.waitpid(first, 0)
        os.close(writing)
        pid = os.read(reading, 8) or bytes(8)
        if asking is parent:  # from now on the process is a child of the one that asked
            parent.sendall(pid)
        else:
            asking.close()
        _close(reading, *descriptors)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _supervise(process: int, asking: socket.socket) -> NoReturn:
    """Tell whoever asked how the process ended; one that was killed meanwhile takes it along."""
    ended = os.pidfd_open(process)
    if ended not in select.select([ended, asking], [], [])[0]:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    with suppress(OSError):
        asking.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "little", signed=True))
    os._exit(0)


def _begin(request: dict[str, Any]) -> NoReturn:
    """Become the process that was asked for, and run its program to its end."""
    global _nursery
    own, theirs = socket.socketpair()
    if os.fork() == 0:  # the nursery of what this process starts
        own.close()
        _close(*request["descriptors"], request["ready"])
        _begin(_wait(theirs))
    theirs.close()
    descriptors = [_high(descriptor) for descriptor in request["descriptors"]]
    _nursery, ready = socket.socket(fileno=_high(own.detach())), _high(request["ready"])
    for descriptor, place in zip(descriptors, request["places"], strict=True):
        os.dup2(descriptor, place)
    _close(*descriptors)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if request.get("session"):
        os.setsid()
    if request.get("group", -1) >= 0:
        os.setpgid(0, request["group"])
    _show(request["words"])
    os.write(ready, os.getpid().to_bytes(8, "little"))
    os.close(ready)
    signal.pthread_sigmask(signal.SIG_SETMASK, request.get("blocked", []))
    _forget()
    subprocess._fork_exec = _fork_or_exec  # type: ignore[attr-defined]
    _end(_run, request["words"])


def _high(descriptor: int) -> int:
    """The same open file out of the way of all places where the process may have to find one."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 300)
    os.close(descriptor)
    return moved


def _forget() -> None:
    """What Python and its libraries took from their process when they were imported."""
    import numpy
    import torch

    random.seed()
    numpy.random.seed()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))


def _end(program: Callable[[list[str]], None], words: list[str]) -> NoReturn:
    """Run the program, and end as Python does; only that nothing is taken down, which touches all of the memory."""
    code: Any = 0
    try:
        program(words)
    except SystemExit as ended:
        code = ended.code if ended.code is not None else 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:  # as Python reports it
            print(f"Exception ignored in: {stream}\n{type(error).__name__}: {error}", file=sys.__stderr__)
            code = 120
    os._exit(code & 255)


def _run(words: list[str]) -> None:
    """As `python WORDS`."""
    unbuffered = words[1] == "-u" or bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        stream = open(number, mode, closefd=False, errors="backslashreplace" if number == 2 else None)  # noqa: SIM115
        if number:
            stream.reconfigure(line_buffering=number == 2 or stream.isatty(), write_through=unbuffered)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    how, *rest = words[2:] if words[1] == "-u" else words[1:]
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = ["", *filter(None, added), *(path for path in sys.path[1:] if path != str(Path(__file__).parent))]
    if how == "-c":
        code, *sys.argv[1:] = rest
        sys.argv[0] = "-c"
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), main.__dict__)
    elif how == "-m":
        sys.path[0] = os.getcwd()
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(how).resolve().parent)
        sys.argv = [how, *rest]
        runpy.run_path(how, run_name="__main__")


def _show(words: list[str]) -> None:
    """Have /proc/self/cmdline, and so `ps`, say what the process was asked to be."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    line = b"\0".join(word.encode() for word in words)[: end - start - 1]
    ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)
