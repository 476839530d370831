// One hand of 21 joints as 41 shapes in painting order: PAM's discs and ellipses, or OpenPose's lines and discs.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/raster/draw.h"

namespace hoirt::raster {

constexpr int hand_joints = 21;
constexpr int hand_limbs = 20;
constexpr int hand_shapes = hand_joints + hand_limbs;

struct HandStyle {
  bool lines = false;  // OpenPose: lines below, discs above; else PAM: discs below, ellipses above
  int joint_radius = 3;
  int thumb_half_width = 6, finger_half_width = 3;
  std::uint8_t joint_colours[hand_joints][3] = {};
  std::uint8_t limb_colours[hand_limbs][3] = {};
};

struct HandDrawing {
  const double* joints = nullptr;  // (frames, 21, 2), pixels; finite, within +-2^30
  const double* depth = nullptr;   // (frames, 21) or null; the wrist nearer than the little finger's tip turns limbs round
  HandStyle style;

  // A joint of PAM with the coordinate -1 is missing, and so is the hand.
  HOIRT_HD bool missing(std::int64_t frame) const {
    if (style.lines) return false;
    for (int i = 0; i < 2 * hand_joints; ++i) {
      if (joints[frame * 2 * hand_joints + i] == -1.0) return true;
    }
    return false;
  }

  HOIRT_HD const std::uint8_t* colour(std::int64_t frame, int order) const {
    return is_limb(order) ? style.limb_colours[limb_of(frame, order)] : style.joint_colours[joint_of(order)];
  }

  // Draws shape `order` of 0..40; later ones cover earlier ones.
  template <typename Sink>
  HOIRT_HD void operator()(std::int64_t frame, int order, Sink& sink) const {
    if (is_limb(order)) {
      const int limb = limb_of(frame, order);
      // Limb 4f leaves the wrist, the others follow their finger.
      const Point from = pixel(frame, limb % 4 == 0 ? 0 : limb), to = pixel(frame, limb + 1);
      if (style.lines) {
        if (shown(from) && shown(to)) draw_line(from, to, 2, sink);
      } else {
        draw_limb(from, to, limb < 4 ? style.thumb_half_width : style.finger_half_width, sink);
      }
    } else {
      const Point centre = pixel(frame, joint_of(order));
      if (!style.lines || shown(centre)) draw_disc(centre, style.joint_radius, sink);
    }
  }

 private:
  HOIRT_HD bool is_limb(int order) const { return style.lines ? order < hand_limbs : order >= hand_joints; }
  HOIRT_HD int joint_of(int order) const { return style.lines ? order - hand_limbs : order; }
  HOIRT_HD int limb_of(std::int64_t frame, int order) const {
    if (style.lines) return order;
    const double* z = depth ? depth + frame * hand_joints : nullptr;
    const bool reversed = z && z[0] < z[hand_joints - 1];
    return reversed ? hand_shapes - 1 - order : order - hand_joints;
  }

  HOIRT_HD Point pixel(std::int64_t frame, int joint) const {
    const double* p = joints + (frame * hand_joints + joint) * 2;
    return style.lines ? Point{static_cast<std::int64_t>(p[0]), static_cast<std::int64_t>(p[1])}
                       : Point{static_cast<std::int64_t>(std::rint(p[0])), static_cast<std::int64_t>(std::rint(p[1]))};
  }

  // OpenPose leaves out what touches row or column 0.
  HOIRT_HD static bool shown(const Point& p) { return p.x > 0 && p.y > 0; }

  template <typename Sink>
  HOIRT_HD static void draw_limb(const Point& from, const Point& to, int half_width, Sink& sink) {
    const auto dx = static_cast<double>(from.x - to.x), dy = static_cast<double>(from.y - to.y);
    const double length = std::sqrt(dx * dx + dy * dy);
    if (length <= 5 || length >= 150) return;
    const Point middle{(from.x + to.x) / 2, (from.y + to.y) / 2};
    const auto degrees = static_cast<int>(std::atan2(dy, dx) * (180.0 / 3.14159265358979323846));
    draw_ellipse(middle, static_cast<std::int64_t>(length / 2), half_width, degrees, sink);
  }
};

}  // namespace hoirt::raster
