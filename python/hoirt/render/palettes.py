"""Colour tables of the encoders, RGB uint8: inferno, ADE20K's classes, PAM's hands, OpenPose's rainbow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Three bytes a colour. "inferno" of matplotlib (CC0), 0..1 times 255 cut to a byte.
_INFERNO = """
    00000300000400000601000701010901010b02010e02021003021204031404031605041806041b07051d08061f090621
    0a07230b07260d08280e082a0f092d10092f120a32130a34140b36160b39170b3b190b3e1a0b401c0c431d0c451f0c47
    200c4a220b4c240b4e260b50270b52290b542b0a562d0a582e0a5a300a5c32095d34095f3509603709613909623b0964
    3c09653e0966400966410967430a68450a69460a69480b6a4a0b6a4b0c6b4d0c6b4f0d6c500d6c520e6c530e6d550f6d
    570f6d58106d5a116d5b116e5d126e5f126e60136e62146e63146e65156e66156e68166e6a176e6b176e6d186e6e186e
    70196e72196d731a6d751b6d761b6d781c6d7a1c6d7b1d6c7d1d6c7e1e6c801f6b811f6b83206b85206a86216a88216a
    8922698b22698d23698e24689024689125679325679526669626669827659928649b28649c29639e2963a02a62a12b61
    a32b61a42c60a62c5fa72d5fa92e5eab2e5dac2f5cae305baf315bb1315ab23259b43358b53357b73456b83556ba3655
    bb3754bd3753be3852bf3951c13a50c23b4fc43c4ec53d4dc73e4cc83e4bc93f4acb4049cc4148cd4247cf4446d04544
    d14643d24742d44841d54940d64a3fd74b3ed94d3dda4e3bdb4f3adc5039dd5238de5337df5436e05634e25733e35832
    e45a31e55b30e65c2ee65e2de75f2ce8612be9622aea6428eb6527ec6726ed6825ed6a23ee6c22ef6d21f06f1ff0701e
    f1721df2741cf2751af37719f37918f47a16f57c15f57e14f68012f68111f78310f7850ef8870df8880cf88a0bf98c09
    f98e08f99008fa9107fa9306fa9506fa9706fb9906fb9b06fb9d06fb9e07fba007fba208fba40afba60bfba80dfbaa0e
    fbac10fbae12fbb014fbb116fbb318fbb51afbb71cfbb91efabb21fabd23fabf25fac128f9c32af9c52cf9c72ff8c931
    f8cb34f8cd37f7cf3af7d13cf6d33ff6d542f5d745f5d948f4db4bf4dc4ff3de52f3e056f3e259f2e45df2e660f1e864
    f1e968f1eb6cf1ed70f1ee74f1f079f1f27df2f381f2f485f3f689f4f78df5f891f6fa95f7fb99f9fc9dfafda0fcfea4
"""
# The 150 class colours of the ADE20K scene parsing data, and black.
_ADE20K = """
    787878b4787806e6e650323204c8037878508c8c8ccc05ffe6e6e604fa07e005ffebff0796053d78784608ff33ff0652
    8fff8cccff04ff3307cc46030066c83de6faff06330b66ffff0747ff09e00907e6dcdcdcff095c7009ff08ffd607ffe0
    ffb8060aff47ff290a07ffffe0ff086608ffff3d06ffc207ff7a0800ff14ff0829ff05990633ffeb0cffa0961400a3ff
    8c8c8cfa0a0f14ff001fff00ff1f00ffe00099ff000000ffff470000ebff00adff1f00ff0bc8c8ff520000fff5003dff
    00ff7000ff85ff0000ffa300ff6600c2ff00008fff33ff000052ff00ff2900ffad0a00ffadff0000ff99ff5c00ff00ff
    ff00f5ff0066ffad00ff0014ffb8b8001fff00ff3d0047ffff00cc00ffc200ff52000aff0070ff3300ff00c2ff007aff
    00ffa3ff990000ff0aff70008fff005200ffa3ff00ffeb0008b8aa8500ff00ff5cb800ffff001f00b8ff00d6ffff0070
    5cff0000e0ff70e0ff46b8a0a300ff9900ff47ff00ff00a3ffcc00ff008f00ffeb85ff00ff00ebf500ffff007afff500
    0abed4d6ff0000ccff1400ffffff000099ff0029ff00ffcc2900ff29ff00ad00ff00f5ff4700ff7a00ff00ffb8005cff
    b8ff000085ffffd60019c2c266ff005c00ff000000
"""

# hsv(i / 20, 1, 1) of limb i as OpenCV rounds it; which halves go up is up to the last bit, so: numbers.
_RAINBOW = """
    ff0000ff4d00ff9900ffe500ccff0080ff0033ff0000ff1900ff6600ffb300ffff00b2ff0066ff0019ff3300ff8000ff
    cc00ffff00e6ff0099ff004d
"""

# Of PAM's keypoints, a colour for each finger; the sixth is the last joint's.
_PAM_FINGERS = ((139, 53, 255), (0, 56, 255), (43, 140, 237), (37, 168, 36), (147, 147, 0), (70, 17, 145))
_PAM_RIGHT_FINGERS = (
    (255, 0, 0),
    (255, 85, 85),
    (255, 170, 170),
    (255, 255, 255),
    (200, 200, 200),
    (150, 150, 150),
)


def inferno() -> NDArray[np.uint8]:
    """The perceptual map from black over red to light yellow, uint8 (256, 3)."""
    return _table(_INFERNO)


def ade20k() -> NDArray[np.uint8]:
    """The colours of the 150 ADE20K classes and black as the last, uint8 (151, 3)."""
    return _table(_ADE20K)


def pam_hand(*, right: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """PAM's colours of the 21 joints (21, 3) and 20 limbs (20, 3); `right` is OakInk2's right hand.

    Entry i has the colour of finger i // 4, brighter by 35 (i % 4) per channel and saturated, as OpenCV does.
    """
    fingers = np.array(_PAM_RIGHT_FINGERS if right else _PAM_FINGERS)
    index = np.arange(21)
    joints = np.minimum(fingers[index // 4] + 35 * (index % 4)[:, None], 255).astype(np.uint8)
    return joints, joints[:20].copy()


def openpose_hand() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """ControlNet's colours of the 21 joints (21, 3), all blue, and 20 limbs (20, 3), once round the hues."""
    return np.tile(np.array([0, 0, 255], np.uint8), (21, 1)), _table(_RAINBOW)


def _table(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, 3).copy()
