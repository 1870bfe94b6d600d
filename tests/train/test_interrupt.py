from __future__ import annotations

import os
import signal
import threading

import pytest

from bnas.train.interrupt import deferred_interrupt


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_is_held_back_until_the_body_ends() -> None:
    said: list[bool] = []
    before = signal.getsignal(signal.SIGINT)

    def body() -> None:
        with deferred_interrupt() as interrupted:
            said.append(interrupted())
            press()
            said.append(interrupted())

    with pytest.raises(KeyboardInterrupt):
        body()
    assert said == [False, True]
    assert signal.getsignal(signal.SIGINT) == before


def test_the_second_comes_at_once() -> None:
    reached: list[int] = []

    def body() -> None:
        with deferred_interrupt():
            for number in range(3):
                press()
                reached.append(number)

    with pytest.raises(KeyboardInterrupt):
        body()
    assert reached == [0]


def test_without_one_nothing_happens() -> None:
    with deferred_interrupt() as interrupted:
        pass
    assert not interrupted()


def test_an_ignored_signal_stays_ignored_and_threads_are_left_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred_interrupt() as interrupted:
            press()
            assert not interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    failures: list[BaseException] = []

    def body() -> None:
        try:
            with deferred_interrupt() as interrupted:
                assert not interrupted()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert failures == []
