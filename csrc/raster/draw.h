// Discs, lines and filled ellipses, pixel for pixel as OpenCV 4 draws them with 8-connected edges; host and device.
//
// A sink has `width`, `height` and `span(row, first, last)`: fill these columns, which all lie inside the picture.
// The definitions (16-bit fixed point, rounding, which edges are walked) are those of cv2.circle, cv2.line,
// cv2.ellipse2Poly and cv2.fillConvexPoly; tests/test_draw.py compares every picture with them.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::raster {

struct Point {
  std::int64_t x = 0, y = 0;
};

constexpr int fixed_bits = 16;
constexpr std::int64_t fixed_one = std::int64_t{1} << fixed_bits;
constexpr int most_ellipse_points = 361;

HOIRT_HD inline std::int64_t from_fixed(std::int64_t value) { return (value + fixed_one / 2) >> fixed_bits; }

template <typename Sink>
HOIRT_HD void draw_pixel(std::int64_t x, std::int64_t y, Sink& sink) {
  if (x >= 0 && y >= 0 && x < sink.width && y < sink.height) sink.span(y, x, x);
}

template <typename Sink>
HOIRT_HD void draw_row(std::int64_t y, std::int64_t first, std::int64_t last, Sink& sink) {
  if (y < 0 || y >= sink.height) return;
  if (first < 0) first = 0;
  if (last >= sink.width) last = sink.width - 1;
  if (first <= last) sink.span(y, first, last);
}

// Midpoint circle, filled.
template <typename Sink>
HOIRT_HD void draw_disc(Point centre, std::int64_t radius, Sink& sink) {
  std::int64_t outer = radius, inner = 0, error = 0, grow = 1, shrink = 2 * radius - 1;
  while (outer >= inner) {
    draw_row(centre.y - inner, centre.x - outer, centre.x + outer, sink);
    draw_row(centre.y + inner, centre.x - outer, centre.x + outer, sink);
    draw_row(centre.y - outer, centre.x - inner, centre.x + inner, sink);
    draw_row(centre.y + outer, centre.x - inner, centre.x + inner, sink);
    ++inner;
    error += grow;
    grow += 2;
    if (error > 0) {
      error -= shrink;
      --outer;
      shrink -= 2;
    }
  }
}

// Moves the end that lies beyond the line `coordinate` = limit onto it. The quotient is rounded towards zero, in double.
HOIRT_HD inline void move_onto(std::int64_t limit, std::int64_t& along, std::int64_t& across, std::int64_t run,
                               std::int64_t rise) {
  across += static_cast<std::int64_t>(static_cast<double>(limit - along) * static_cast<double>(rise) /
                                      static_cast<double>(run));
  along = limit;
}

// Cuts a line to 0..right, 0..bottom; false if nothing is left. Rows are cut before columns, `a` before `b`.
HOIRT_HD inline bool clip_line(std::int64_t right, std::int64_t bottom, Point& a, Point& b) {
  const auto beside = [right](const Point& p) { return p.x < 0 ? 1 : p.x > right ? 2 : 0; };
  const auto above = [bottom](const Point& p) { return p.y < 0 ? 4 : p.y > bottom ? 8 : 0; };
  int code_a = beside(a) + above(a), code_b = beside(b) + above(b);
  if ((code_a & code_b) != 0) return false;
  if (code_a >= 4) {
    move_onto(code_a < 8 ? 0 : bottom, a.y, a.x, b.y - a.y, b.x - a.x);
    code_a = beside(a);
  }
  if (code_b >= 4) {
    move_onto(code_b < 8 ? 0 : bottom, b.y, b.x, b.y - a.y, b.x - a.x);
    code_b = beside(b);
  }
  if ((code_a & code_b) != 0) return false;
  if (code_a != 0) move_onto(code_a == 1 ? 0 : right, a.x, a.y, b.x - a.x, b.y - a.y);
  if (code_b != 0) move_onto(code_b == 1 ? 0 : right, b.x, b.y, b.x - a.x, b.y - a.y);
  return true;
}

// Bresenham between pixels, walked from left to right.
template <typename Sink>
HOIRT_HD void draw_pixel_line(Point a, Point b, Sink& sink) {
  if (!clip_line(sink.width - 1, sink.height - 1, a, b)) return;
  if (b.x < a.x) {
    const Point swap = a;
    a = b;
    b = swap;
  }
  const std::int64_t down = b.y < a.y ? -1 : 1;
  const std::int64_t run = b.x - a.x, rise = (b.y - a.y) * down;
  const bool steep = rise > run;
  const std::int64_t major = steep ? rise : run, minor = steep ? run : rise;
  std::int64_t error = major - 2 * minor;
  for (std::int64_t i = 0; i <= major; ++i) {
    draw_pixel(a.x, a.y, sink);
    const bool turn = error < 0;
    error += (turn ? 2 * major : 0) - 2 * minor;
    if (steep || turn) a.y += down;
    if (!steep || turn) a.x += 1;
  }
}

// The same between points in fixed point.
template <typename Sink>
HOIRT_HD void draw_fixed_line(Point a, Point b, Sink& sink) {
  if (!clip_line((sink.width << fixed_bits) - 1, (sink.height << fixed_bits) - 1, a, b)) return;
  const std::int64_t across = b.x < a.x ? a.x - b.x : b.x - a.x;
  const std::int64_t down = b.y < a.y ? a.y - b.y : b.y - a.y;
  const bool flat = across > down;
  if (flat ? b.x < a.x : b.y < a.y) {
    const Point swap = a;
    a = b;
    b = swap;
  }
  draw_pixel(from_fixed(b.x), from_fixed(b.y), sink);
  const std::int64_t step = (flat ? b.y - a.y : b.x - a.x) * fixed_one / ((flat ? across : down) | 1);
  std::int64_t count = (flat ? b.x - a.x : b.y - a.y) >> fixed_bits;
  std::int64_t pixel = from_fixed(flat ? a.x : a.y);
  for (std::int64_t other = (flat ? a.y : a.x) + fixed_one / 2; count >= 0; --count, ++pixel, other += step) {
    const std::int64_t rounded = other >> fixed_bits;
    draw_pixel(flat ? pixel : rounded, flat ? rounded : pixel, sink);
  }
}

// One of the two chains of edges that run down a convex polygon.
struct PolygonSide {
  int index = 0, step = 0;
  std::int64_t x = -fixed_one, slope = 0, until = 0;
};

// Fills a convex polygon and draws its outline. `points` are pixels (Bits = 0) or fixed point (Bits = 16).
template <int Bits, typename Sink>
HOIRT_HD void draw_convex(const Point* points, int count, Sink& sink) {
  static_assert(Bits == 0 || Bits == fixed_bits, "points are pixels or fixed point");
  constexpr std::int64_t half = (std::int64_t{1} << Bits) >> 1;
  constexpr std::int64_t scale = std::int64_t{1} << (fixed_bits - Bits);
  Point low = points[0], high = points[0];
  int top = 0;
  for (int i = 0; i < count; ++i) {
    const Point before = points[i == 0 ? count - 1 : i - 1], p = points[i];
    if (p.y < low.y) {
      low.y = p.y;
      top = i;
    }
    if (p.y > high.y) high.y = p.y;
    if (p.x < low.x) low.x = p.x;
    if (p.x > high.x) high.x = p.x;
    if (Bits == 0) {
      draw_pixel_line(before, p, sink);
    } else {
      draw_fixed_line(before, p, sink);
    }
  }
  const std::int64_t first_row = (low.y + half) >> Bits;
  std::int64_t last_row = (high.y + half) >> Bits;
  if (count < 3 || (high.x + half) >> Bits < 0 || last_row < 0 || (low.x + half) >> Bits >= sink.width ||
      first_row >= sink.height) {
    return;
  }
  if (last_row >= sink.height) last_row = sink.height - 1;

  PolygonSide sides[2];
  for (PolygonSide& side : sides) {
    side.index = top;
    side.until = first_row;
  }
  sides[0].step = 1;
  sides[1].step = count - 1;
  int edges_left = count;
  for (std::int64_t row = first_row; row <= last_row;) {
    for (PolygonSide& side : sides) {
      if (row < side.until) continue;
      for (int from = side.index; edges_left > 0;) {
        const int to = (from + side.step) % count;
        --edges_left;
        const std::int64_t end = (points[to].y + half) >> Bits;
        if (end > row) {
          const std::int64_t x = points[from].x * scale;
          side.slope = ((points[to].x * scale - x) * 2 + (end - row)) / (2 * (end - row));
          side.x = x;
          side.until = end;
          side.index = to;
          break;
        }
        from = to;
      }
    }
    std::int64_t rows = 1;
    if (row >= 0) {
      const bool swapped = sides[0].x > sides[1].x;
      draw_row(row, from_fixed(sides[swapped ? 1 : 0].x), from_fixed(sides[swapped ? 0 : 1].x), sink);
    } else {
      // Above the picture: straight to the next corner or to row 0.
      std::int64_t next = 0;
      for (const PolygonSide& side : sides) {
        if (side.until > row && side.until < next) next = side.until;
      }
      rows = next - row;
    }
    for (PolygonSide& side : sides) side.x += side.slope * rows;
    row += rows;
  }
}

// A line of `thickness` pixels (2 or more) with round ends; first cut to whole pixels, `thickness` outside of the picture,
// which changes its slope a little, as in OpenCV.
template <typename Sink>
HOIRT_HD void draw_line(Point a, Point b, int thickness, Sink& sink) {
  a = {a.x + thickness, a.y + thickness};
  b = {b.x + thickness, b.y + thickness};
  if (!clip_line(sink.width - 1 + 2 * thickness, sink.height - 1 + 2 * thickness, a, b)) return;
  a = {a.x - thickness, a.y - thickness};
  b = {b.x - thickness, b.y - thickness};
  const Point from{a.x * fixed_one, a.y * fixed_one}, to{b.x * fixed_one, b.y * fixed_one};
  const auto dx = static_cast<double>(a.x - b.x), dy = static_cast<double>(b.y - a.y);
  const std::int64_t half_width = thickness * (fixed_one / 2);
  if (dx != 0 || dy != 0) {
    const double ratio = static_cast<double>(half_width + (thickness & 1) * (fixed_one / 2)) / std::sqrt(dx * dx + dy * dy);
    const auto across_x = static_cast<std::int64_t>(std::rint(dy * ratio));
    const auto across_y = static_cast<std::int64_t>(std::rint(dx * ratio));
    const Point corners[4] = {{from.x + across_x, from.y + across_y},
                              {from.x - across_x, from.y - across_y},
                              {to.x - across_x, to.y - across_y},
                              {to.x + across_x, to.y + across_y}};
    draw_convex<fixed_bits>(corners, 4, sink);
  }
  draw_disc(a, from_fixed(half_width), sink);
  draw_disc(b, from_fixed(half_width), sink);
}

// sin of 0..450 whole degrees with seven decimals, in float32: the precision of OpenCV's table.
HOIRT_HD inline double sine_of_degrees(int degrees) {
  static constexpr float sine[91] = {
      0.0000000f, 0.0174524f, 0.0348995f, 0.0523360f, 0.0697565f, 0.0871557f, 0.1045285f, 0.1218693f,
      0.1391731f, 0.1564345f, 0.1736482f, 0.1908090f, 0.2079117f, 0.2249511f, 0.2419219f, 0.2588190f,
      0.2756374f, 0.2923717f, 0.3090170f, 0.3255682f, 0.3420201f, 0.3583679f, 0.3746066f, 0.3907311f,
      0.4067366f, 0.4226183f, 0.4383711f, 0.4539905f, 0.4694716f, 0.4848096f, 0.5000000f, 0.5150381f,
      0.5299193f, 0.5446390f, 0.5591929f, 0.5735764f, 0.5877853f, 0.6018150f, 0.6156615f, 0.6293204f,
      0.6427876f, 0.6560590f, 0.6691306f, 0.6819984f, 0.6946584f, 0.7071068f, 0.7193398f, 0.7313537f,
      0.7431448f, 0.7547096f, 0.7660444f, 0.7771460f, 0.7880108f, 0.7986355f, 0.8090170f, 0.8191520f,
      0.8290376f, 0.8386706f, 0.8480481f, 0.8571673f, 0.8660254f, 0.8746197f, 0.8829476f, 0.8910065f,
      0.8987940f, 0.9063078f, 0.9135455f, 0.9205049f, 0.9271839f, 0.9335804f, 0.9396926f, 0.9455186f,
      0.9510565f, 0.9563048f, 0.9612617f, 0.9659258f, 0.9702957f, 0.9743701f, 0.9781476f, 0.9816272f,
      0.9848078f, 0.9876883f, 0.9902681f, 0.9925462f, 0.9945219f, 0.9961947f, 0.9975641f, 0.9986295f,
      0.9993908f, 0.9998477f, 1.0000000f
  };
  if (degrees >= 360) degrees -= 360;
  const bool lower_half = degrees >= 180;
  if (lower_half) degrees -= 180;
  const auto value = static_cast<double>(sine[degrees > 90 ? 180 - degrees : degrees]);
  return lower_half ? -value : value;
}

// A filled ellipse as a polygon with a corner per degree; `degrees` in -180..360 turns its first axis clockwise.
template <typename Sink>
HOIRT_HD void draw_ellipse(Point centre, std::int64_t half_length, std::int64_t half_width, int degrees, Sink& sink) {
  const int angle = degrees < 0 ? degrees + 360 : degrees;
  const double cosine = sine_of_degrees(450 - angle), sine = sine_of_degrees(angle);
  Point points[most_ellipse_points];
  int count = 0;
  for (int i = 0; i <= 360; ++i) {
    const double x = static_cast<double>(half_length) * sine_of_degrees(450 - i);
    const double y = static_cast<double>(half_width) * sine_of_degrees(i);
    const Point p{static_cast<std::int64_t>(std::rint(static_cast<double>(centre.x) + x * cosine - y * sine)),
                  static_cast<std::int64_t>(std::rint(static_cast<double>(centre.y) + x * sine + y * cosine))};
    if (count == 0 || p.x != points[count - 1].x || p.y != points[count - 1].y) points[count++] = p;
  }
  draw_convex<0>(points, count, sink);
}

}  // namespace hoirt::raster
