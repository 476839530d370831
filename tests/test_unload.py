"""Refiner.unload(): everything is closed, and opened again when it is needed."""

import gc
import threading
import weakref

import hoirt
import numpy as np
import pytest


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)


BOX = [(20.0, 20.0, 76.0, 76.0)]


def test_unload_frees_and_the_next_call_opens_again(picture):
    refiner = hoirt.Refiner()
    before = refiner(picture, hands=BOX, steps=2)
    models = weakref.ref(refiner._models)
    step = weakref.ref(refiner._models.inpaint)
    gc.disable()  # nothing may wait for the collector: it is device memory
    try:
        refiner.unload()
        assert models() is None and step() is None
    finally:
        gc.enable()
    refiner.unload()  # twice is fine
    after = refiner(picture, hands=BOX, steps=2)
    assert np.array_equal(before.image, after.image)


def test_unload_during_a_call(picture):
    refiner = hoirt.Refiner()
    expected = refiner(picture, hands=BOX, steps=3).image
    inside, go_on, results = threading.Event(), threading.Event(), []

    def on_step(info):
        inside.set()
        go_on.wait(30)

    def call():
        results.append(refiner(picture, hands=BOX, steps=3, on_step=on_step).image)

    thread = threading.Thread(target=call)
    thread.start()
    assert inside.wait(30)
    refiner.unload()
    go_on.set()
    thread.join(60)
    assert np.array_equal(results[0], expected)
