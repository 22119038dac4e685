"""Reading ahead in threads, computing in batches, finishing in threads."""

import threading
import time

import pytest

from jaxlung.errors import InputError
from jaxlung.predict.stream import stream


def identity(item):
    return item


def doubled(batch):
    return [2 * one for one in batch]


def total(prepared, computed):
    return prepared + computed


def run(items, *, prepare=identity, compute=doubled, finish=total, batch_size=4, workers=2):
    found = stream(items, prepare, compute, finish, batch_size=batch_size, workers=workers)
    try:
        for done in found:
            yield done.item, done.result
    finally:
        found.close()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9, 50])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_results_come_in_order_each_once(count, batch_size):
    def slow(item):
        time.sleep(0.003 * (item % 3))
        return item

    found = list(run(range(count), prepare=slow, batch_size=batch_size))
    assert found == [(i, 3 * i) for i in range(count)]


def test_batches_are_full_but_for_the_last_though_items_fail():
    sizes = []

    def compute(batch):
        sizes.append(len(batch))
        return doubled(batch)

    def odd_fails(item):
        if item % 2:
            raise InputError(f"{item} is odd")
        return item

    found = list(run(range(20), prepare=odd_fails, compute=compute))
    assert [item for item, _ in found] == list(range(20))
    for item, result in found:
        assert isinstance(result, InputError) if item % 2 else result == 3 * item
    assert sizes == [4, 4, 2]


def test_all_items_may_fail():
    def fail(item):
        raise InputError(str(item))

    found = list(run(range(30), prepare=fail))
    assert [str(error) for _, error in found] == [str(i) for i in range(30)]


def test_errors_of_finishing_take_the_results_place():
    def finish(prepared, computed):
        if prepared == 3:
            raise InputError("three")
        return computed

    found = dict(run(range(6), finish=finish))
    assert isinstance(found.pop(3), InputError)
    assert found == {i: 2 * i for i in (0, 1, 2, 4, 5)}


def test_few_items_are_held_however_slowly_results_are_taken():
    held, most, lock = 0, 0, threading.Lock()

    def prepare(item):
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return item

    for _ in run(range(200), prepare=prepare):
        with lock:
            held -= 1
        time.sleep(0.001)
    assert 4 <= most <= 4 * 4 + 2


def test_other_errors_end_it_and_nothing_more_is_read():
    read = []

    def prepare(item):
        read.append(item)
        return item

    def compute(batch):
        raise RuntimeError("device lost")

    with pytest.raises(RuntimeError, match="device lost"):
        list(run(range(1000), prepare=prepare, compute=compute))
    assert len(read) < 20


def test_closed_early_it_stops_reading():
    read = []

    def prepare(item):
        read.append(item)
        return item

    results = run(range(1000), prepare=prepare)
    next(results)
    results.close()
    assert len(read) < 40
