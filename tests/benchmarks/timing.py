"""Interleaved timing: tasks take turns, so that whatever slows the machine down for a while slows all of them."""

import statistics
import time


def interleaved(tasks, rounds):
    """Run every task once to warm up, then all in turn, `rounds` times.

    Args:
        tasks: dict of functions by name.
        rounds: number of timed runs of each.

    Returns:
        dict of lists of seconds by name, one entry a round.
    """
    for task in tasks.values():
        task()
    seconds = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(one, other):
    """Return the median over rounds of one's seconds divided by the other's."""
    return statistics.median(left / right for left, right in zip(one, other, strict=True))
