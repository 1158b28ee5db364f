"""Signals of a program that is stopped halfway."""

import signal
import subprocess
import sys
import threading

import pytest
from commands import ROOT

from ssd_jax.runtime.signals import StopSignals, end_at_second_signal

NUMBERS = (signal.SIGINT, signal.SIGTERM)
# The main thread waits in a function that no signal ends, as in a computation.
BLOCKED = """
import ctypes, os, signal
from ssd_jax.runtime.signals import StopSignals, end_at_second_signal

numbers = (signal.SIGINT, signal.SIGTERM)
with end_at_second_signal(numbers), StopSignals(numbers, second_is_default=False):
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # other threads receive them
    print("ready", flush=True)
    ctypes.CDLL(None).sleep(60)
"""


@pytest.mark.parametrize("number", NUMBERS)
def test_the_second_signal_ends_a_program_that_computes(number):
    process = subprocess.Popen(
        [sys.executable, "-c", BLOCKED], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert error == "interrupted at once: what was not saved is lost\n"


def test_the_first_signal_is_noted_and_nothing_is_left_behind():
    threads, handler = threading.active_count(), signal.getsignal(signal.SIGTERM)
    with end_at_second_signal(NUMBERS), StopSignals(NUMBERS, second_is_default=False) as stop:
        assert not stop.received
        signal.raise_signal(signal.SIGTERM)
        assert stop.received and stop.number == signal.SIGTERM
    assert threading.active_count() == threads
    assert signal.getsignal(signal.SIGTERM) is handler and signal.set_wakeup_fd(-1) == -1
