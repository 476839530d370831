"""The step table: everything that differs between samplers, as data for the one denoising loop."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hoirt.errors import InputError

FloatArray: TypeAlias = NDArray[np.float64]

_FLOAT_COLUMNS = ("timestep", "guidance", "control", "A", "B", "C", "D", "E", "F", "G", "H", "clip")


@dataclass(frozen=True, eq=False, repr=False)
class StepTable:
    """One row per step; all columns have shape (S,), are float64 (`known`, `reuse`: bool) and read-only.

    With network output u (unconditional) and c (conditional), state x, known state z, mask m (1 = regenerate)
    and independent standard normals n, n', row i does

        out = u + guidance (c - u)              guidance == 1: only c is computed
        x0  = A x + B out                       clamped to +-clip if clip > 0
        x'  = C x + D x0 + E x0_prev + F n      x0_prev: the previous row's x0; E[0] == 0
        x'  = m x' + (1 - m)(G z + H n')        only where `known`

    `timestep` is what the network is given, `control` multiplies the user's control strength. The loop starts
    from init_signal * given_state + init_noise * n; `init_known` = (G, H) blends the known region into it.

    Rows with `reuse` run a shallow network on the features that the last row without it kept. Row 0 is none
    of them, and a guided one needs kept features that are guided too. Left out, no row has it.
    """

    timestep: FloatArray
    guidance: FloatArray
    control: FloatArray
    A: FloatArray
    B: FloatArray
    C: FloatArray
    D: FloatArray
    E: FloatArray
    F: FloatArray
    G: FloatArray
    H: FloatArray
    clip: FloatArray
    known: NDArray[np.bool_]
    init_signal: float = 0.0
    init_noise: float = 1.0
    init_known: tuple[float, float] | None = None
    reuse: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        shape = np.shape(self.timestep)
        if len(shape) != 1 or shape[0] < 1:
            raise InputError(
                f"a step table needs columns of shape (S,) with S >= 1, timestep has shape {shape}"
            )
        for name in _FLOAT_COLUMNS:
            self._set_column(name, getattr(self, name), shape)
        self._set_flags("known", self.known, shape)
        self._set_flags("reuse", self.reuse if np.size(self.reuse) else np.zeros(shape, bool), shape)
        self._check_reuse()
        if self.E[0] != 0:
            raise InputError("step table: E must be 0 in row 0, which has no previous x0")
        if (self.clip < 0).any():
            raise InputError("step table: clip must be >= 0 (0 = off)")
        pair = (0.0, 0.0) if self.init_known is None else self.init_known
        scalars = np.asarray((self.init_signal, self.init_noise, *pair), dtype=np.float64)
        if scalars.shape != (4,) or not np.isfinite(scalars).all():
            raise InputError("step table: init_signal, init_noise and the pair init_known must be finite")

    def _set_column(self, name: str, value: ArrayLike, shape: tuple[int, ...]) -> None:
        try:
            column = np.array(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"step table column {name} must hold numbers: {error}") from None
        if column.shape != shape:
            raise InputError(f"step table column {name} must have shape {shape}, got {column.shape}")
        bad = np.flatnonzero(~np.isfinite(column))
        if bad.size:
            raise InputError(
                f"step table column {name} is {column[bad[0]]} in row {bad[0]}; it must be finite"
            )
        column.setflags(write=False)
        object.__setattr__(self, name, column)

    def _set_flags(self, name: str, value: ArrayLike, shape: tuple[int, ...]) -> None:
        column = np.array(value)
        if column.dtype != np.bool_ or column.shape != shape:
            raise InputError(
                f"step table column {name} must be bool of shape {shape}, got {column.dtype} {column.shape}"
            )
        column.setflags(write=False)
        object.__setattr__(self, name, column)

    def _check_reuse(self) -> None:
        full = 0
        for row, reuse in enumerate(self.reuse):
            if not reuse:
                full = row
            elif row == 0:
                raise InputError("step table: reuse must be False in row 0, before which nothing is kept")
            elif self.guidance[row] != 1 and self.guidance[full] == 1:
                raise InputError(
                    f"step table: reuse must be False in row {row}: it is guided, and row {full}, the last "
                    "full one, ran without the unconditional half"
                )

    def __len__(self) -> int:
        return len(self.timestep)

    def __repr__(self) -> str:
        first, last = self.timestep[0], self.timestep[-1]
        return (
            f"StepTable({len(self)} rows, timestep {first:g} .. {last:g}, known rows {int(self.known.sum())})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StepTable):
            return NotImplemented
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    __hash__ = None  # type: ignore[assignment]  # equal by content, and arrays have no hash

    def first(self, rows: int) -> StepTable:
        """The table of the first `rows` rows, which draw the same noise as here."""
        if not 1 <= rows <= len(self):
            raise InputError(f"a table of {len(self)} rows has no first {rows}")
        columns = {
            f.name: getattr(self, f.name)[:rows]
            for f in fields(self)
            if isinstance(getattr(self, f.name), np.ndarray)
        }
        return replace(self, **columns)

    @property
    def guided(self) -> bool:
        """Whether some row runs the unconditional pass."""
        return bool((self.guidance != 1).any())

    @property
    def noise_streams(self) -> int:
        """Number K of streams in a user's `noise` array (K, N, ...).

        Order: initial; the known region's initial one if `init_known`; then per row n if F != 0, n' if known.
        """
        init = 1 + (self.init_known is not None)
        return init + int(np.count_nonzero(self.F)) + int(np.count_nonzero(self.known))
