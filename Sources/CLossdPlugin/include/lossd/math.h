/* math.h: the elementary functions of losses, written so that compilers turn a loop over them into vectors.
 *
 * Header only, C99 and C++, no library. Each is straight-line code: no branch, no table, no call, no errno.
 * Call them in a loop over arrays and build with -O3 and, where the machine has them, -mavx2 -mfma.
 *
 * Errors are of the result against the exact one, measured by Tests/Math (`make test-math`) with and without
 * fused multiply-add, in float32 over every 11th value or more, in float64 over samples:
 *
 *     exp 1.1 ulp   expm1 2.0   log 1.0   log1p 1.0   sigmoid 2.0   softplus 1.8   log_sigmoid 1.8   tanh 2.6
 *     powf 0.6 (in float64, rounded once); lossd_pow is the C library's pow: exact, but one element at a time
 *
 * Infinities and NaN are as the C library's, -0 too. Denormal results are right; denormals must not be flushed.
 * -ffast-math breaks them, because they rely on the order of operations. */
#ifndef LOSSD_MATH_H
#define LOSSD_MATH_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__FAST_MATH__)
#error "lossd/math.h relies on the order of operations: build without -ffast-math"
#endif

#if defined(__GNUC__) || defined(__clang__)
#define LOSSD_INLINE static inline __attribute__((always_inline, unused))
#else
#define LOSSD_INLINE static inline
#endif

/* a * b + c, fused where the processor does that at no cost. */
#if defined(__FMA__) || defined(__aarch64__)
LOSSD_INLINE float lossd_fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
LOSSD_INLINE double lossd_fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
LOSSD_INLINE float lossd_fmaf(float a, float b, float c) { return a * b + c; }
LOSSD_INLINE double lossd_fma(double a, double b, double c) { return a * b + c; }
#endif

LOSSD_INLINE uint32_t lossd_bitsf(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
LOSSD_INLINE float lossd_from_bitsf(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
LOSSD_INLINE uint64_t lossd_bits(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
LOSSD_INLINE double lossd_from_bits(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* Not by masks: compilers know what they can leave out of these. */
LOSSD_INLINE float lossd_absf(float x) { return __builtin_fabsf(x); }
LOSSD_INLINE double lossd_abs(double x) { return __builtin_fabs(x); }
/* x with the sign of `sign`. */
LOSSD_INLINE float lossd_with_signf(float x, float sign) { return __builtin_copysignf(x, sign); }
LOSSD_INLINE double lossd_with_sign(double x, double sign) { return __builtin_copysign(x, sign); }

/* The smaller and the larger; NaN where x is NaN. */
LOSSD_INLINE float lossd_minf(float x, float bound) { return x > bound ? bound : x; }
LOSSD_INLINE double lossd_min(double x, double bound) { return x > bound ? bound : x; }
LOSSD_INLINE float lossd_maxf(float x, float bound) { return x < bound ? bound : x; }
LOSSD_INLINE double lossd_max(double x, double bound) { return x < bound ? bound : x; }

/* What this was compiled for and this processor lacks, or NULL: where a plugin that is built with -mavx2 has to
 * say so, in lossd_plugin_entry, instead of crashing. */
LOSSD_INLINE const char *lossd_missing_instructions(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
#if defined(__AVX512F__)
  if (!__builtin_cpu_supports("avx512f")) return "AVX-512";
#endif
#if defined(__AVX2__)
  if (!__builtin_cpu_supports("avx2")) return "AVX2";
#endif
#if defined(__FMA__)
  if (!__builtin_cpu_supports("fma")) return "FMA";
#endif
#endif
  return NULL;
}

/* ---- float32 ---- */

/* x = n ln 2 + r with |r| <= ln(2) / 2, ln 2 in two parts, of which n times the first is exact (Cody and Waite
 * 1980). Returns exp(r) - 1, by a minimax polynomial; *n as a whole number. */
LOSSD_INLINE float lossd_exp_partsf(float x, int32_t *n) {
  /* Adding 1.5 * 2^23 rounds to a whole number, which the low bits then hold. */
  const float magic = 12582912.0f;
  float shifted = lossd_fmaf(x, 1.44269504f, magic);
  float whole = shifted - magic;
  float r = lossd_fmaf(whole, -0.693359375f, x);
  float p = 1.39262508e-3f;
  r = lossd_fmaf(whole, 2.1219444e-4f, r);
  p = lossd_fmaf(p, r, 8.36323288e-3f);
  p = lossd_fmaf(p, r, 4.16665542e-2f);
  p = lossd_fmaf(p, r, 1.66665767e-1f);
  p = lossd_fmaf(p, r, 0.5f);
  *n = (int32_t)(lossd_bitsf(shifted) - 0x4b400000u);
  return lossd_fmaf(p, r * r, r);
}

/* 2^n for a normal one. */
LOSSD_INLINE float lossd_powerf(int32_t n) { return lossd_from_bitsf((uint32_t)(n + 127) << 23); }

LOSSD_INLINE float lossd_expf(float x) {
  int32_t n, half;
  /* Beyond these exp overflows, and is less than half of the smallest denormal. */
  float q = lossd_exp_partsf(lossd_maxf(lossd_minf(x, 89.0f), -104.0f), &n);
  /* 2^n in two factors, so that neither overflows nor a denormal is rounded twice. */
  half = n >> 1;
  return (q + 1.0f) * lossd_powerf(half) * lossd_powerf(n - half);
}

/* exp(x) - 1 */
LOSSD_INLINE float lossd_expm1f(float x) {
  int32_t n;
  float q = lossd_exp_partsf(lossd_maxf(lossd_minf(x, 89.0f), -20.0f), &n);
  /* 2^n q + (2^n - 1), by 2^(n - 1), which does not overflow. */
  float power = lossd_powerf(n - 1);
  float result = 2.0f * lossd_fmaf(power, q, power - 0.5f);
  return lossd_absf(x) < 5.9604645e-8f ? x : result; /* keeps -0 and denormals */
}

/* k log(2) + log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1), after fdlibm's e_log.c: with s = f / (2 + f),
 * log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + R(s^2)). `extra` is added before the largest term. */
LOSSD_INLINE float lossd_log_reducedf(float f, float k, float extra) {
  float s = f / (f + 2.0f), z = s * s, half = 0.5f * f * f, low;
  float r = 0.233329128f;
  r = lossd_fmaf(r, z, 0.285507308f);
  r = lossd_fmaf(r, z, 0.400001226f);
  r = lossd_fmaf(r, z, 0.666666666f) * z;
  low = lossd_fmaf(k, 9.0580006e-6f, extra) + s * (half + r);
  return lossd_fmaf(k, 0.69313812f, f - (half - low));
}

/* x = m * 2^k with m in [sqrt(1/2), sqrt(2)), for a positive normal x; returns m. */
LOSSD_INLINE float lossd_log_partsf(float x, int32_t *k) {
  uint32_t shifted = lossd_bitsf(x) - 0x3f3504f3u;
  *k = (int32_t)shifted >> 23;
  return lossd_from_bitsf((shifted & 0x007fffffu) + 0x3f3504f3u);
}

LOSSD_INLINE float lossd_logf(float x) {
  /* Denormals are scaled into the normal range first. */
  int is_tiny = x < 1.17549435e-38f;
  int32_t k;
  float m = lossd_log_partsf(is_tiny ? x * 33554432.0f : x, &k);
  float result = lossd_log_reducedf(m - 1.0f, (float)k - (is_tiny ? 25.0f : 0.0f), 0.0f);
  result = x == INFINITY ? x : result;
  result = x >= 0.0f ? result : NAN;
  return x == 0.0f ? -INFINITY : result;
}

/* log(1 + x), after fdlibm's s_log1p.c: 1 + x is rounded to u, and what that lost is added as c / u. */
LOSSD_INLINE float lossd_log1pf(float x) {
  float u = 1.0f + x;
  int32_t k;
  float m = lossd_log_partsf(u, &k);
  float lost = (x > 1.0f ? 1.0f - (u - x) : x - (u - 1.0f)) / u;
  float f = k == 0 ? x : m - 1.0f;
  float result = lossd_log_reducedf(f, (float)k, k == 0 ? 0.0f : lost);
  result = lossd_absf(x) < 5.9604645e-8f ? x : result;
  result = x == INFINITY ? x : result;
  result = x >= -1.0f ? result : NAN;
  return x == -1.0f ? -INFINITY : result;
}

/* log(1 + e) for e in [0, 1]. */
LOSSD_INLINE float lossd_log1p_unitf(float e) {
  /* Above sqrt(2) - 1, as log(2) + log((1 + e) / 2). */
  int is_upper = e > 0.41421357f;
  return lossd_log_reducedf(is_upper ? (e - 1.0f) * 0.5f : e, is_upper ? 1.0f : 0.0f, 0.0f);
}

/* 1 / (1 + exp(-x)) */
LOSSD_INLINE float lossd_sigmoidf(float x) {
  float e = lossd_expf(-lossd_absf(x));
  /* What 1 + e rounds away counts where e is small. */
  float d = 1.0f + e, lost = e - (d - 1.0f), result = (x < 0.0f ? e : 1.0f) / d;
  return lossd_fmaf(-result, lost, result);
}

/* log(1 + exp(x)) */
LOSSD_INLINE float lossd_softplusf(float x) {
  return lossd_maxf(x, 0.0f) + lossd_log1p_unitf(lossd_expf(-lossd_absf(x)));
}

/* log(sigmoid(x)) */
LOSSD_INLINE float lossd_log_sigmoidf(float x) { return -lossd_softplusf(-x); }

LOSSD_INLINE float lossd_tanhf(float x) {
  int32_t n;
  float q = lossd_exp_partsf(lossd_maxf(-2.0f * lossd_absf(x), -40.0f), &n), power = lossd_powerf(n - 1);
  float e = 2.0f * (q + 1.0f) * power;                   /* exp(-2 |x|) */
  float e1 = 2.0f * lossd_fmaf(power, q, power - 0.5f); /* minus 1 */
  /* By the first formula near 0, by the second where the result is over 1/2. */
  float d = e1 + 2.0f, lost = e1 - (d - 2.0f), small = -e1 / d;
  float result = lossd_absf(x) < 0.55f ? lossd_fmaf(small * -0.6f, lost, small)
                                    : 1.0f - 2.0f * e / (1.0f + e);
  return lossd_with_signf(lossd_absf(x) < 1.0e-4f ? x : result, x);
}

LOSSD_INLINE float lossd_sqrtf(float x) { return __builtin_sqrtf(x); }

/* ---- float64: the same, with this type's numbers ---- */

LOSSD_INLINE double lossd_exp_parts(double x, int64_t *n) {
  const double magic = 6755399441055744.0; /* 1.5 * 2^52 */
  double shifted = lossd_fma(x, 1.4426950408889634, magic);
  double whole = shifted - magic;
  double r = lossd_fma(whole, -6.9314718036912382e-01, x);
  double p = 2.0914717341716378e-09;
  r = lossd_fma(whole, -1.9082149292705877e-10, r);
  p = lossd_fma(p, r, 2.5105259538448494e-08);
  p = lossd_fma(p, r, 2.755727357010214e-07);
  p = lossd_fma(p, r, 2.7557255297969643e-06);
  p = lossd_fma(p, r, 2.4801587325605324e-05);
  p = lossd_fma(p, r, 0.0001984126987490126);
  p = lossd_fma(p, r, 0.001388888888888373);
  p = lossd_fma(p, r, 0.008333333333326112);
  p = lossd_fma(p, r, 0.04166666666666667);
  p = lossd_fma(p, r, 0.1666666666666667);
  p = lossd_fma(p, r, 0.5);
  *n = (int64_t)(lossd_bits(shifted) - 0x4338000000000000u);
  return lossd_fma(p, r * r, r);
}

LOSSD_INLINE double lossd_power(int64_t n) { return lossd_from_bits((uint64_t)(n + 1023) << 52); }

LOSSD_INLINE double lossd_exp(double x) {
  int64_t n, half;
  double q = lossd_exp_parts(lossd_max(lossd_min(x, 710.0), -746.0), &n);
  /* A shift of a number that is not negative: vectors have no other one of 64 bits before AVX-512. */
  half = (int64_t)((uint64_t)(n + 2048) >> 1) - 1024;
  return (q + 1.0) * lossd_power(half) * lossd_power(n - half);
}

LOSSD_INLINE double lossd_expm1(double x) {
  int64_t n;
  double q = lossd_exp_parts(lossd_max(lossd_min(x, 710.0), -40.0), &n);
  double power = lossd_power(n - 1);
  double result = 2.0 * lossd_fma(power, q, power - 0.5);
  return lossd_abs(x) < 1.1102230246251565e-16 ? x : result;
}

LOSSD_INLINE double lossd_log_reduced(double f, double k, double extra) {
  double s = f / (f + 2.0), z = s * s, half = 0.5 * f * f, low;
  double r = 1.479819860511658591e-01;
  r = lossd_fma(r, z, 1.531383769920937332e-01);
  r = lossd_fma(r, z, 1.818357216161805012e-01);
  r = lossd_fma(r, z, 2.222219843214978396e-01);
  r = lossd_fma(r, z, 2.857142874366239149e-01);
  r = lossd_fma(r, z, 3.999999999940941908e-01);
  r = lossd_fma(r, z, 6.666666666666735130e-01) * z;
  low = lossd_fma(k, 1.9082149292705877e-10, extra) + s * (half + r);
  return lossd_fma(k, 6.9314718036912382e-01, f - (half - low));
}

/* k comes as a floating-point number: vectors have no conversion of 64 bits before AVX-512. */
LOSSD_INLINE double lossd_log_parts(double x, double *k) {
  uint64_t shifted = lossd_bits(x) - 0x3fe6a09e667f3bcdu;
  uint64_t exponent = (shifted + 0x4000000000000000u) >> 52; /* k + 1024, not negative */
  *k = lossd_from_bits(exponent + 0x4338000000000000u) - (6755399441055744.0 + 1024.0);
  return lossd_from_bits((shifted & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);
}

LOSSD_INLINE double lossd_log(double x) {
  int is_tiny = x < 2.2250738585072014e-308;
  double k, result, m = lossd_log_parts(is_tiny ? x * 18014398509481984.0 : x, &k);
  result = lossd_log_reduced(m - 1.0, k - (is_tiny ? 54.0 : 0.0), 0.0);
  result = x == (double)INFINITY ? x : result;
  result = x >= 0.0 ? result : (double)NAN;
  return x == 0.0 ? -(double)INFINITY : result;
}

LOSSD_INLINE double lossd_log1p(double x) {
  double u = 1.0 + x;
  double k, m = lossd_log_parts(u, &k);
  double lost = (x > 1.0 ? 1.0 - (u - x) : x - (u - 1.0)) / u;
  double f = k == 0.0 ? x : m - 1.0;
  double result = lossd_log_reduced(f, k, k == 0.0 ? 0.0 : lost);
  result = lossd_abs(x) < 1.1102230246251565e-16 ? x : result;
  result = x == (double)INFINITY ? x : result;
  result = x >= -1.0 ? result : (double)NAN;
  return x == -1.0 ? -(double)INFINITY : result;
}

LOSSD_INLINE double lossd_log1p_unit(double e) {
  int is_upper = e > 0.41421356237309503;
  return lossd_log_reduced(is_upper ? (e - 1.0) * 0.5 : e, is_upper ? 1.0 : 0.0, 0.0);
}

LOSSD_INLINE double lossd_sigmoid(double x) {
  double e = lossd_exp(-lossd_abs(x));
  /* What 1 + e rounds away counts where e is small. */
  double d = 1.0 + e, lost = e - (d - 1.0), result = (x < 0.0 ? e : 1.0) / d;
  return lossd_fma(-result, lost, result);
}

LOSSD_INLINE double lossd_softplus(double x) {
  return lossd_max(x, 0.0) + lossd_log1p_unit(lossd_exp(-lossd_abs(x)));
}

LOSSD_INLINE double lossd_log_sigmoid(double x) { return -lossd_softplus(-x); }

LOSSD_INLINE double lossd_tanh(double x) {
  int64_t n;
  double q = lossd_exp_parts(lossd_max(-2.0 * lossd_abs(x), -80.0), &n), power = lossd_power(n - 1);
  double e = 2.0 * (q + 1.0) * power;
  double e1 = 2.0 * lossd_fma(power, q, power - 0.5);
  double d = e1 + 2.0, lost = e1 - (d - 2.0), small = -e1 / d;
  double result = lossd_abs(x) < 0.55 ? lossd_fma(small * -0.6, lost, small)
                                    : 1.0 - 2.0 * e / (1.0 + e);
  return lossd_with_sign(lossd_abs(x) < 5.0e-9 ? x : result, x);
}

LOSSD_INLINE double lossd_sqrt(double x) { return __builtin_sqrt(x); }

/* ---- Powers: of bases of at least 0; NaN below. ---- */

LOSSD_INLINE float lossd_powf(float x, float y) {
  float result = (float)lossd_exp((double)y * lossd_log((double)x));
  result = y == 0.0f ? 1.0f : result;
  return x == 1.0f ? 1.0f : result;
}

LOSSD_INLINE double lossd_pow(double x, double y) { return x < 0.0 ? (double)NAN : pow(x, y); }

/* ---- 16-bit types: widened exactly, rounded to nearest with ties to even ---- */

LOSSD_INLINE float lossd_from_bfloat16(uint16_t bits) { return lossd_from_bitsf((uint32_t)bits << 16); }

LOSSD_INLINE uint16_t lossd_to_bfloat16(float x) {
  uint32_t bits = lossd_bitsf(x);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (uint16_t)(x == x ? rounded : ((bits >> 16) | 0x40u));
}

LOSSD_INLINE float lossd_from_float16(uint16_t half) {
  uint32_t magnitude = half & 0x7fffu, sign = (uint32_t)(half & 0x8000u) << 16;
  /* As a float32 of the same fields it is 2^112 too small; denormals come out right by the multiplication. */
  uint32_t bits = lossd_bitsf(lossd_from_bitsf(magnitude << 13) * 5.192296858534828e33f);
  bits = magnitude >= 0x7c00u ? bits | 0x7f800000u : bits;
  return lossd_from_bitsf(bits | sign);
}

LOSSD_INLINE uint16_t lossd_to_float16(float x) {
  uint32_t bits = lossd_bitsf(x), magnitude = bits & 0x7fffffffu, sign = (bits >> 16) & 0x8000u;
  uint32_t normal = ((magnitude + 0xfffu + ((magnitude >> 13) & 1u)) >> 13) - (112u << 10);
  /* Below 2^-14: added to 1/2, whose last bit is float16's smallest denormal, it is rounded there. */
  uint32_t denormal = lossd_bitsf(lossd_from_bitsf(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t result = magnitude < 0x38800000u ? denormal : normal;
  result = magnitude >= 0x477ff000u ? 0x7c00u : result; /* 65520 and more round to infinity */
  result = magnitude > 0x7f800000u ? (0x7e00u | ((magnitude >> 13) & 0x3ffu)) : result;
  return (uint16_t)(sign | result);
}

/* A float64 as a float32 from which a narrower type rounds as from the float64 itself: towards zero, its last
 * bit set where anything was lost ("round to odd"). */
LOSSD_INLINE float lossd_round_to_odd(double x) {
  float nearest = (float)x;
  uint32_t bits = lossd_bitsf(nearest);
  int is_beyond = lossd_abs((double)nearest) > lossd_abs(x);
  uint32_t odd = (is_beyond ? bits - 1u : bits) | 1u;
  return (double)nearest == x || x != x || lossd_abs(x) == (double)INFINITY ? nearest : lossd_from_bitsf(odd);
}

#endif
