"""Full-size steps with seeded random weights, as hoirt runs them and as its peers do, in one process."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bench.gpu import peers
from bench.gpu.models import SD15, SDXL, TINY, TINY_SDXL, Config, Step
from bench.gpu.packages import enqueue, network
from bench.gpu.session import Session
from bench.gpu.ways import OUTPUT, Way, parts_of

STEPS = 20
GUIDANCE = 7.5
STRENGTH = 0.55
TOKENS = 77
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
# Widths of the bundled pack's diffusion networks.
BUNDLED = Config((64, 96, 128), (0, 0, 1), (4, 4, 4), 64, inputs=9, layers=1)


@dataclass(frozen=True)
class Job:
    """A network and the size that it is measured at. side: of the latents. batch: both halves of guidance."""

    stage: str
    config: Config
    control: bool
    side: int
    batch: int = 2


def job_of(stage: str, tiny: bool) -> Job:
    """The job of a stage: step (SD1.5 with ControlNet, 512 x 512), sdxl (1024 x 1024), tiny (128 x 128)."""
    jobs = {
        "step": Job("step", SD15, True, 64),
        "sdxl": Job("sdxl", SDXL, False, 128),
        "tiny": Job("tiny", BUNDLED, True, 32),
    }
    small = {
        "step": Job("step", TINY, True, 8),
        "sdxl": Job("sdxl", TINY_SDXL, False, 8),
        "tiny": Job("tiny", TINY, True, 8),
    }
    return (small if tiny else jobs)[stage]


class Whole(nn.Module):
    """A step as diffusers calls its modules: times, keys, values and hint are computed in each one anew."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, *more: Tensor) -> Tensor:
        if self.step.controlnet is None:
            (pooled,) = more
            plain: Tensor = self.step(sample, self.step.times(timestep, pooled), self.step.contexts(text))
            return plain
        depth, inpaint, scale = more
        hint = self.step.controlnet.controlnet_cond_embedding(depth)
        out: Tensor = self.step(
            sample, self.step.times(timestep), self.step.contexts(text), hint, inpaint, scale
        )
        return out


class Networks:
    """One job's modules and inputs on the device, in bfloat16 on a GPU and float32 on the CPU."""

    def __init__(self, session: Session, job: Job) -> None:
        self.session, self.job = session, job
        self.kind = torch.bfloat16 if session.on_gpu else torch.float32
        torch.manual_seed(0)
        self.step = make(job, session.device, self.kind)
        self.inputs = whole_inputs(job, session.device, self.kind)
        with torch.inference_mode():
            self.ready = self._ready()
        self.whole = Whole(self.step)
        self.times: dict[Way, float] = {}  # milliseconds of a step
        self._networks: dict[Way, Any] = {}
        self._compiled: dict[str, Any] = {}

    def _ready(self) -> dict[str, Tensor]:
        """Inputs of the step, float32, by their ports."""
        step = self.step
        timestep, text, *more = self.inputs[1:]
        pooled = None if self.job.control else more[0]
        made = {
            "sample": self.inputs[0],
            "time": step.times(timestep, pooled),
            "context": step.contexts(text),
        }
        if step.controlnet is not None:
            depth, inpaint, scale = more
            made |= {
                "hint": step.controlnet.controlnet_cond_embedding(depth),
                "inpaint": inpaint,
                "control_scale": scale,
            }
        return {name: value.float().contiguous() for name, value in made.items()}

    @property
    def twins(self) -> tuple[str, ...]:
        """As of `hoirt pack compile`; SDXL's time holds the pooled text."""
        return ("sample", "time", "hint", "inpaint") if self.job.control else ()

    @property
    def fastest(self) -> Way:
        """Of those that were measured."""
        return min(self.times, key=self.times.__getitem__, default=Way())

    def compiled(self, mode: str) -> Any:
        """The whole step by torch.compile in a mode, made once."""
        if mode not in self._compiled:
            self._compiled[mode] = peers.compiled_step(self, self.whole, mode)
        return self._compiled[mode]

    def network(self, way: Way) -> Any:
        """The step as a network of hoirt. Packages are made once, then kept in the work folder."""
        if way not in self._networks:
            told = "-autotuned" * way.autotune + "-no-trials" * (not way.trials)
            kind = f"{way.streams}{'-shared' * bool(self.twins)}{told}-{torch.__version__}"
            stem = self.session.work / "packages" / f"{self.job.stage}-{self.job.side}-{kind}"
            parts = parts_of(self.step.rewritten(), tuple(self.ready), way.streams)
            half = self.job.batch // 2
            inputs = {name: x[:half] if name in self.twins else x for name, x in self.ready.items()}
            self._networks[way] = network(
                parts, inputs, OUTPUT, stem, twins=self.twins, autotune=way.autotune, trials=way.trials
            )
        return self._networks[way]

    def loop(self, way: Way) -> Any:
        """hoirt's denoise loop on the device."""
        return self.loop_of(self.network(way))

    def loop_of(self, step: Any) -> Any:
        """The loop with a network of the step's ports."""
        from hoirt import _core
        from hoirt.backends.devices import open_device

        control = "control_scale" if self.job.control else None
        device = open_device(self.session.device)
        return _core.DenoiseLoop(step, timestep=None, control=control, device=device)

    def nothing(self) -> Any:
        """A network with the step's ports that does next to nothing: its loop's time is the loop's own."""
        from hoirt import _core

        ports = [_core.Port(name, [-1] * value.ndim) for name, value in self.ready.items()]
        out = [_core.Port(OUTPUT, [-1] * 4)]
        device = self.session.device
        fn = enqueue(lambda *values: torch.zeros_like(values[0]), list(self.ready), OUTPUT, device)
        return _core.DeviceNetwork(ports, out, fn, device=device)

    def request(self, table: Any) -> dict[str, Any]:
        """Arguments of a run of the loop for one guided picture."""
        half = {name: array(value[:1]) for name, value in self.ready.items()}
        time = array(self.ready["time"][:1].expand(len(table), -1).contiguous())
        request: dict[str, Any] = {
            "shape": self.ready["sample"][:1].shape,
            "seeds": [0],
            "condition": {name: half[name] for name in ("context", "hint", "inpaint") if name in half},
            "uncondition": {"context": array(self.ready["context"][1:])},
            "per_step": {"time": time},
        }
        return request | ({"control": STRENGTH} if self.job.control else {})


def array(tensor: Tensor) -> Any:
    """What hoirt's loop takes: NumPy on the CPU, DLPack on a GPU."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def make(job: Job, device: str, kind: torch.dtype) -> Step:
    """The step with torch's own random weights, made where it will be."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        with torch.device(device):
            step = Step(job.config, control=job.control)
    finally:
        torch.set_default_dtype(before)
    gpu = device != "cpu" and device != "meta"
    step = step.eval().requires_grad_(False)
    return step.to(memory_format=torch.channels_last) if gpu else step


def whole_inputs(job: Job, device: str, kind: torch.dtype) -> list[Tensor]:
    """Inputs of Whole."""
    n, side, config = job.batch, job.side, job.config

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device).to(kind)

    time = torch.full((n,), 500.0, device=device)
    start = [normal(n, 4, side, side), time, normal(n, TOKENS, config.context)]
    if not job.control:
        return [*start, normal(n, config.pooled)]
    depth = torch.rand(n, 3, 8 * side, 8 * side, device=device).to(kind)
    scale = torch.full((n,), STRENGTH, device=device).to(kind)
    return [*start, depth, normal(n, 5, side, side), scale]


@cache
def flops(job: Job) -> int:
    """Operations of one Whole, 2 for each multiply-add, counted by torch without computing."""
    from bench.flops import counted_by_torch

    whole = Whole(make(job, "meta", torch.float32))
    return counted_by_torch(whole, *whole_inputs(job, "meta", torch.float32))[0]


def run(session: Session, stage: str) -> None:
    """The peers that need no compiler first, then what is compiled quickly, then what is tuned for long."""
    job = job_of(stage, session.tiny)
    with session.attempt(stage, "networks"):
        networks = Networks(session, job)
        session.shared[stage] = networks
        session.add(
            stage, "work", note=f"{flops(job) / 1e12:.3f} TFLOP a step, batch {job.batch}, latents {job.side}"
        )
    if stage not in session.shared:
        return
    kinds = [torch.bfloat16, torch.float16] if session.on_gpu else [torch.float32]
    for kind in kinds:
        label = f"torch eager {str(kind).removeprefix('torch.')}"
        with session.attempt(stage, label), torch.inference_mode():
            networks.step.to(kind)
            whole = networks.whole
            given = [value if i == 1 else value.to(kind) for i, value in enumerate(networks.inputs)]
            session.add(stage, label, session.measure(lambda whole=whole, given=given: whole(*given)))
        networks.step.to(networks.kind)
    _measure_peers(session, stage, networks, peers.QUICK)
    _measure_hoirt(session, stage, networks, Way())
    if Way() not in networks.times:  # so that one kernel that cannot be compiled does not end the stage
        _measure_hoirt(session, stage, networks, Way(trials=False))
    if job.control:
        _measure_hoirt(session, stage, networks, replace(networks.fastest, streams=2))
    _measure_peers(session, stage, networks, peers.COMPILED)
    if session.autotune and session.on_gpu:
        _measure_hoirt(session, stage, networks, replace(networks.fastest, autotune=True))
        _measure_peers(session, stage, networks, peers.TUNED)
    session.ratios(stage, "hoirt")


def _measure_peers(session: Session, stage: str, networks: Networks, chosen: dict[str, peers.Peer]) -> None:
    for name, peer in chosen.items():
        with session.attempt(stage, name):
            call, reason = peer(networks, networks.whole)
            if call is None:
                session.add(stage, name, note=f"not measured: {reason}")
            else:
                session.add(stage, name, session.measure(call))


def _measure_hoirt(session: Session, stage: str, networks: Networks, way: Way) -> None:
    """The loop's time by steps, and what of it is not the network."""
    with session.attempt(stage, way.label):
        milliseconds, note = _timed(session, networks, networks.loop(way))
        count = flops(networks.job)
        row = session.add(
            stage,
            way.label,
            milliseconds,
            ratios={"share of the matrix rate": count / milliseconds * 1000 / session.facts["flops"]},
            note=note,
        )
        networks.times[way] = milliseconds
        if session.on_gpu:
            own, _ = _timed(session, networks, networks.loop_of(networks.nothing()))
            row.ratios["share outside of the network"] = own / milliseconds
            session.write()


def _timed(session: Session, networks: Networks, loop: Any) -> tuple[float, str]:
    """Milliseconds of a step in a run of all, and a note on the run."""
    from hoirt import schedules

    table = schedules.build(SCHEDULER, STEPS, guidance=GUIDANCE)
    request = networks.request(table)
    results: list[Any] = []

    def once() -> None:
        results[:] = [loop.run(table, **request)]

    milliseconds = session.measure(once, max(3, session.rounds // 2)) / STEPS
    finite = math.isfinite(float(torch.from_dlpack(results[0].latents).float().sum()))
    note = f"{results[0].graphs} of {STEPS} steps from graphs {results[0].graph_reason}".rstrip()
    return milliseconds, note if finite else f"WRONG: not finite; {note}"
