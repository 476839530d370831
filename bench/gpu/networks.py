"""Full-size steps with seeded random weights, as hoirt runs them and as its peers do, in one process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.gpu import peers
from bench.gpu.models import SD15, SDXL, TINY, TINY_SDXL, Config, Step
from bench.gpu.packages import Float32Ports, compiled, enqueue
from bench.gpu.session import Session

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
        self._network: Any = None
        self._compiled: Any = None

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

    def run_package(self) -> Callable[[list[Tensor]], list[Tensor]]:
        """The step compiled ahead of time; made once, then kept in the work folder."""
        session, job = self.session, self.job
        path = session.work / f"{job.stage}-{'tiny' if session.tiny else 'full'}-{torch.__version__}.pt2"
        if session.tiny:
            path.unlink(missing_ok=True)
        run: Callable[[list[Tensor]], list[Tensor]] = compiled(
            Float32Ports(self.step), list(self.ready.values()), path, autotune=session.autotune
        )
        return run

    def compiled(self) -> Any:
        """The whole step by torch.compile, made once."""
        if self._compiled is None:
            self._compiled = peers.compiled_step(self, self.whole)
        return self._compiled

    def network(self) -> Any:
        """The step as a network of hoirt."""
        if self._network is None:
            from hoirt import _core

            run = self.run_package()
            inputs = [_core.Port(name, [-1, *value.shape[1:]]) for name, value in self.ready.items()]
            output = [_core.Port("prediction", [-1, *self.inputs[0].shape[1:]])]
            device = self.session.device
            fn = enqueue(lambda *values: run(list(values))[0], list(self.ready), "prediction", device)
            self._network = _core.DeviceNetwork(inputs, output, fn, device=device)
        return self._network

    def loop(self) -> Any:
        """hoirt's denoise loop on the device."""
        from hoirt import _core
        from hoirt.backends.devices import open_device

        control = "control_scale" if self.job.control else None
        device = open_device(self.session.device)
        return _core.DenoiseLoop(self.network(), timestep=None, control=control, device=device)

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


def flops(job: Job) -> int:
    """Operations of one Whole, 2 for each multiply-add, counted by torch without computing."""
    from bench.flops import counted_by_torch

    whole = Whole(make(job, "meta", torch.float32))
    return counted_by_torch(whole, *whole_inputs(job, "meta", torch.float32))[0]


def run(session: Session, stage: str) -> None:
    job = job_of(stage, session.tiny)
    with session.attempt(stage, "networks"):
        networks = Networks(session, job)
        session.shared[stage] = networks
        count = flops(job)
        session.add(
            stage, "work", note=f"{count / 1e12:.3f} TFLOP a step, batch {job.batch}, latents {job.side}"
        )
    if stage not in session.shared:
        return
    with session.attempt(stage, "hoirt"):
        _measure_hoirt(session, stage, networks, count)
    kinds = [torch.bfloat16, torch.float16] if session.on_gpu else [torch.float32]
    for kind in kinds:
        label = f"torch eager {str(kind).removeprefix('torch.')}"
        with session.attempt(stage, label), torch.inference_mode():
            networks.step.to(kind)
            whole = networks.whole
            given = [value if i == 1 else value.to(kind) for i, value in enumerate(networks.inputs)]
            session.add(stage, label, session.measure(lambda whole=whole, given=given: whole(*given)))
        networks.step.to(networks.kind)
    for name, peer in peers.PEERS.items():
        with session.attempt(stage, name):
            call, reason = peer(networks, networks.whole)
            if call is None:
                session.add(stage, name, note=f"not measured: {reason}")
            else:
                session.add(stage, name, session.measure(call))
    session.ratios(stage, "hoirt")


def _measure_hoirt(session: Session, stage: str, networks: Networks, count: int) -> None:
    """The loop's time by steps, and what of it is not the network."""
    from hoirt import schedules

    table = schedules.build(SCHEDULER, STEPS, guidance=GUIDANCE)
    loop, request = networks.loop(), networks.request(table)
    results: list[Any] = []

    def once() -> None:
        results[:] = [loop.run(table, **request)]

    milliseconds = session.measure(once, max(3, session.rounds // 2)) / STEPS
    ratios = {"share of the matrix rate": count / milliseconds * 1000 / session.facts["flops"]}
    result = results[0]
    finite = math.isfinite(float(torch.from_dlpack(result.latents).float().sum()))
    note = f"{result.graphs} of {STEPS} steps from graphs {result.graph_reason}"
    row = session.add(
        stage, "hoirt", milliseconds, ratios=ratios, note=note if finite else f"WRONG: not finite; {note}"
    )
    if session.on_gpu:
        alone = session.measure(_replayed(networks))
        session.add(stage, "hoirt's network alone", alone, note="replays of one graph")
        row.ratios["share outside of the network"] = max(0.0, 1 - alone / milliseconds)
        session.write()


def _replayed(networks: Networks) -> Callable[[], Any]:
    """The package in a CUDA graph of torch's."""
    run, values = networks.run_package(), list(networks.ready.values())
    side = torch.cuda.Stream()
    with torch.inference_mode(), torch.cuda.stream(side):
        for _ in range(2):
            run(list(values))
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        run(list(values))
    return graph.replay
