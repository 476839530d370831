"""What is set of torch._inductor.config to compile a network."""

from __future__ import annotations

from typing import Any

from torch._inductor import config

WRAPPER_LEVEL = "compile_wrapper_opt_level"


def configuration(device: str, max_autotune: bool, *, halves: bool) -> dict[str, Any]:
    """The `inductor_configs` for a device.

    max_autotune: time the candidates for every kernel. halves: the network computes in half precision.
    """
    settings: dict[str, Any] = {"aot_inductor.use_runtime_constant_folding": False}
    if device != "cpu":
        # Convolutions in the tensor cores' layout even where inductor's estimate says that it does not pay.
        settings |= {"layout_optimization": True, "force_layout_optimization": True}
        settings |= {"max_autotune": max_autotune, "coordinate_descent_tuning": max_autotune}
        settings |= {"split_reductions": not halves}  # group_norm.py cuts its sums itself
        if hasattr(config.aot_inductor, WRAPPER_LEVEL):
            # The C++ around the kernels is long, and steps are replayed from a graph, which does not run it.
            settings |= {f"aot_inductor.{WRAPPER_LEVEL}": "O0"}
    return settings
