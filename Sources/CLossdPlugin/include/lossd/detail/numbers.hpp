// Part of lossd/plugin.hpp: functions of numbers for both types, elements of every type.
#ifndef LOSSD_DETAIL_NUMBERS_HPP
#define LOSSD_DETAIL_NUMBERS_HPP

#include <lossd/detail/declarations.hpp>

namespace lossd LOSSD_HIDDEN {

// math.h's functions by one name; errors and special values are said there.
#define LOSSD_BOTH(function)                                           \
  inline float function(float x) { return lossd_##function##f(x); }    \
  inline double function(double x) { return lossd_##function(x); }
LOSSD_BOTH(abs)
LOSSD_BOTH(exp)
LOSSD_BOTH(expm1)
LOSSD_BOTH(log)
LOSSD_BOTH(log1p)
LOSSD_BOTH(log_sigmoid)
LOSSD_BOTH(sigmoid)
LOSSD_BOTH(softplus)
LOSSD_BOTH(sqrt)
LOSSD_BOTH(tanh)
#undef LOSSD_BOTH
// NaN where x is NaN.
inline float max(float x, float bound) { return lossd_maxf(x, bound); }
inline double max(double x, double bound) { return lossd_max(x, bound); }
inline float min(float x, float bound) { return lossd_minf(x, bound); }
inline double min(double x, double bound) { return lossd_min(x, bound); }
// Of bases of at least 0; in float64 the C library's, one element at a time.
inline float pow(float base, float exponent) { return lossd_powf(base, exponent); }
inline double pow(double base, double exponent) { return lossd_pow(base, exponent); }
// -1, 0 or 1; NaN for NaN.
template <class T> T sign(T x) { return x > 0 ? T(1) : x < 0 ? T(-1) : x; }

namespace detail {

inline const char *type_name(std::uint32_t type) {
  switch (type) {
    case LOSSD_FLOAT32: return "float32";
    case LOSSD_FLOAT64: return "float64";
    case LOSSD_FLOAT16: return "float16";
    case LOSSD_BFLOAT16: return "bfloat16";
    default: return "integer";
  }
}

inline std::int64_t byte_size(std::uint32_t type) {
  switch (type) {
    case LOSSD_FLOAT64:
    case LOSSD_INT64: return 8;
    case LOSSD_FLOAT32:
    case LOSSD_INT32: return 4;
    case LOSSD_FLOAT16:
    case LOSSD_BFLOAT16:
    case LOSSD_INT16: return 2;
    default: return 1;
  }
}

template <class T> constexpr std::uint32_t type_of = std::is_same_v<T, float> ? LOSSD_FLOAT32 : LOSSD_FLOAT64;

template <class T, class S, class Convert>
void copy_as(const void *from, T *__restrict to, std::int64_t count, Convert convert) {
  const S *source = static_cast<const S *>(from);
  for (std::int64_t i = 0; i < count; i++) to[i] = static_cast<T>(convert(source[i]));
}

// `count` elements of a tensor's data from element `index` on, widened to T; an int64 beyond T's digits is rounded.
template <class T>
void load(const void *data, std::uint32_t type, std::int64_t index, T *__restrict to, std::int64_t count) {
  const char *at = static_cast<const char *>(data) + index * byte_size(type);
  auto same = [](auto x) { return x; };
  switch (type) {
    case LOSSD_FLOAT32: return copy_as<T, float>(at, to, count, same);
    case LOSSD_FLOAT64: return copy_as<T, double>(at, to, count, same);
    case LOSSD_FLOAT16: return copy_as<T, std::uint16_t>(at, to, count, lossd_from_float16);
    case LOSSD_BFLOAT16: return copy_as<T, std::uint16_t>(at, to, count, lossd_from_bfloat16);
    case LOSSD_INT64: return copy_as<T, std::int64_t>(at, to, count, same);
    case LOSSD_INT32: return copy_as<T, std::int32_t>(at, to, count, same);
    case LOSSD_INT16: return copy_as<T, std::int16_t>(at, to, count, same);
    case LOSSD_INT8: return copy_as<T, std::int8_t>(at, to, count, same);
    default: return copy_as<T, std::uint8_t>(at, to, count, same);
  }
}

// On the way to a 16-bit type.
inline float single(float x) { return x; }
inline float single(double x) { return lossd_round_to_odd(x); }

// Writes `count` elements to a floating-point tensor, rounded once.
template <class T>
void store(const T *__restrict from, void *data, std::uint32_t type, std::int64_t index, std::int64_t count) {
  char *at = static_cast<char *>(data) + index * byte_size(type);
  auto rounded = [&](auto *__restrict to, auto convert) {
    for (std::int64_t i = 0; i < count; i++) to[i] = convert(from[i]);
  };
  switch (type) {
    case LOSSD_FLOAT16:
      return rounded(reinterpret_cast<std::uint16_t *>(at), [](T x) { return lossd_to_float16(single(x)); });
    case LOSSD_BFLOAT16:
      return rounded(reinterpret_cast<std::uint16_t *>(at), [](T x) { return lossd_to_bfloat16(single(x)); });
    case LOSSD_FLOAT64: return rounded(reinterpret_cast<double *>(at), [](T x) { return double(x); });
    default: return rounded(reinterpret_cast<float *>(at), [](T x) { return float(x); });
  }
}

inline std::int64_t load_integer(const void *data, std::uint32_t type, std::int64_t index) {
  switch (type) {
    case LOSSD_INT64: return static_cast<const std::int64_t *>(data)[index];
    case LOSSD_INT32: return static_cast<const std::int32_t *>(data)[index];
    case LOSSD_INT16: return static_cast<const std::int16_t *>(data)[index];
    case LOSSD_INT8: return static_cast<const std::int8_t *>(data)[index];
    default: return static_cast<const std::uint8_t *>(data)[index];
  }
}

// The sum in float64 of at most a few thousand elements, in eight parts, so that it becomes vectors.
template <class T> double sum_of(const T *x, std::int64_t count) {
  double part[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int lane = 0; lane < 8; lane++) part[lane] += double(x[i + lane]);
  for (; i < count; i++) part[0] += double(x[i]);
  return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

} // namespace detail
} // namespace lossd

#endif
