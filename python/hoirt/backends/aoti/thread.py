"""The one thread in which torch works on GPUs.

torch keeps what cuDNN found to be fastest for each thread, and so cuBLAS' handles, with 32 MB of workspace
for each stream; and whether cuDNN searches (torch.backends.cudnn.flags) is a setting of the process. So
threads of a server that called torch themselves would each search again, hold memory, and change each other's
setting. And a memory pool of torch's that goes while any is in use ends the process.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
PATIENCE = 10.0  # seconds
Job = tuple["concurrent.futures.Future[Any]", Callable[[], Any]]

_jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()  # None ends the thread
_lock = threading.Lock()
_thread: threading.Thread | None = None


def in_torch_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns or raises; while it waits for its turn the GIL is free.

    When the wait is interrupted (Ctrl-C) the work is called off if it has not begun, or else its end waited
    for, so that nothing is enqueued on the caller's stream any more.
    """
    _start()
    if threading.current_thread() is _thread:
        return work(*args, **kwargs)
    future = _submit(partial(work, *args, **kwargs))
    try:
        return future.result()
    except BaseException:
        if not future.cancel():
            concurrent.futures.wait([future])
        raise
    finally:
        del future  # an error has this function's variables, and the future has the error


def close_in_torch_thread(work: Callable[[], object]) -> None:
    """For finalizers, which run anywhere at any time: has the thread do `work` when it is its turn.

    Waits for that, but not for ever: the caller may hold what the thread needs, such as an import's lock.
    """
    if _thread is None:  # not yet begun, or the interpreter ends
        work()
        return
    future = _submit(work)
    if threading.current_thread() is not _thread:
        concurrent.futures.wait([future], timeout=PATIENCE)


def _submit(work: Callable[[], T]) -> concurrent.futures.Future[T]:
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    _jobs.put((future, work))
    return future


def _start() -> None:
    global _thread
    with _lock:
        if _thread is None:
            _thread = threading.Thread(target=_work, name="hoirt-torch", daemon=True)
            _thread.start()
            atexit.register(_stop, _thread)


def _stop(thread: threading.Thread) -> None:
    """Before the interpreter ends, which stops a daemon wherever it is."""
    global _thread
    _jobs.put(None)
    thread.join()
    _thread = None


def _work() -> None:
    while (job := _jobs.get()) is not None:
        future, work = job
        del job
        if not future.set_running_or_notify_cancel():
            del work
            continue
        # Who waits may be the last to have what the work was given, but for us.
        try:
            result = work()
        except BaseException as error:
            del work
            future.set_exception(error)
        else:
            del work
            future.set_result(result)
            del result
        del future  # an error has this function's variables, and the future has the error
