"""MeshGraphormer for hands as the `mesh` network of a pack: image -> vertices and weak-perspective camera."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .encoder import EncoderBlock
from .hrnet import HRNet, HRNetSize

IMAGE_SIDE = 224  # pixels of the input
VERTICES = 778  # of MANO
COARSE = 195  # vertices of the coarse mesh, which are tokens
JOINTS = 21

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Size:
    """Extents of the network; the defaults are the published ones, smaller ones are for tests."""

    backbone: HRNetSize = field(default_factory=HRNetSize)
    hidden: tuple[int, int, int] = (1024, 256, 64)  # channels inside of each encoder block
    between: tuple[int, int] = (512, 128)  # channels between the blocks
    camera: int = 150


class MeshGraphormer(nn.Module):
    """image (N, 3, 224, 224), RGB 0..1 -> vertices (N, 778, 3) metres, camera (N, 3) = s, tx, ty; float32.

    The image is the crop of a right hand; ImageNet's normalisation is inside. The axes of the vertices are
    the camera's: x right, y down, z away. Keys of the state dict are those of the published weights; the
    constants of the hand are buffers that are not part of it.

    template: (216, 3) metres, 21 joints and 195 coarse vertices about the wrist. adjacency: (195, 195), rows
    sum to 1.
    """

    def __init__(self, template: Tensor, adjacency: Tensor, size: Size | None = None) -> None:
        super().__init__()
        if template.shape != (JOINTS + COARSE, 3) or adjacency.shape != (COARSE, COARSE):
            raise ValueError(
                f"need a template ({JOINTS + COARSE}, 3) and an adjacency ({COARSE}, {COARSE}), "
                f"not {tuple(template.shape)} and {tuple(adjacency.shape)}"
            )
        size = size or Size()
        width = 3 + size.backbone.features
        self.backbone = HRNet(size.backbone)
        self.grid_feat_dim = nn.Linear(size.backbone.grid, width)
        first, second, third = size.hidden
        self.trans_encoder = nn.Sequential(
            EncoderBlock(width, first, size.between[0]),
            EncoderBlock(size.between[0], second, size.between[1]),
            EncoderBlock(size.between[1], third, 3, adjacency, JOINTS),
        )
        self.upsampling = nn.Linear(COARSE, VERTICES)
        self.cam_param_fc = nn.Linear(3, 1)
        self.cam_param_fc2 = nn.Linear(JOINTS + COARSE, size.camera)
        self.cam_param_fc3 = nn.Linear(size.camera, 3)
        for name, values in (("mean", _IMAGENET_MEAN), ("std", _IMAGENET_STD)):
            buffer = torch.tensor(values).reshape(1, 3, 1, 1)
            self.register_buffer(name, buffer, persistent=False)
        self.register_buffer("template", template, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        grid, features = self.backbone((image - self.mean) / self.std)
        hand = torch.cat(
            [
                self.template.expand(image.shape[0], -1, -1),
                features[:, None].expand(-1, JOINTS + COARSE, -1),
            ],
            dim=2,
        )
        tokens = torch.cat([hand, self.grid_feat_dim(grid.flatten(2).transpose(1, 2))], dim=1)
        points = self.trans_encoder(tokens)[:, : JOINTS + COARSE]
        vertices = self.upsampling(points[:, JOINTS:].transpose(1, 2)).transpose(1, 2)
        summary = self.cam_param_fc(points).transpose(1, 2)
        camera = self.cam_param_fc3(self.cam_param_fc2(summary))[:, 0]
        return vertices, camera
