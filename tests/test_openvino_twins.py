"""Batches whose halves begin alike, as guidance makes them: computed once where equal, with the same bits."""

import hoirt.backends
import numpy as np
import pytest
import torch
from torch import nn

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


class Conditioned(nn.Module):
    """Convolutions and attention of the picture, then the condition, as in the blocks of Stable Diffusion."""

    def __init__(self, layers=8, fixed_batch=False):
        super().__init__()
        self.fixed_batch = fixed_batch
        self.before = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(layers))
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.condition = nn.Linear(4, 8)
        self.after = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x, c, s):
        batch, channels, height, width = x.shape
        for conv in self.before:
            x = torch.relu(conv(x))
        tokens = x.flatten(2).transpose(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(self.q(tokens), self.k(tokens), self.v(tokens))
        tokens = tokens + (mixed.reshape(2, -1, channels) if self.fixed_batch else mixed)
        x = tokens.transpose(1, 2).reshape(batch, channels, height, width)
        y = torch.relu(x + self.condition(c)[:, :, None, None])
        return self.after(torch.cat([x, y], 1)[:, 4:12]) * s[:, None, None, None], x


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return exported(Conditioned(), tmp_path_factory.mktemp("twins") / "net.onnx")


def exported(module, path):
    torch.manual_seed(0)
    free = {0: "n", 2: "h", 3: "w"}
    torch.onnx.export(
        module.eval(),
        (torch.zeros(2, 8, 6, 4), torch.zeros(2, 4), torch.zeros(2)),
        str(path),
        input_names=["x", "c", "s"],
        output_names=["y", "z"],
        dynamic_axes={"x": free, "c": {0: "n"}, "s": {0: "n"}, "y": free, "z": free},
        opset_version=18,
        dynamo=False,
    )
    return path, module


def opened(path, cache, precision="fp32"):
    return hoirt.backends.load("openvino").open(
        str(path), cache_path=str(cache), precision=precision, threads=2
    )


def programs(folder):
    return len(list(folder.glob("cache.*")))


@pytest.mark.parametrize("items", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_equal_halves_give_the_same_bits(tmp_path, net, items, precision):
    path, module = net
    network = opened(path, tmp_path / "cache", precision)
    x, c, s = normal(items, 8, 6, 5), normal(2 * items, 4), normal(2 * items)
    twice = np.concatenate([x, x])
    shared = network.run({"x": twice, "c": c, "s": s})
    other = twice.copy()
    other[-1, 0, 0, 0] = 9  # the last item differs, so nothing is shared
    plain = network.run({"x": other, "c": c, "s": s})
    assert programs(tmp_path) == 2
    with torch.inference_mode():
        expected = module(*map(torch.from_numpy, (twice, c, s)))
    for name, wanted in zip("yz", expected, strict=True):
        assert np.array_equal(shared[name][:-1], plain[name][:-1])
        assert np.abs(shared[name] - wanted.numpy()).max() < (1e-4 if precision == "fp32" else 0.1)


def test_a_program_from_the_cache(tmp_path, net):
    path, _ = net
    x, c, s = normal(1, 8, 6, 5), normal(2, 4), normal(2)
    inputs = {"x": np.concatenate([x, x]), "c": c, "s": s}
    first = opened(path, tmp_path / "cache").run(inputs)
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    again = opened(path, tmp_path / "cache").run(inputs)
    assert all(np.array_equal(first[name], again[name]) for name in "yz")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == files


@pytest.mark.parametrize("equal", ["xcs", "xc", "xs", "cs", "c", ""])
def test_whichever_inputs_are_equal(tmp_path, net, equal):
    path, module = net
    network = opened(path, tmp_path / "cache")
    inputs = {}
    for name, shape in (("x", (2, 8, 5, 5)), ("c", (2, 4)), ("s", (2,))):
        half = normal(*shape)
        inputs[name] = np.concatenate([half, half if name in equal else normal(*shape)])
    found = network.run(inputs)
    with torch.inference_mode():
        expected = module(*map(torch.from_numpy, inputs.values()))
    for name, wanted in zip("yz", expected, strict=True):
        assert np.abs(found[name] - wanted.numpy()).max() < 1e-4


def test_odd_batches_and_few_layers_are_run_as_they_are(tmp_path, net):
    path, _ = net
    for items in (1, 3):
        x = np.repeat(normal(1, 8, 5, 5), items, 0)
        network = opened(path, tmp_path / f"odd{items}")
        network.run({"x": x, "c": normal(items, 4), "s": normal(items)})
        assert len(list(tmp_path.glob(f"odd{items}.*"))) == 1
    small, _ = exported(Conditioned(layers=1), tmp_path / "small.onnx")
    network = opened(small, tmp_path / "cache")
    x, c, s = np.repeat(normal(1, 8, 5, 5), 2, 0), normal(2, 4), normal(2)
    network.run({"x": x, "c": c, "s": s})
    network.run({"x": normal(2, 8, 5, 5), "c": c, "s": s})
    assert programs(tmp_path) == 1


def test_shapes_that_do_not_fit_are_still_an_input_error(tmp_path, net):
    path, _ = net
    network = opened(path, tmp_path / "cache")
    x = np.repeat(normal(1, 8, 5, 5), 2, 0)
    with pytest.raises(hoirt.InputError):
        network.run({"x": x[:, :3], "c": normal(2, 4), "s": normal(2)})


def test_a_network_that_names_its_batch_is_run_as_it_is(tmp_path):
    path, module = exported(Conditioned(fixed_batch=True), tmp_path / "net.onnx")
    x, c, s = np.repeat(normal(1, 8, 5, 5), 2, 0), normal(2, 4), normal(2)
    found = opened(path, tmp_path / "cache").run({"x": x, "c": c, "s": s})["y"]
    with torch.inference_mode():
        expected = module(*map(torch.from_numpy, (x, c, s)))[0].numpy()
    assert np.abs(found - expected).max() < 1e-4


def test_items_that_do_not_lie_one_after_the_other_are_not_shared(tmp_path):
    """Twice as many numbers first, but of all items in turns: half of them, repeated, would be others."""

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(8))

        def forward(self, x, c):
            for layer in self.layers:
                x = torch.tanh(layer(x))
            return x.transpose(0, 1).reshape(-1) * c.transpose(0, 1).reshape(-1)

    torch.manual_seed(0)
    module, path = Turned().eval(), tmp_path / "net.onnx"
    torch.onnx.export(
        module,
        (torch.zeros(2, 6), torch.zeros(2, 6)),
        str(path),
        input_names=["x", "c"],
        output_names=["y"],
        dynamic_axes={"x": {0: "n"}, "c": {0: "n"}, "y": {0: "m"}},
        opset_version=18,
        dynamo=False,
    )
    x, c = np.concatenate([normal(2, 6)] * 2), normal(4, 6)
    found = opened(path, tmp_path / "cache").run({"x": x, "c": c})["y"]
    with torch.inference_mode():
        expected = module(torch.from_numpy(x), torch.from_numpy(c)).numpy()
    assert np.abs(found - expected).max() < 1e-4
