"""A script: become another program, as who may run a server, which ends when its parent does.

`subprocess` could do both after a fork, but not among the threads of gRPC: the child then dies of
SIGSEGV now and then. So it starts this, which needs no fork of its own.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> None:
    """Raises `OSError` if there is no such program."""
    if os.geteuid() == 0:  # PostgreSQL refuses to be run by root
        os.setgroups([])
        os.setgid(grp.getgrnam("nogroup").gr_gid)
        os.setuid(pwd.getpwnam("nobody").pw_uid)
    # An immediate shutdown of PostgreSQL. A change of the user would take this back.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
