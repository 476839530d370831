"""What a build tells while it runs, and how it is stopped: by a token, a callback, or Ctrl-C."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from hoirt.errors import Cancelled

T = TypeVar("T")
Report = Callable[[str, float], object]  # (phase, share done of 0 .. 1) -> False stops the build
POLL_SECONDS = 0.1


class Token(Protocol):
    """hoirt.CancelToken."""

    @property
    def cancelled(self) -> bool: ...


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Watch:
    """The phases of one build. Thread-safe: TensorRT calls from threads of its own.

    report: told after each step; False, or an exception, stops the build. cancel: a token that stops it too.
    """

    def __init__(self, report: Report | None = None, cancel: Token | None = None) -> None:
        self.report, self.token = report, cancel
        self.error: BaseException | None = None
        self._phases: dict[str, _Phase] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def stop(self) -> None:
        """The next step will be the last."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        return self._stopped or (self.token is not None and self.token.cancelled)

    def started(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[name] = _Phase(parent, max(1, steps))

    def finished(self, name: str) -> None:
        with self._lock:
            self._phases.pop(name, None)

    def stepped(self, name: str, step: int) -> bool:
        """Whether the build goes on."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1
            share = self._share()
        if self.report is not None and not self.stopped:
            try:
                if self.report(name, share) is False:
                    self._stopped = True
            except BaseException as error:  # it must not travel through C++; whoever waits raises it
                self.error, self._stopped = error, True
        return not self.stopped

    def _share(self) -> float:
        """Of the outermost phase, in which the ones inside of it count by their own shares."""

        def of(name: str) -> float:
            phase = self._phases[name]
            inside = sum(of(child) for child, other in self._phases.items() if other.parent == name)
            return min(1.0, (phase.done + inside) / phase.steps)

        roots = [name for name, phase in self._phases.items() if phase.parent not in self._phases]
        return max((of(name) for name in roots), default=0.0)


def make_monitor(module: Any, watch: Watch) -> Any:
    """The watch as a tensorrt.IProgressMonitor."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.started(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            watch.finished(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.stepped(phase_name, step)

    return Monitor()


def cancellable(work: Callable[[], T], watch: Watch) -> T:
    """Does `work` in a thread, so that Ctrl-C arrives here at once, stops it, and is raised when it ended.

    Raises Cancelled if the watch was stopped otherwise.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    ended = threading.Event()  # Thread.join must not be interrupted: it then takes the thread for ended

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=run, name="hoirt-tensorrt-build")
    try:
        thread.start()
        while not ended.wait(POLL_SECONDS):
            pass
    except BaseException:
        watch.stop()
        if thread.ident is not None:
            ended.wait()
        raise
    if watch.error is not None:
        raise watch.error
    if watch.stopped:  # whatever a stopped build gave is not what was asked for
        raise Cancelled("the build of a TensorRT engine was stopped")
    if errors:
        raise errors[0]
    return results[0]


class Console:
    """Prints the progress of one build on a terminal's standard error; says nothing where that is none."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.shown = -1

    def __call__(self, phase: str, share: float) -> None:
        percent = int(100 * share)
        if percent != self.shown and sys.stderr.isatty():
            self.shown = percent
            sys.stderr.write(f"\r\033[Kbuilding {self.title} for this GPU: {percent:3d} % ({phase[:60]})")
            sys.stderr.flush()

    def close(self) -> None:
        if self.shown >= 0:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
