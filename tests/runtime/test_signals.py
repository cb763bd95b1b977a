"""Signals are heard while native code keeps the main thread."""

import ctypes
import os
import signal
import subprocess
import sys
import threading

from poisonjax.runtime.signals import STOPPED, heard


def test_a_signal_is_heard_while_the_main_thread_is_in_native_code():
    """The main thread reads natively from a pipe into which only the listener writes; the helper gives up on it."""
    receive, send = os.pipe()
    names, before = [], signal.signal(signal.SIGINT, lambda *_: None)
    signal.siginterrupt(signal.SIGINT, False)  # native reads go on after a signal, as compilations do

    def hear(name):
        names.append(name)
        os.write(send, b"h")

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        give_up.wait(30)
        os.write(send, b"g")

    give_up, helper, answer = threading.Event(), threading.Thread(target=interrupt), ctypes.create_string_buffer(1)
    try:
        with heard(hear):
            helper.start()
            ctypes.CDLL(None).read(receive, answer, 1)
        assert answer.raw == b"h" and names == ["SIGINT"]
    finally:
        give_up.set()
        helper.join()
        signal.signal(signal.SIGINT, before)


DEAF = """
import os, signal, time
from poisonjax.runtime import signals
signals.GRACE = 0.0
signal.signal(signal.SIGINT, lambda *_: None)
with signals.heard(lambda name: "last words"):
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        time.sleep(1)
"""


def test_a_process_that_does_not_stop_is_ended_with_last_words():
    ended = subprocess.run([sys.executable, "-c", DEAF], capture_output=True, text=True, timeout=60)
    assert ended.returncode == STOPPED and ended.stderr.strip() == "last words"


def test_what_was_there_before_comes_back_and_other_threads_hear_nothing():
    heard_there = []
    other = threading.Thread(target=lambda: heard_there.append(heard(print).__enter__()))
    other.start()
    other.join()
    assert heard_there == [None]
    with heard(print):
        pass
    assert signal.set_wakeup_fd(-1) == -1
