/* lanes.h: the vector operations that Swift's SIMD types lack, in clang's portable vector extension.
 *
 * Swift's library adds and multiplies floating-point vectors lane by lane and leaves it to the optimiser to
 * join the lanes again, which it does in some loops and not in others; a fused multiply-add, a maximum, a
 * shuffle, a conversion of 16-bit types and a store past the cache it does not have at all. Here each is one
 * operation. Everything is inlined and none of it is a symbol, so that no build's copy can be linked to
 * another's callers.
 *
 * One header for all builds. LOSSD_DOUBLE, LOSSD_HALF and LOSSD_BFLOAT say what tensors hold, else float32;
 * lanes are float64 for float64 and float32 for all others. The vectors are 64 bytes long with AVX-512, else
 * 32, which the compiler splits where registers are shorter. */
#ifndef LOSSD_LANES_H
#define LOSSD_LANES_H

#ifdef __clang__
/* What passes a vector longer than a register is inlined: there is no calling convention to worry about. */
#pragma clang diagnostic ignored "-Wpsabi"
#endif

#include <stdint.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
#define LANES_BYTES 64
#else
#define LANES_BYTES 32
#endif

#ifdef LOSSD_DOUBLE
typedef double scalar;
typedef int64_t scalar_bits;
typedef uint64_t scalar_words;
/* The bits of a number's sign, exponent and upper half of digits. */
#define HIGH_HALF (-(1LL << 27))
#define LANES_COUNT (LANES_BYTES / 8)
#else
typedef float scalar;
typedef int32_t scalar_bits;
typedef uint32_t scalar_words;
#define HIGH_HALF (-(1 << 12))
#define LANES_COUNT (LANES_BYTES / 4)
#endif

/* Whether the processor converts float16; else the library would, one by one. */
#if defined(__F16C__) || defined(__aarch64__)
#define LANES_CONVERT_HALF 1
#else
#define LANES_CONVERT_HALF 0
#endif

#define LANES_OF(type) type __attribute__((ext_vector_type(LANES_COUNT)))
#define LANES_OP static inline __attribute__((always_inline))
/* What takes many instructions: a function of its own in each module, and no symbol either. */
#define LANES_CALLED static inline __attribute__((noinline))
#if defined(LOSSD_HALF) && !LANES_CONVERT_HALF
#define LANES_CONVERSION LANES_CALLED
#else
#define LANES_CONVERSION LANES_OP
#endif

typedef LANES_OF(scalar) lanes;
typedef LANES_OF(scalar_bits) lane_bits;
typedef LANES_OF(scalar_words) lane_words;
typedef LANES_OF(int32_t) lane_labels;
/* As many float64 as there are lanes. */
typedef LANES_OF(double) wide_lanes;
typedef LANES_OF(int64_t) wide_bits;
/* The bits of a vector of 16-bit elements. */
typedef LANES_OF(uint16_t) lane_halves;
typedef scalar lane_quad __attribute__((ext_vector_type(4)));

/* What a tensor holds: its bits where C has no arithmetic for it. */
#if defined(LOSSD_HALF) || defined(LOSSD_BFLOAT)
typedef uint16_t element;
typedef lane_halves lane_elements;
#else
typedef scalar element;
typedef lanes lane_elements;
#endif
typedef element quad_elements __attribute__((ext_vector_type(4)));

/* A vector that is not set to anything: Swift would clear the tiles on the stack, at a few percent of a small call. */
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wuninitialized"
LANES_OP lanes lanes_unset(void) {
  lanes vector;
  return vector;
}
/* The first lane alone; nobody reads the others, so that arithmetic of them is that of one number. */
LANES_OP wide_lanes wide_first(double x) {
  wide_lanes v;
  v[0] = x;
  return v;
}
#pragma clang diagnostic pop

/* ---- Arithmetic ---- */

LANES_OP lanes lanes_add(lanes a, lanes b) { return a + b; }
LANES_OP lanes lanes_subtract(lanes a, lanes b) { return a - b; }
LANES_OP lanes lanes_multiply(lanes a, lanes b) { return a * b; }
LANES_OP lanes lanes_divide(lanes a, lanes b) { return a / b; }

/* a * b + c, rounded once where the processor does that at no cost. */
LANES_OP lanes lanes_fma(lanes a, lanes b, lanes c) {
#if defined(__FMA__) || defined(__aarch64__)
  return __builtin_elementwise_fma(a, b, c);
#else
  lanes product = a * b;
  return product + c;
#endif
}

/* What `square`, a * a rounded, has lost. */
LANES_OP lanes lanes_square_rest(lanes a, lanes square) {
#if defined(__FMA__) || defined(__aarch64__)
  return __builtin_elementwise_fma(a, a, -square);
#else
  /* The square of half of the digits is exact. */
  lanes high = (lanes)((lane_bits)a & (scalar_bits)HIGH_HALF);
  return (high * high - square) + (a - high) * (a + high);
#endif
}

/* The larger in each lane, the smaller; `a` where either is NaN. */
LANES_OP lanes lanes_larger(lanes a, lanes b) { return b > a ? b : a; }
LANES_OP lanes lanes_smaller(lanes a, lanes b) { return b < a ? b : a; }

/* Where true all bits of a lane are set. Every comparison with NaN but != is false. */
LANES_OP lane_bits lanes_less(lanes a, lanes b) { return a < b; }
LANES_OP lane_bits lanes_equal(lanes a, lanes b) { return a == b; }
LANES_OP lane_bits lanes_at_least(lanes a, lanes b) { return a >= b; }
LANES_OP lane_bits lanes_not_equal(lanes a, lanes b) { return a != b; }
/* Of numbers' bits without their sign: the largest, NaN above infinity; and the smallest less 1, as a number without a
 * sign, so that 0 is above all others. */
LANES_OP lane_bits magnitudes_larger(lane_bits a, lane_bits b) { return __builtin_elementwise_max(a, b); }
LANES_OP lane_bits magnitudes_smaller(lane_bits before, lane_bits b) {
  return (lane_bits)__builtin_elementwise_min((lane_words)before, (lane_words)b - 1);
}
LANES_OP scalar_bits magnitudes_largest(lane_bits v) { return __builtin_reduce_max(v); }
LANES_OP scalar_bits magnitudes_smallest(lane_bits before) {
  return (scalar_bits)(__builtin_reduce_min((lane_words)before) + 1);
}

LANES_OP lane_bits lane_bits_equal(lane_bits a, lane_bits b) { return a == b; }

LANES_OP lanes lanes_pick(lane_bits which, lanes yes, lanes no) { return which ? yes : no; }

/* 1 / x for normal x whose inverse is normal, NaN for NaN: within 1 ulp. */
LANES_OP lanes lanes_inverse(lanes x) {
#if defined(__AVX512F__) && !defined(LOSSD_DOUBLE)
  /* 14 bits, and a step of Newton's; AVX-512 divides a vector in the time of 16 multiplications. */
  lanes y = (lanes)_mm512_rcp14_ps((__m512)x);
  lanes error = __builtin_elementwise_fma(-x, y, (lanes)1.0f);
  return __builtin_elementwise_fma(y, error, y);
#elif defined(__AVX512F__)
  lanes y = (lanes)_mm512_rcp14_pd((__m512d)x);
  lanes error = __builtin_elementwise_fma(-x, y, (lanes)1.0);
  y = __builtin_elementwise_fma(y, error, y);
  error = __builtin_elementwise_fma(-x, y, (lanes)1.0);
  return __builtin_elementwise_fma(y, error, y);
#else
  return 1 / x;
#endif
}

/* ---- All lanes together ---- */

#if LANES_COUNT == 16
#define LANES_TURNED(v, n) __builtin_shufflevector(v, v, n, 1 ^ n, 2 ^ n, 3 ^ n, 4 ^ n, 5 ^ n, 6 ^ n, 7 ^ n, \
    8 ^ n, 9 ^ n, 10 ^ n, 11 ^ n, 12 ^ n, 13 ^ n, 14 ^ n, 15 ^ n)
#elif LANES_COUNT == 8
#define LANES_TURNED(v, n) __builtin_shufflevector(v, v, n, 1 ^ n, 2 ^ n, 3 ^ n, 4 ^ n, 5 ^ n, 6 ^ n, 7 ^ n)
#else
#define LANES_TURNED(v, n) __builtin_shufflevector(v, v, n, 1 ^ n, 2 ^ n, 3 ^ n)
#endif

/* The largest lane; perhaps NaN where one is. */
LANES_OP scalar lanes_largest(lanes v) {
#if LANES_COUNT == 16
  v = lanes_larger(v, LANES_TURNED(v, 8));
#endif
#if LANES_COUNT >= 8
  v = lanes_larger(v, LANES_TURNED(v, 4));
#endif
  v = lanes_larger(v, LANES_TURNED(v, 2));
  v = lanes_larger(v, LANES_TURNED(v, 1));
  return v[0];
}

/* Whether any lane is true. */
LANES_OP int32_t lanes_any(lane_bits which) { return __builtin_reduce_or(which) != 0; }

/* The sum of all lanes. */
LANES_OP double wide_total(wide_lanes v) {
#if LANES_COUNT == 16
  v = v + LANES_TURNED(v, 8);
#endif
#if LANES_COUNT >= 8
  v = v + LANES_TURNED(v, 4);
#endif
  v = v + LANES_TURNED(v, 2);
  v = v + LANES_TURNED(v, 1);
  return v[0];
}

/* The lanes in the order of their numbers with the bits of `distance`, a power of two, turned over. */
LANES_OP wide_lanes wide_turned(wide_lanes v, long distance) {
  switch (distance) {
#if LANES_COUNT == 16
  case 8: return LANES_TURNED(v, 8);
#endif
#if LANES_COUNT >= 8
  case 4: return LANES_TURNED(v, 4);
#endif
  case 2: return LANES_TURNED(v, 2);
  default: return LANES_TURNED(v, 1);
  }
}

/* ---- float64 beside the lanes ---- */

LANES_OP wide_lanes wide_of(lanes v) { return __builtin_convertvector(v, wide_lanes); }
LANES_OP lanes wide_narrowed(wide_lanes v) { return __builtin_convertvector(v, lanes); }
LANES_OP wide_lanes wide_add(wide_lanes a, wide_lanes b) { return a + b; }
LANES_OP wide_lanes wide_subtract(wide_lanes a, wide_lanes b) { return a - b; }
LANES_OP wide_lanes wide_multiply(wide_lanes a, wide_lanes b) { return a * b; }
LANES_OP wide_lanes wide_divide(wide_lanes a, wide_lanes b) { return a / b; }

/* a * b + c of float32, rounded once in every build, and of float64 where `lanes_fma` is. */
LANES_OP lanes lanes_fma_once(lanes a, lanes b, lanes c) {
#if defined(__FMA__) || defined(__aarch64__) || defined(LOSSD_DOUBLE)
  return lanes_fma(a, b, c);
#else
  return wide_narrowed(wide_of(a) * wide_of(b) + wide_of(c));
#endif
}

LANES_OP wide_lanes wide_pick(wide_bits which, wide_lanes yes, wide_lanes no) {
  return which ? yes : no;
}
LANES_OP wide_bits wide_mask(lane_bits which) { return __builtin_convertvector(which, wide_bits); }
LANES_OP wide_bits wide_equal(wide_lanes a, wide_lanes b) { return a == b; }
LANES_OP wide_bits wide_larger_magnitude(wide_lanes a, wide_lanes b) {
  return __builtin_elementwise_abs(a) >= __builtin_elementwise_abs(b);
}
LANES_OP wide_lanes wide_load(const double *from) {
  wide_lanes v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
LANES_OP void wide_store(double *to, wide_lanes v) { __builtin_memcpy(to, &v, sizeof v); }

/* ---- Labels beside the lanes ---- */

LANES_OP lane_labels labels_load(const int32_t *from) {
  lane_labels v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
/* Where the label is `c`. */
LANES_OP lane_bits labels_equal(lane_labels a, int32_t c) {
  return __builtin_convertvector(a == (lane_labels)c, lane_bits);
}
LANES_OP wide_bits labels_are_kept(lane_labels a) {
  return __builtin_convertvector(a >= (lane_labels)0, wide_bits);
}

/* ---- Memory: no address needs alignment unless it says so ---- */

LANES_CONVERSION lanes lanes_widened(lane_elements e) {
#if defined(LOSSD_HALF) && LANES_CONVERT_HALF
  typedef LANES_OF(_Float16) half_lanes;
  return __builtin_convertvector((half_lanes)e, lanes);
#elif defined(LOSSD_HALF)
  /* A float32 of the same digits and an exponent smaller by 112, denormals among them. */
  lane_bits bits = __builtin_convertvector(e, lane_bits);
  lane_bits digits = (bits & 0x7FFF) << 13;
  lane_bits finite = (lane_bits)((lanes)digits * 0x1p112f);
  lane_bits result = (bits & 0x7FFF) >= 0x7C00 ? digits | 0x7F800000 : finite;
  return (lanes)(result | (bits & 0x8000) << 16);
#elif defined(LOSSD_BFLOAT)
  typedef LANES_OF(uint32_t) unsigned_lanes;
  return (lanes)(__builtin_convertvector(e, unsigned_lanes) << 16);
#else
  return e;
#endif
}

/* To the nearest, ties to even; NaN stays NaN. */
LANES_CONVERSION lane_elements lanes_narrowed(lanes v) {
#if defined(LOSSD_HALF) && LANES_CONVERT_HALF
  typedef LANES_OF(_Float16) half_lanes;
  return (lane_elements)__builtin_convertvector(v, half_lanes);
#elif defined(LOSSD_HALF)
  lane_bits bits = (lane_bits)v;
  lane_bits size = bits & 0x7FFFFFFF;
  lane_bits normal = (size + 0xFFF + ((size >> 13) & 1)) >> 13;
  normal = normal - (112 << 10);
  normal = normal > 0x7C00 ? (lane_bits)0x7C00 : normal;
  /* Below 2^-14 float16 is a whole number of 2^-24, which is what 0.5 and its neighbours differ by. */
  lane_bits tiny = (lane_bits)((lanes)size + 0.5f) - 0x3F000000;
  lane_bits result = size < 0x38800000 ? tiny : normal;
  result = size > 0x7F800000 ? (size >> 13 & 0x3FF) | 0x7E00 : result;
  return __builtin_convertvector(result | ((bits >> 16) & 0x8000), lane_elements);
#elif defined(LOSSD_BFLOAT)
  typedef LANES_OF(uint32_t) unsigned_lanes;
  unsigned_lanes bits = (unsigned_lanes)v;
  unsigned_lanes rounded = bits + 0x7FFF + ((bits >> 16) & 1);
  /* The sum would carry a NaN of many bits over into a number. */
  unsigned_lanes quiet = bits | 0x400000;
  return __builtin_convertvector((v == v ? rounded : quiet) >> 16, lane_elements);
#else
  return v;
#endif
}

/* The same, in fewer steps, for NaN whose last 16 bits are zeros, as those of 16-bit inputs and the processor's
 * own are. */
LANES_OP lane_elements lanes_rounded(lanes v) {
#if defined(LOSSD_BFLOAT)
  typedef LANES_OF(uint32_t) unsigned_lanes;
  unsigned_lanes bits = (unsigned_lanes)v;
  return __builtin_convertvector((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, lane_elements);
#else
  return lanes_narrowed(v);
#endif
}

/* Elements of a tensor. */
LANES_OP lanes lanes_load(const element *from) {
  lane_elements e;
  __builtin_memcpy(&e, from, sizeof e);
  return lanes_widened(e);
}
/* `size` elements where `count` has this bit. */
#define LANES_COPY_BIT(to, from, count, size) \
  if ((count) & (size)) { \
    __builtin_memcpy(to, from, (size) * sizeof(element)); \
    to += size; \
    from += size; \
  }

/* Fewer elements than there are lanes. Not a loop, which would become a call of memcpy. */
LANES_OP void elements_copy_part(element *to, const element *from, long count) {
#if LANES_COUNT == 16
  LANES_COPY_BIT(to, from, count, 8)
#endif
#if LANES_COUNT >= 8
  LANES_COPY_BIT(to, from, count, 4)
#endif
  LANES_COPY_BIT(to, from, count, 2)
  LANES_COPY_BIT(to, from, count, 1)
}

/* The first `count` elements, fewer than there are lanes, and zeros behind them: nothing else is read. */
LANES_OP lanes lanes_load_part(const element *from, long count) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  uint32_t mask = (1u << count) - 1;
#if defined(LOSSD_DOUBLE)
  return (lanes)_mm512_maskz_loadu_pd((__mmask8)mask, from);
#elif defined(LOSSD_HALF) || defined(LOSSD_BFLOAT)
  return lanes_widened((lane_elements)_mm256_maskz_loadu_epi16((__mmask16)mask, from));
#else
  return (lanes)_mm512_maskz_loadu_ps((__mmask16)mask, from);
#endif
#elif defined(__AVX2__) && defined(LOSSD_DOUBLE)
  lane_bits numbers = {0, 1, 2, 3};
  return (lanes)_mm256_maskload_pd(from, (__m256i)(numbers < count));
#elif defined(__AVX2__) && !defined(LOSSD_HALF) && !defined(LOSSD_BFLOAT)
  lane_bits numbers = {0, 1, 2, 3, 4, 5, 6, 7};
  return (lanes)_mm256_maskload_ps(from, (__m256i)(numbers < (int32_t)count));
#else
  element all[LANES_COUNT] = {0};
  lane_elements e;
  elements_copy_part(all, from, count);
  __builtin_memcpy(&e, all, sizeof e);
  return lanes_widened(e);
#endif
}
LANES_OP void lanes_store(element *to, lanes v) {
  lane_elements e = lanes_rounded(v);
  __builtin_memcpy(to, &e, sizeof e);
}
/* Past the cache, for a line that nobody reads soon; `to` is aligned to the vector's bytes. */
LANES_OP void lanes_stream(element *to, lanes v) {
  __builtin_nontemporal_store(lanes_rounded(v), (lane_elements *)to);
}
/* Lanes from ..< upTo alone. */
LANES_OP void lanes_store_part(element *to, lanes v, long from, long upTo) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  uint32_t mask = (1u << upTo) - (1u << from);
  lane_elements e = lanes_rounded(v);
#if defined(LOSSD_DOUBLE)
  _mm512_mask_storeu_pd(to, (__mmask8)mask, (__m512d)e);
#elif defined(LOSSD_HALF) || defined(LOSSD_BFLOAT)
  _mm256_mask_storeu_epi16(to, (__mmask16)mask, (__m256i)e);
#else
  _mm512_mask_storeu_ps(to, (__mmask16)mask, (__m512)e);
#endif
#else
  lane_elements e = lanes_rounded(v);
  element all[LANES_COUNT];
  __builtin_memcpy(all, &e, sizeof all);
  for (long i = from; i < upTo; i++) to[i] = all[i];
#endif
}
/* The first `count` lanes alone, fewer than there are. */
LANES_OP void lanes_store_first(element *to, lanes v, long count) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  lanes_store_part(to, v, 0, count);
#else
  lane_elements e = lanes_rounded(v);
  element all[LANES_COUNT];
  __builtin_memcpy(all, &e, sizeof all);
  elements_copy_part(to, all, count);
#endif
}
/* One lane replaced. */
LANES_OP lanes lanes_with(lanes v, long lane, scalar value) {
  v[lane] = value;
  return v;
}
/* Makes streamed stores visible to other threads before what follows. */
LANES_OP void lanes_settle(void) {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

LANES_OP void lanes_touch(const element *address) { __builtin_prefetch(address); }

/* Scratch memory, in the type of the lanes. */
LANES_OP lanes scratch_load(const scalar *from) {
  lanes v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
/* Any value, NaN of any bits among them, into a tensor. */
LANES_OP void lanes_store_any(element *to, lanes v) {
  lane_elements e = lanes_narrowed(v);
  __builtin_memcpy(to, &e, sizeof e);
}
LANES_OP void scratch_store(scalar *to, lanes v) { __builtin_memcpy(to, &v, sizeof v); }

LANES_OP scalar element_widened(element e) { return lanes_widened((lane_elements)e)[0]; }
LANES_OP element element_narrowed(scalar v) { return lanes_narrowed((lanes)v)[0]; }

/* ---- Rows into lanes and back ---- */

#define LANES_PAIR(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7)
#define LANES_QUADS(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)

/* Four elements of each of the rows first, first + 4, first + 8...: as many as there are lanes. */
LANES_OP lanes lanes_gather_quads(const element *rows, long step, long first) {
  quad_elements quads[LANES_COUNT / 4];
  for (int i = 0; i < LANES_COUNT / 4; i++)
    __builtin_memcpy(&quads[i], rows + (first + 4 * i) * step, sizeof quads[i]);
#if LANES_COUNT == 16
  return lanes_widened(LANES_QUADS(LANES_PAIR(quads[0], quads[1]), LANES_PAIR(quads[2], quads[3])));
#elif LANES_COUNT == 8
  return lanes_widened(LANES_PAIR(quads[0], quads[1]));
#else
  return lanes_widened(quads[0]);
#endif
}

/* The 4x4 transposes of what lies in each four lanes of four vectors. */
#if LANES_COUNT == 16
#define LANES_BLEND(a, b, p, q, r, s) __builtin_shufflevector(a, b, p, q, r, s, p + 4, q + 4, r + 4, s + 4, \
    p + 8, q + 8, r + 8, s + 8, p + 12, q + 12, r + 12, s + 12)
#define LANES_SECOND 16
#elif LANES_COUNT == 8
#define LANES_BLEND(a, b, p, q, r, s) __builtin_shufflevector(a, b, p, q, r, s, p + 4, q + 4, r + 4, s + 4)
#define LANES_SECOND 8
#else
#define LANES_BLEND(a, b, p, q, r, s) __builtin_shufflevector(a, b, p, q, r, s)
#define LANES_SECOND 4
#endif

LANES_OP void lanes_transpose_quads(lanes v[4]) {
  lanes low01 = LANES_BLEND(v[0], v[1], 0, LANES_SECOND, 1, LANES_SECOND + 1);
  lanes high01 = LANES_BLEND(v[0], v[1], 2, LANES_SECOND + 2, 3, LANES_SECOND + 3);
  lanes low23 = LANES_BLEND(v[2], v[3], 0, LANES_SECOND, 1, LANES_SECOND + 1);
  lanes high23 = LANES_BLEND(v[2], v[3], 2, LANES_SECOND + 2, 3, LANES_SECOND + 3);
  v[0] = LANES_BLEND(low01, low23, 0, 1, LANES_SECOND, LANES_SECOND + 1);
  v[1] = LANES_BLEND(low01, low23, 2, 3, LANES_SECOND + 2, LANES_SECOND + 3);
  v[2] = LANES_BLEND(high01, high23, 0, 1, LANES_SECOND, LANES_SECOND + 1);
  v[3] = LANES_BLEND(high01, high23, 2, 3, LANES_SECOND + 2, LANES_SECOND + 3);
}

/* Four columns of as many rows as there are lanes, `step` elements apart: column c to `columns` + c vectors,
 * row r in lane r. */
LANES_OP void lanes_turn_in(const element *rows, long step, scalar *columns) {
  lanes v[4];
  for (int i = 0; i < 4; i++) v[i] = lanes_gather_quads(rows, step, i);
  lanes_transpose_quads(v);
  for (int i = 0; i < 4; i++) scratch_store(columns + i * LANES_COUNT, v[i]);
}

/* The way back. */
LANES_OP void lanes_turn_out(const scalar *columns, element *rows, long step) {
  lanes v[4];
  for (int i = 0; i < 4; i++) v[i] = scratch_load(columns + i * LANES_COUNT);
  lanes_transpose_quads(v);
  for (int i = 0; i < 4; i++) {
    lane_elements e = lanes_rounded(v[i]);
    for (int j = 0; j < LANES_COUNT / 4; j++)
      __builtin_memcpy(rows + (i + 4 * j) * step, (element *)&e + 4 * j, sizeof(quad_elements));
  }
}

#endif
