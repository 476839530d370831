// Makes normalisation layers give the same bits for every number of threads.
#pragma once

#include <openvino/core/model.hpp>

namespace hoirt::openvino {

// OpenVINO's CPU kernels add up a normalisation over channels AND space as one partial sum per thread, so the rounding
// depends on the thread count. Over a single flattened axis one thread adds up each row. This rewrites every
// normalisation of the first kind (group normalisation included) into one of the second.
// Convolutions, products, reductions and attention gave equal bits for 1 to 16 threads, with one exception that stays:
// attention with a single query over thousands of keys and more threads than heads, which no denoiser has.
void make_norms_stable(ov::Model& model);

}  // namespace hoirt::openvino
