// Convolves before it enlarges: less than half the work of a convolution on a picture of doubled pixels.
#pragma once

#include <openvino/core/model.hpp>

namespace hoirt::openvino {

// A 3x3 convolution of a picture whose pixels were doubled sees only 2x2 different pixels. Its output at even and odd
// rows and columns is that of four 2x2 convolutions of the small picture, whose kernels are sums of the given one's:
// 16 products a pixel of the small picture instead of 36. Float weights only; quantised ones would leave their grid.
void shrink_upsampled_convolutions(ov::Model& model);

}  // namespace hoirt::openvino
