"""Children that never outlive the one who started them, whichever way it ends.

Two independent ties: the kernel's parent-death signal, and a pipe that the parent keeps open for as long as it lives. The
pipe also reaches grandchildren and survives a parent that starts children from short-lived threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading

PARENT_GONE = 70
"""Exit status of a process whose lifeline was cut."""

_PR_SET_PDEATHSIG = 1


def watch(fd: int | None) -> None:
    """End this process at once when the pipe `fd` reaches its end; None: nothing to watch.

    The reading thread is a daemon and needs nothing of the event loop, so a hung process ends as well.
    """
    if fd is not None:
        # Children must not inherit it as ours: they would only see the same end, but they would keep the number busy.
        os.set_inheritable(fd, False)
        threading.Thread(target=_until_end, args=(fd,), name="lifeline", daemon=True).start()


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel for SIGKILL when the thread that started this process ends. Linux; elsewhere nothing is done.

    Safe between fork and exec as well as at the start of a program.

    Args:
        parent: process id that must still be the parent; else this process ends now (it died before we could ask).
    """
    try:
        prctl = ctypes.CDLL(None).prctl
    except (AttributeError, OSError):
        return
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # The parent may have died before prctl: then no signal will ever come.
    if parent is not None and os.getppid() != parent:
        os._exit(PARENT_GONE)


def ending(status: int) -> str:
    """How a process ended, in words: its exit status, or the signal that ended it where `status` is negative."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    # Signals that are free for programs to use have numbers only.
    except ValueError:
        return f"signal {-status}"


def _until_end(fd: int) -> None:
    # Nothing is ever written, so a read returns only at the end. _exit: handlers and threads of a hung program may hang too.
    try:
        while os.read(fd, 1):
            pass
    finally:
        os._exit(PARENT_GONE)
