"""Becomes the command it is given, tied to its parent: `python -ISs tethered.py PARENT_PID
COMMAND…`.

Run as a script between fork and exec. The kernel sends SIGTERM to this process, and so to the
command it turns into, when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG; kept across
exec). Linux only; elsewhere the command simply runs.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent:  # it died before the line above could ask for the signal
            sys.exit("the parent process is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
