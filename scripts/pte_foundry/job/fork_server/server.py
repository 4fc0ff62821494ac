"""A fork server: loads the libraries when the first step comes, then forks for every step.

``python -P -m pte_foundry.job.fork_server.server KIND FOLDER LIBRARIES LISTENER``: the kind of
steps, the folder of its socket, what models import, as JSON, and the number of an open listening
socket. At the end of standard input, which the build holds open, no further steps are taken.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from pte_foundry.job import deterministic_env, resource_usage
from pte_foundry.job.fork_server import VARIABLE
from pte_foundry.job.fork_server.libraries import load
from pte_foundry.job.fork_server.protocol import REPLY, TAKEN, Request, environment_of


class Server:
    """Takes requests until the build ends, and returns when the children have ended as well.

    One loop waits for everybody at once and never for a single client: a step may be stopped, or
    die, in the middle of its request.
    """

    def __init__(
        self,
        listener: socket.socket,
        build: int,
        take: Callable[[Server, Request], None],
    ) -> None:
        self.fixed = deterministic_env.ENVIRONMENT
        # As it is before anything is imported: some libraries write into it.
        self._environment = environment_of(dict(os.environ))
        self._take = take
        self._listener = listener
        self._build = build  # a descriptor that ends with the build
        self._requests: set[Request] = set()  # incomplete, or of a child that runs
        self._children = 0
        self._building = True
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(build, selectors.EVENT_READ, self._end)

    def serve(self) -> None:
        """Runs the loop."""
        while self._building or self._children:
            for key, _ in self._selector.select():
                key.data()

    def _end(self) -> None:
        """Takes no more requests: the build has ended."""
        self._building = False
        self._selector.unregister(self._build)
        self._selector.unregister(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        try:
            request = Request(self._listener.accept()[0])
        except OSError as error:
            if self._building:
                _log(f"accepts no step: {error}")
                time.sleep(0.1)  # out of descriptors: the listener stays ready, so do not spin
            return
        self._requests.add(request)
        read = partial(self._read, request)
        self._selector.register(request.connection, selectors.EVENT_READ, read)

    def _read(self, request: Request) -> None:
        try:
            if request.receive():
                self._selector.unregister(request.connection)
                self._take(self, request)
        except Exception as error:  # whatever it is, it concerns one step, and there are others
            self.decline(request, str(error) or repr(error))

    def decline(self, request: Request, reason: str) -> None:
        """Leaves a step to the process that was started for it."""
        _log(f"declined {request.module or 'a request'}: {reason}")
        if request.connection in self._selector.get_map():
            self._selector.unregister(request.connection)
        request.close()
        self._requests.discard(request)

    def fork(self, request: Request) -> None:
        """Forks a child that runs a step."""
        asked = request.environment | self.fixed
        if different := {k for k, _ in asked.items() ^ self._environment.items()}:
            # Libraries read the environment when they are loaded.
            self.decline(request, f"its environment differs in {', '.join(sorted(different))}")
            return
        self._requests.add(request)
        request.connection.setblocking(True)
        request.connection.send(TAKEN)  # fails if the step is gone
        child = os.fork()
        if child == 0:
            run(request, self)
        try:
            handle = os.pidfd_open(child)
            reap = partial(self._reap, handle, child, request)
            self._selector.register(handle, selectors.EVENT_READ, reap)
        except OSError:  # out of descriptors: nobody would see the child's end
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        self._children += 1
        request.close_files()

    def close_for_child(self, own: Request) -> None:
        """Closes, in a child, what belongs to others: they must see each other's end."""
        self._listener.close()
        for request in self._requests - {own}:
            request.close()
        for key in self._selector.get_map().values():
            if isinstance(key.fileobj, int) and key.fileobj != self._build:
                os.close(key.fileobj)  # handles of children
        self._selector.close()

    def _reap(self, handle: int, child: int, request: Request) -> None:
        self._selector.unregister(handle)
        os.close(handle)
        self._children -= 1
        with contextlib.suppress(OSError):  # the step may be gone
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                _log(f"{request.module} was killed by signal {-code}")
            request.connection.send(REPLY.pack(code))
        request.close()
        self._requests.discard(request)


def run(request: Request, server: Server) -> NoReturn:
    """Runs a step in the child, and exits with its code."""
    code = 1
    try:
        server.close_for_child(request)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, file in enumerate(request.files):
            os.dup2(file, number)
        request.close_files()
        threading.Thread(target=_die_with, args=[request.connection], daemon=True).start()
        os.chdir(request.folder)
        os.environ.pop(VARIABLE, None)
        sys.argv[1:] = request.argv
        resource_usage.began = request.asked
        code = _exit_code(importlib.import_module(request.module).main())
    except SystemExit as left:
        code = _exit_code(left.code)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


def _exit_code(value: object) -> int:
    """The exit code that Python gives ``sys.exit(value)``."""
    if value is None or isinstance(value, int):
        return (value or 0) & 0xFF
    print(value, file=sys.stderr)
    return 1


def _die_with(connection: socket.socket) -> None:
    """Ends this process when the one that was started for the step is gone."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def _log(message: str) -> None:
    with contextlib.suppress(OSError):  # a full disk stops no server
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}", file=sys.stderr, flush=True)


def restart(arguments: list[str], server: Server, request: Request) -> None:
    """Replaces this process by one in the environment of its first step, which waits meanwhile.

    Libraries read the environment when they are loaded, so it must be that of the steps. What does
    not survive is kept open, and given by number: the listener, the connection, the message and the
    step's files.
    """
    message = os.memfd_create("request")
    os.write(message, request.message)
    listener = int(arguments[-1])
    kept = [request.connection.fileno(), message, *request.files]
    for number in (listener, *kept):
        os.set_inheritable(number, True)
    command = [sys.executable, "-P", "-m", __spec__.name, *arguments, *map(str, kept)]
    os.execve(sys.executable, command, request.environment | server.fixed)


def main(*arguments: str) -> None:
    kind, folder, libraries, listening, *kept = arguments
    path, build = Path(folder, kind), sys.stdin.fileno()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it were ignored, children left no exit code
    try:
        listener = socket.socket(fileno=int(listening))
        listener.setblocking(False)  # a client that gives up before accept() must not block it
        if not kept:
            Server(listener, build, partial(restart, [*arguments])).serve()
            return
        os.set_inheritable(listener.fileno(), False)
        request = Request.restore(*map(int, kept))
        server = Server(listener, build, Server.fork)
        load(kind, libraries)
        try:
            server.fork(request)
        except OSError as error:
            server.decline(request, repr(error))
        server.serve()
    finally:
        for alias in path.parent.glob("*"):  # kinds that share this server
            if alias.is_symlink():
                alias.unlink()
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # the last one of the kinds


if __name__ == "__main__":
    main(*sys.argv[1:])
