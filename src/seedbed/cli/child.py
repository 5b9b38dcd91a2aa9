"""Runs a program that ends with its parent: `python -I -S child.py PARENT_PID PROGRAM ARGUMENT...`.

Linux kills the process when its parent's thread ends, however that happened, so that `seedbed up`
leaves no orphans even after a SIGKILL. (Elsewhere only an orderly end stops them.) A program of its
own and not code run between fork and exec, which is not safe in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:  # it ended before the line above
            sys.exit("the parent is gone")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
