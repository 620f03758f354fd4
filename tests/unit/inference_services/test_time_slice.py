"""The slice that is asked for is the kernel's from then on, for the threads that start later too."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
import threading

import pytest

from inference_services.time_slice import _ATTRIBUTES, _CALLS, SLICE_NS, ask_for_short_slices

KERNEL = tuple(int(part) for part in platform.release().split(".")[:2]) if sys.platform == "linux" else (0, 0)


def slice_ns() -> int:
    """The slice of the calling thread."""
    found = ctypes.create_string_buffer(_ATTRIBUTES.size)
    assert not ctypes.CDLL(None).syscall(_CALLS[platform.machine()][1], 0, found, _ATTRIBUTES.size, 0)
    return int(_ATTRIBUTES.unpack(found.raw)[5])


def asked() -> None:
    """What a server does, and what its threads find."""
    assert ask_for_short_slices()
    found = [slice_ns()]
    thread = threading.Thread(target=lambda: found.append(slice_ns()))
    thread.start()
    thread.join()
    sys.stdout.write(f"{found}")


@pytest.mark.skipif(
    KERNEL < (6, 12) or platform.machine() not in _CALLS, reason="custom time slices need Linux 6.12 on x86-64 or arm64"
)
def test_a_process_and_its_threads_have_the_slice_that_was_asked_for() -> None:
    # Elsewhere, so that the tests keep theirs.
    command = [sys.executable, "-c", f"from {__name__} import asked; asked()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"[{SLICE_NS}, {SLICE_NS}]", done.stderr


def test_a_machine_that_is_not_known_keeps_its_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    assert not ask_for_short_slices()
