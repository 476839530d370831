"""The one thread in which torch works on GPUs.

torch keeps what cuDNN found to be fastest for each thread, and so cuBLAS' handles, with 32 MB of workspace
for each stream; and whether cuDNN searches (torch.backends.cudnn.flags) is a setting of the process. So
threads of a server that called torch themselves would each search again, hold memory, and change each other's
setting.
"""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@functools.cache
def _executor() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="hoirt-torch")


def in_torch_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns or raises; while it waits for its turn the GIL is free.

    When the wait is interrupted (Ctrl-C) the work is called off if it has not begun, or else its end waited
    for, so that nothing is enqueued on the caller's stream any more.
    """
    future = _executor().submit(work, *args, **kwargs)
    try:
        return future.result()
    except BaseException:
        if not future.cancel():
            concurrent.futures.wait([future])
        raise
