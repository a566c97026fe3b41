# SPDX-License-Identifier: MIT
"""Runs many things beside each other, each in a thread of its own, and tells what went wrong."""

import threading
from collections.abc import Callable, Mapping


def run_beside(jobs: Mapping[str, Callable[[], list[str]]]) -> list[str]:
    """Run all of *jobs* at once; return what they complain of, each with its name.

    What a job starts must end in it: the kernel kills the children of a thread that is gone.
    """
    found: list[str] = []

    def run(name: str, job: Callable[[], list[str]]) -> None:
        try:
            found.extend(f"{name}: {complaint}" for complaint in job())
        except Exception as error:  # noqa: BLE001 - the thread's last words
            found.append(f"{name}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=each) for each in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
