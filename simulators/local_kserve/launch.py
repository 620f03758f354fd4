"""Run as a script: become the command in the arguments, tied to the life of the parent (Linux only).

A launcher and not subprocess' `preexec_fn`: that would fork this process' memory with gRPC's threads in it, and
gRPC's fork handlers abort the child now and then. Without it Python uses vfork, which runs no handlers.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def launched(*command: str) -> tuple[str, ...]:
    """The command line that runs `command` so that it ends with this process."""
    return (sys.executable, "-I", "-S", __file__, str(os.getpid()), *command)


if __name__ == "__main__":
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the tie was made
            sys.exit("the local KServe has ended")
    os.execvp(command[0], command)  # noqa: S606 - the command of a manifest, no shell
