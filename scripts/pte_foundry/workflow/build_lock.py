"""One build in a folder at a time, whatever container or host the second one is started in.

Snakemake locks the files of a build, but cannot tell a build that runs from one that was killed. So
a build holds two things in ``.snakemake/pte_foundry`` for as long as it lives:

- a lock of the kernel (flock(2)), which ends with the process, however that ends. All containers of
  a host see it, and other hosts too if the file system supports that, as NFS does.
- a record of the process that holds it, for messages, and for file systems whose locks do not reach
  other hosts or do not exist. A record without a lock is of a build that was killed if it is of
  this host. If it is of another host, only the user knows.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import json
import os
import platform
import pwd
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from pte_foundry.errors import FoundryError
from pte_foundry.files import process_table

FOLDER = Path(".snakemake/pte_foundry")
LOCK, RECORD = "build.lock", "build.json"

_BOOT = "/proc/sys/kernel/random/boot_id"
_PATIENCE = 3.0  # seconds to wait for a command that only cleans up
_HELD: set[Path] = set()  # folders whose lock this process holds
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.EBADF}


class BusyError(FoundryError):
    """Another build is, or may be, running in this folder."""


class State(Enum):
    """What a record without a lock says about its build."""

    ENDED = "it was killed"
    RUNNING = "it runs"
    UNKNOWN = "this process cannot tell"


@dataclass(frozen=True)
class Holder:
    """A process that holds the lock.

    Attributes:
        host: name of the host or container.
        machine: identifies the machine over reboots, if it has an identity.
        boot: identifies the running kernel.
        namespace: identifies the process table that ``pid`` is in.
        pid: process id.
        started: start of the process, which tells it from a later one with the same id.
        user: name or number of the user.
        since: date and time, for messages.
        builds: false for a command that only cleans up, which takes a moment.
    """

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    started: str
    user: str
    since: str
    builds: bool = True

    @classmethod
    def this_process(cls, *, builds: bool = True) -> Holder:
        pid = os.getpid()
        return cls(
            host=platform.node(),
            machine=_read("/etc/machine-id"),
            boot=_read(_BOOT),
            namespace=process_table(),
            pid=pid,
            started=_start_of(pid),
            user=user_name(),
            since=time.strftime("%Y-%m-%d %H:%M:%S"),
            builds=builds,
        )

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} on {self.host}, since {self.since}"


def state_of(holder: Holder, here: Holder, *, kernel_locks: bool) -> State:
    """Returns whether the build of a record still runs, seen from the process ``here``.

    Args:
        holder: the record.
        here: this process.
        kernel_locks: whether ``here`` has taken the lock, which a process of this kernel that runs
            would still have; false if the file system has no locks.
    """
    if holder.host != here.host:
        return State.UNKNOWN
    if holder.boot != here.boot:  # rebooted since, or another host of the same name
        same = holder.machine and holder.machine == here.machine
        return State.ENDED if same else State.UNKNOWN
    if kernel_locks:
        return State.ENDED
    if holder.namespace != here.namespace:
        return State.UNKNOWN
    return State.RUNNING if _start_of(holder.pid) == holder.started else State.ENDED


class BuildLock:
    """The lock of a folder. It is held until :meth:`release`, or until the process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = (folder / FOLDER).absolute()
        self._record = self._folder / RECORD
        self._handle: int | None = None
        self._owner = 0

    def acquire(self, *, builds: bool = True, force: bool = False) -> bool:
        """Takes the lock; returns whether the last build in the folder was killed.

        Does nothing if this process has it, or one that has started this one to build.

        Args:
            builds: false for a command that only cleans up.
            force: also if this process cannot tell whether the build of a record still runs.

        Raises:
            BusyError: another build runs in this folder, or may run.
        """
        if self._folder in _HELD or _has_started_this(_holder(self._record)):
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        kernel_locks = self._lock()
        here = Holder.this_process(builds=builds)
        killed = False
        try:
            while not self._write(here):
                self._check(here, kernel_locks, force)
                self._record.unlink(missing_ok=True)
                killed = True
        except BaseException:
            self._unlock()
            raise
        self._owner = os.getpid()
        _HELD.add(self._folder)
        atexit.register(self.release)
        return killed

    @property
    def descriptors(self) -> list[int]:
        """What a process inherits that goes on with this build after this process was killed."""
        return [] if self._handle is None else [self._handle]

    def release(self) -> None:
        """Gives the lock back. Does nothing in a process that does not hold it, such as a fork."""
        if self._owner == os.getpid():
            with suppress(OSError):
                self._record.unlink(missing_ok=True)
            self._owner = 0
            self._unlock()
            _HELD.discard(self._folder)
        atexit.unregister(self.release)

    def _lock(self) -> bool:
        """Takes the kernel's lock; returns false if the file system has none."""
        path, deadline = self._folder / LOCK, time.monotonic() + _PATIENCE
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:  # of another user; reading is enough
            self._handle = os.open(path, os.O_RDONLY)
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                holder = _holder(self._record)
                if time.monotonic() < deadline and not (holder and holder.builds):
                    time.sleep(0.05)  # it cleans up, or writes its record
                    continue
                self._unlock()
                raise _busy(holder) from None
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                return False

    def _unlock(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _write(self, here: Holder) -> bool:
        """Writes the record, unless there is one; returns whether it did."""
        try:
            handle = os.open(self._record, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(here), file)
        except OSError:  # a full disk
            self._record.unlink(missing_ok=True)
            raise
        return True

    def _check(self, here: Holder, kernel_locks: bool, force: bool) -> None:
        """Raises BusyError if the build of the record must be taken for running."""
        holder = _holder(self._record)
        if holder is None and kernel_locks:
            return  # its process was killed, or the power cut, while it wrote the record
        state = state_of(holder, here, kernel_locks=kernel_locks) if holder else State.UNKNOWN
        if state is State.RUNNING:
            raise _busy(holder)
        if state is State.UNKNOWN and not force:
            raise BusyError(
                f"another build was working in this folder ({holder or _UNREADABLE}) and has not "
                "ended as far as this host can tell. If you know that it does not run any more, "
                "run: pte-foundry resume --force (or make FORCE=1)."
            )


_UNREADABLE = f"its record {FOLDER / RECORD} cannot be read"


def _busy(holder: Holder | None) -> BusyError:
    elsewhere = holder and (holder.host, holder.namespace) != (platform.node(), process_table())
    place = ", in another container or on another host" if elsewhere else ""
    return BusyError(
        f"another build is working in this folder ({holder or _UNREADABLE}{place}). "
        "Wait for it to end, or end it, and run again."
    )


def _has_started_this(holder: Holder | None) -> bool:
    """Whether this process is part of the build that a process has begun."""
    import psutil

    parents = {process.pid for process in psutil.Process().parents()}
    return (
        holder is not None
        and (holder.boot, holder.namespace) == (_read(_BOOT), process_table())
        and holder.pid in parents
        and holder.started == _start_of(holder.pid)
    )


def _holder(record: Path) -> Holder | None:
    try:
        return Holder(**json.loads(record.read_bytes()))
    except (OSError, TypeError, ValueError):
        return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):  # another system
        return ""


def _start_of(pid: int) -> str:
    """Returns when a process started, in an unspecified unit; empty if there is none."""
    if sys.platform == "linux":
        # Field 22 of proc_pid_stat(5), ticks since boot: other clocks can be set. The name of the
        # program, in parentheses, may contain spaces and parentheses.
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return fields[19] if fields else ""
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return ""


def user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in many containers
        return str(os.getuid())
