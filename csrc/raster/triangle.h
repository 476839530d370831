// Triangle set-up: which pixels a triangle covers, and its inverse depth at each of them.
//
// An edge is a half-plane a column + b row + c >= least over pixel indices. Between two vertices on the screen it is
// made of integers that a double holds exactly. Where an end lies before the near plane or outside of the guard band,
// it is the product of the two homogeneous points (Olano and Greer 1997), which needs no clipping; swapping its ends
// negates it bit by bit. Either way, two triangles that share an edge divide the pixels along it without gap or overlap:
// by the top-left rule, a pixel centre on the edge belongs to the side for which it is a left or a top edge.
#pragma once

#include <cfloat>
#include <cstdint>

#include "csrc/raster/camera.h"

namespace hoirt::raster {

struct Edge {
  double a, b, c;
  double least;  // 0 if a centre on the edge is inside, else the smallest number above it

  HOIRT_HD double in_row(std::int32_t row) const { return b * row + c; }
  HOIRT_HD bool inside(std::int32_t column, double base) const { return a * column + base >= least; }
};

// 1 / z over the picture, kept inside what the vertices have: a sliver seen edge-on has any slope.
struct InverseDepth {
  double x, y, c, low, high;

  HOIRT_HD double in_row(std::int32_t row) const { return y * row + c; }
  HOIRT_HD float at(std::int32_t column, double base) const {
    return static_cast<float>(least(most(x * column + base, low), high));
  }
};

struct Triangle {
  Edge edges[4];
  std::int32_t edge_count;                // 4 where the near plane cuts
  std::int32_t left, right, top, bottom;  // pixels that may be covered, inclusive
  InverseDepth inverse_depth;
};

struct Corners {
  Vec3 position[3];
  ScreenPoint point[3];
};

HOIRT_HD inline std::int64_t area_of(const ScreenPoint& a, const ScreenPoint& b, const ScreenPoint& c) {
  return static_cast<std::int64_t>(b.x - a.x) * (c.y - a.y) - static_cast<std::int64_t>(b.y - a.y) * (c.x - a.x);
}

// y points down: the inside is right of a left edge and below a top edge.
template <typename T>
HOIRT_HD inline bool is_top_left(T a, T b) {
  return a > 0 || (a == 0 && b > 0);
}

// `sign` is 1, or -1 for a triangle that is wound the other way.
HOIRT_HD inline Edge screen_edge(const ScreenPoint& from, const ScreenPoint& to, int sign) {
  const std::int64_t a = sign * static_cast<std::int64_t>(from.y - to.y);
  const std::int64_t b = sign * static_cast<std::int64_t>(to.x - from.x);
  std::int64_t c = a * (subpixel / 2 - from.x) + b * (subpixel / 2 - from.y);
  if (!is_top_left(a, b)) c -= 1;
  // At pixel centres all else is a multiple of `subpixel`, so only the floor of c / subpixel counts.
  return {static_cast<double>(a), static_cast<double>(b), static_cast<double>(c >> subpixel_bits), 0.0};
}

HOIRT_HD inline Edge homogeneous_edge(const Vec3& from, const Vec3& to, double sign) {
  const Vec3 line = cross(from, to);
  const double a = sign * line.x, b = sign * line.y;
  return {a, b, sign * (line.z + (0.5 * line.x + 0.5 * line.y)), is_top_left(a, b) ? 0.0 : DBL_MIN};
}

HOIRT_HD inline InverseDepth inverse_depth_of(const Camera& camera, const Vec3* position, double near) {
  const Vec3 normal = cross(position[1] - position[0], position[2] - position[0]);
  const double distance = dot(normal, position[0]);
  const double nearest = least(least(position[0].z, position[1].z), position[2].z);
  const double deepest = most(most(position[0].z, position[1].z), position[2].z);
  InverseDepth out{0.0, 0.0, 0.0, 1.0 / deepest, 1.0 / most(nearest, near)};
  const double scale = 1.0 / distance;
  out.x = normal.x * scale / camera.fx;
  out.y = normal.y * scale / camera.fy;
  out.c = normal.z * scale + (0.5 - camera.cx) * out.x + (0.5 - camera.cy) * out.y;
  const double sum = out.x + out.y + out.c;
  if (!(sum >= -DBL_MAX && sum <= DBL_MAX)) out.x = out.y = 0.0, out.c = out.high;  // seen exactly edge-on
  return out;
}

// Rows and columns whose centres lie in the box of the three points, inside [0, width) x [first_row, end_row).
HOIRT_HD inline bool bound(const ScreenPoint* p, std::int32_t width, std::int32_t first_row, std::int32_t end_row,
                           Triangle& out) {
  const auto low = [](std::int32_t a, std::int32_t b) { return a < b ? a : b; };
  const auto high = [](std::int32_t a, std::int32_t b) { return a > b ? a : b; };
  constexpr std::int32_t half = subpixel / 2;
  out.top = high((low(low(p[0].y, p[1].y), p[2].y) + half - 1) >> subpixel_bits, first_row);
  out.bottom = low((high(high(p[0].y, p[1].y), p[2].y) - half) >> subpixel_bits, end_row - 1);
  out.left = high((low(low(p[0].x, p[1].x), p[2].x) + half - 1) >> subpixel_bits, 0);
  out.right = low((high(high(p[0].x, p[1].x), p[2].x) - half) >> subpixel_bits, width - 1);
  return out.top <= out.bottom && out.left <= out.right;
}

// All three corners are on the screen. False if no pixel can be covered.
HOIRT_HD inline bool set_up_on_screen(const Corners& corners, const View& view, std::int32_t first_row,
                                      std::int32_t end_row, Triangle& out) {
  const ScreenPoint* p = corners.point;
  if (!bound(p, view.width, first_row, end_row, out)) return false;
  const std::int64_t area = area_of(p[0], p[1], p[2]);
  if (area == 0 || (view.cull_back_faces && area > 0)) return false;
  const int sign = area > 0 ? 1 : -1;
  out.edges[0] = screen_edge(p[0], p[1], sign);
  out.edges[1] = screen_edge(p[1], p[2], sign);
  out.edges[2] = screen_edge(p[2], p[0], sign);
  out.edge_count = 3;
  return true;
}

// A box for what lies beyond the near plane; the whole picture where rounding could make it too small.
HOIRT_HD inline void bound_clipped(const Corners& corners, const Camera& camera, const View& view, Triangle& out) {
  double low_x = DBL_MAX, low_y = DBL_MAX, high_x = -DBL_MAX, high_y = -DBL_MAX, largest = 0.0;
  const auto include = [&](double x, double y, double z) {
    const double u = camera.fx * x / z + camera.cx, v = camera.fy * y / z + camera.cy;
    low_x = least(low_x, u), high_x = most(high_x, u);
    low_y = least(low_y, v), high_y = most(high_y, v);
  };
  for (int i = 0; i < 3; ++i) {
    const Vec3& a = corners.position[i];
    const Vec3& b = corners.position[(i + 1) % 3];
    for (const double value : {a.x, a.y, a.z}) largest = most(largest, value < 0 ? -value : value);
    if (a.z >= view.near) include(a.x, a.y, a.z);
    if ((a.z >= view.near) != (b.z >= view.near)) {
      const double t = (view.near - a.z) / (b.z - a.z);
      include(a.x + t * (b.x - a.x), a.y + t * (b.y - a.y), view.near);
    }
  }
  if (!(largest * most(camera.fx, camera.fy) / view.near < 1e11)) return;  // errors of 1e-16 stay below 1e-5 pixel
  const auto inward = [](double value, double low, double high) { return most(low, least(value, high)); };
  out.left = static_cast<std::int32_t>(inward(low_x - 1.5, out.left, out.right + 1.0));
  out.right = static_cast<std::int32_t>(inward(high_x + 0.5, out.left - 1.0, out.right));
  out.top = static_cast<std::int32_t>(inward(low_y - 1.5, out.top, out.bottom + 1.0));
  out.bottom = static_cast<std::int32_t>(inward(high_y + 0.5, out.top - 1.0, out.bottom));
}

// Some corner is off the screen. False if no pixel can be covered. Needs inverse_depth_of first.
HOIRT_HD inline bool set_up_clipped(const Corners& corners, const Camera& camera, const View& view,
                                    std::int32_t first_row, std::int32_t end_row, Triangle& out) {
  const Vec3* position = corners.position;
  const double deepest = most(most(position[0].z, position[1].z), position[2].z);
  if (!(deepest >= view.near)) return false;
  out.left = 0, out.right = view.width - 1, out.top = first_row, out.bottom = end_row - 1;
  bound_clipped(corners, camera, view, out);
  if (out.top > out.bottom || out.left > out.right) return false;
  Vec3 homogeneous[3];
  for (int i = 0; i < 3; ++i) {
    const Vec3& at = position[i];
    const ScreenPoint& point = corners.point[i];
    homogeneous[i] = point.x == off_screen
                         ? Vec3{camera.fx * at.x + camera.cx * at.z, camera.fy * at.y + camera.cy * at.z, at.z}
                         : Vec3{point.x * (1.0 / subpixel), point.y * (1.0 / subpixel), 1.0};
  }
  const double volume = dot(cross(homogeneous[0], homogeneous[1]), homogeneous[2]);
  if (!(volume > 0 || volume < 0) || (view.cull_back_faces && volume > 0)) return false;
  const int sign = volume > 0 ? 1 : -1;
  for (int i = 0; i < 3; ++i) {
    const int j = (i + 1) % 3;
    const bool shared = corners.point[i].x != off_screen && corners.point[j].x != off_screen;
    out.edges[i] = shared ? screen_edge(corners.point[i], corners.point[j], sign)
                          : homogeneous_edge(homogeneous[i], homogeneous[j], sign);
  }
  out.edge_count = 3;
  if (!(least(least(position[0].z, position[1].z), position[2].z) >= view.near)) {
    const InverseDepth& z = out.inverse_depth;
    out.edges[3] = {-z.x, -z.y, 1.0 / view.near - z.c, 0.0};
    out.edge_count = 4;
  }
  return true;
}

// The columns of a row that a triangle covers: `first`..`last`, inclusive. False if there are none.
HOIRT_HD inline bool span_of_row(const Triangle& triangle, std::int32_t row, std::int32_t& first, std::int32_t& last) {
  first = triangle.left, last = triangle.right;
  for (std::int32_t k = 0; k < triangle.edge_count && first <= last; ++k) {
    const Edge& edge = triangle.edges[k];
    const double base = edge.in_row(row);
    // The division guesses; inside(), which is monotone along the row, decides.
    if (edge.a > 0) {
      const double guess = (edge.least - base) / edge.a;
      std::int32_t column = !(guess > first) ? first : !(guess < last) ? last : static_cast<std::int32_t>(guess);
      while (column > first && edge.inside(column - 1, base)) --column;
      while (column <= last && !edge.inside(column, base)) ++column;
      first = column;
    } else if (edge.a < 0) {
      const double guess = (edge.least - base) / edge.a;
      std::int32_t column = !(guess < last) ? last : !(guess > first) ? first : static_cast<std::int32_t>(guess);
      while (column < last && edge.inside(column + 1, base)) ++column;
      while (column >= first && !edge.inside(column, base)) --column;
      last = column;
    } else if (!(base >= edge.least)) {
      return false;
    }
  }
  return first <= last;
}

}  // namespace hoirt::raster
