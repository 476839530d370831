"""The networks of handrefiner-tiny: diffusers and transformers classes at small width, and two small CNNs."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from hoirt.hands.model import HandModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

CROP = 128  # pixels; working resolution of the hand crop
FACTOR = 4  # pixels per latent
TOKENS = 24  # length of a tokenised prompt
TEXT_WIDTH = 64
LEVELS = (64, 96, 128)
HINT_LEVELS = (16, 32, 48)  # two strides: hint and latents have the same size
CAMERA_SCALE = 5.5  # a hand that fills 1/1.3 of the crop; the network predicts deviations from it
TRAINED_WITH = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
}
SCHEDULER = {  # the pack's default sampler
    "_class_name": "DPMSolverMultistepScheduler",
    **TRAINED_WITH,
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
}


def make_vae() -> AutoencoderKL:
    """AutoencoderKL with 4 latent channels at a quarter of the resolution."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 48, 64),
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=CROP,
        mid_block_add_attention=False,
    )


def _shared(levels: tuple[int, ...]) -> dict[str, object]:
    # Attention only at the lowest resolution, where it costs little.
    return {
        "down_block_types": ["DownBlock2D"] * (len(levels) - 1) + ["CrossAttnDownBlock2D"],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "block_out_channels": levels,
        "layers_per_block": 1,
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 32,
        "norm_num_groups": 16,
    }


def make_unet(levels: tuple[int, ...] = LEVELS) -> UNet2DConditionModel:
    """The 9-channel inpainting UNet: noisy latents, mask, latents of the masked picture."""
    return UNet2DConditionModel(
        sample_size=CROP // FACTOR,
        in_channels=9,
        out_channels=4,
        up_block_types=["CrossAttnUpBlock2D"] + ["UpBlock2D"] * (len(levels) - 1),
        **_shared(levels),
    )


def make_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet on rendered hand depth; it sees the noisy latents only, as HandRefiner's does."""
    levels = tuple(unet.config["block_out_channels"])
    net = ControlNetModel(in_channels=4, conditioning_embedding_out_channels=HINT_LEVELS, **_shared(levels))
    # Start from the UNet's encoder, as ControlNet does; the first convolution has other inputs.
    for name in ("time_embedding", "down_blocks", "mid_block"):
        getattr(net, name).load_state_dict(getattr(unet, name).state_dict())
    net.conv_in.weight.data.copy_(unet.conv_in.weight.data[:, :4])
    net.conv_in.bias.data.copy_(unet.conv_in.bias.data)
    return net


def make_text_encoder(vocabulary: int, *, bos: int, eos: int, pad: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            projection_dim=TEXT_WIDTH,
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=pad,
        )
    )


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels, channels),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x + self.body(x))


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs, 2), _Residual(outputs))


class Detector(nn.Module):
    """Finds hands: picture (N, 3, 192, 192) in 0..1 to score (N, 24, 24), center (N, 2, 24, 24), side, left.

    A cell of 8 pixels answers for the hand whose centre lies in it; side is log(side of square box / 192).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 16, 2), _stage(16, 32))
        self.fine = _stage(32, 64)  # 24 x 24
        self.coarse = nn.Sequential(_stage(64, 96), _stage(96, 128))  # 6 x 6: sees the whole arm
        self.merge = nn.Sequential(_conv(64 + 128, 64), _Residual(64))
        self.head = nn.Conv2d(64, 5, 1)
        nn.init.constant_(self.head.bias[0], -4.0)

    def logits(self, image: Tensor) -> Tensor:
        """(N, 5, 24, 24): score logit, centre x and y logits, side, left logit."""
        fine = self.fine(self.stem(image * 2.0 - 1.0))
        coarse = nn.functional.interpolate(
            self.coarse(fine), scale_factor=4.0, mode="bilinear", align_corners=False
        )
        return self.head(self.merge(torch.cat([fine, coarse], dim=1)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        out = self.logits(image)
        return torch.sigmoid(out[:, 0]), torch.sigmoid(out[:, 1:3]), out[:, 3], torch.sigmoid(out[:, 4])


def rotations_from_six(six: Tensor) -> Tensor:
    """(..., 6) to rotation matrices (..., 3, 3) by Gram-Schmidt (Zhou et al. 2019)."""
    a, b = six[..., :3], six[..., 3:]
    x = a / torch.sqrt((a * a).sum(-1, keepdim=True) + 1e-8)
    b = b - (x * b).sum(-1, keepdim=True) * x
    y = b / torch.sqrt((b * b).sum(-1, keepdim=True) + 1e-8)
    z = torch.stack(
        [
            x[..., 1] * y[..., 2] - x[..., 2] * y[..., 1],
            x[..., 2] * y[..., 0] - x[..., 0] * y[..., 2],
            x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0],
        ],
        dim=-1,
    )
    return torch.stack([x, y, z], dim=-1)


class HandLayer(nn.Module):
    """The parametric hand, differentiable: rotations (N, 16, 3, 3), shape (N, 10) to vertices, keypoints."""

    def __init__(self) -> None:
        super().__init__()
        model = HandModel.load("right")
        for name in ("template", "weights", "shape_directions", "joint_regressor", "keypoint_regressor"):
            self.register_buffer(name, torch.from_numpy(getattr(model, name).copy()), persistent=False)
        self.parents = [int(parent) for parent in model.parents]

    def forward(self, rotations: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
        rest = self.template + torch.einsum("vck,nk->nvc", self.shape_directions, shape)
        joints = torch.einsum("jv,nvc->njc", self.joint_regressor, rest)
        turn, place = [rotations[:, 0]], [joints[:, 0]]
        for j in range(1, 16):
            parent = self.parents[j]
            turn.append(turn[parent] @ rotations[:, j])
            bone = (joints[:, j] - joints[:, parent]).unsqueeze(-1)
            place.append(place[parent] + (turn[parent] @ bone).squeeze(-1))
        turns, places = torch.stack(turn, 1), torch.stack(place, 1)
        offset = places - (turns @ joints.unsqueeze(-1)).squeeze(-1)
        blend = torch.einsum("vj,njab->nvab", self.weights, turns)
        vertices = (blend @ rest.unsqueeze(-1)).squeeze(-1) + torch.einsum(
            "vj,njc->nvc", self.weights, offset
        )
        return vertices, torch.einsum("kv,nvc->nkc", self.keypoint_regressor, vertices)


class MeshRegressor(nn.Module):
    """A crop (N, 3, 128, 128) in 0..1 of a right (or mirrored left) hand to mesh, camera and hand region.

    vertices (N, V, 3) in metres, camera axes; camera (N, 3) = s, tx, ty as MeshGraphormer's; region
    (N, 128, 128) probability that a pixel shows hand, malformed parts included.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 24, 2), _stage(24, 48))  # 32 x 32
        self.middle = _stage(48, 96)  # 16 x 16
        self.deep = _stage(96, 144)  # 8 x 8
        self.regression = nn.Sequential(
            _conv(144, 96, 2),
            nn.Flatten(),
            nn.Linear(96 * 16, 192),
            nn.SiLU(),
            nn.Linear(192, 16 * 6 + 10 + 3),
        )
        self.up = nn.Sequential(_conv(144 + 96, 64))
        self.region_head = nn.Sequential(_conv(64 + 48, 32), nn.Conv2d(32, 1, 3, 1, 1))
        self.hand = HandLayer()
        last = self.regression[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.005)
        with torch.no_grad():
            last.bias.zero_()
            last.bias[:96] = torch.eye(3)[:, :2].T.reshape(-1).repeat(16)

    def parameters_of(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rotations (N, 16, 3, 3), shape (N, 10), camera (N, 3) and region logits (N, 32, 32)."""
        shallow = self.stem(image * 2.0 - 1.0)
        middle = self.middle(shallow)
        deep = self.deep(middle)
        out = self.regression(deep)
        rotations = rotations_from_six(out[:, :96].reshape(-1, 16, 6))
        camera = torch.stack(
            [CAMERA_SCALE * torch.exp(out[:, 106]), 0.1 * out[:, 107], 0.1 * out[:, 108]], dim=1
        )
        grow = nn.functional.interpolate(deep, scale_factor=2.0, mode="bilinear", align_corners=False)
        grow = self.up(torch.cat([grow, middle], dim=1))
        grow = nn.functional.interpolate(grow, scale_factor=2.0, mode="bilinear", align_corners=False)
        return rotations, out[:, 96:106], camera, self.region_head(torch.cat([grow, shallow], dim=1))[:, 0]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rotations, shape, camera, region = self.parameters_of(image)
        vertices, _ = self.hand(rotations, shape)
        region = nn.functional.interpolate(
            region.unsqueeze(1), size=image.shape[2:], mode="bilinear", align_corners=False
        )
        return vertices, camera, torch.sigmoid(region[:, 0])


def project(points: Tensor, camera: Tensor, size: int = CROP) -> Tensor:
    """(N, K, 3) metres to (N, K, 2) crop pixels; HandRefiner's camera: focal 1000 L / 224, centre L / 2."""
    focal = 1000.0 * size / 224.0
    depth = points[..., 2] + (2.0 * focal / (size * camera[:, 0] + 1e-9))[:, None]
    return (points[..., :2] + camera[:, None, 1:]) / depth.unsqueeze(-1) * focal + size / 2.0
