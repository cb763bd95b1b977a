"""Signals, heard at once, even while the main thread compiles or computes."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

STOPPED = 130  # exit status after Ctrl-C
GRACE = 3.0  # seconds that the process has to stop by itself, once it is told to leave

Hear = Callable[[str], str | None]


@contextlib.contextmanager
def heard(hear: Hear) -> Iterator[None]:
    """Call hear("SIGINT") or hear("SIGTERM"), in a thread of its own, the moment that the signal comes.

    Python's handlers wait for the main thread, which native code may keep for many seconds; they run as well. If `hear`
    returns a line and this context does not end within GRACE seconds, the process ends with that line and the status
    STOPPED. Outside of the main thread, which alone can catch signals, nothing is heard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receive, send = os.pipe()
    os.set_blocking(send, False)
    before = signal.set_wakeup_fd(send, warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(receive, hear), daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(send)  # ends the listener
        listener.join()
        os.close(receive)


def _listen(receive: int, hear: Hear) -> None:
    timers = []
    while number := os.read(receive, 1):
        name = signal.Signals(number[0]).name
        line = hear(name) if name in ("SIGINT", "SIGTERM") else None
        if line is not None:
            timers.append(threading.Timer(GRACE, _leave, (line,)))
            timers[-1].daemon = True
            timers[-1].start()
    for timer in timers:
        timer.cancel()


def _leave(line: str) -> None:
    """Without cleaning up, which waits for what does not end: files are written whole or not at all."""
    write(line)
    os._exit(STOPPED)


def write(line: str) -> None:
    """Write a line of its own to standard error, unbuffered, since a buffer may be half-written at that moment."""
    os.write(2, f"\n{line}\n".encode())
