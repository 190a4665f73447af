/* Measures lossd/math.h: the worst error of each function in ulps of the exact result, and that special values
 * are the C library's. Exits with 1 where one is beyond its limit.
 *
 *   accuracy STRIDE    float32: every STRIDE-th of all 2^32 values; float64: 2^32 / STRIDE / 16 samples */
#include <lossd/math.h>

#include <stdio.h>
#include <stdlib.h>

#define BLOCK 4096

/* The exact result rounded to long double, 11 bits more than float64. */
static long double exact_exp(long double x) { return expl(x); }
static long double exact_expm1(long double x) { return expm1l(x); }
static long double exact_log(long double x) { return logl(x); }
static long double exact_log1p(long double x) { return log1pl(x); }
static long double exact_sigmoid(long double x) {
  return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x));
}
static long double exact_softplus(long double x) { return (x > 0 ? x : 0) + log1pl(expl(-fabsl(x))); }
static long double exact_log_sigmoid(long double x) { return -exact_softplus(-x); }
static long double exact_tanh(long double x) { return tanhl(x); }

/* The same in float64, which is exact enough for float32 and ten times as fast. */
static double near_sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }
static double near_softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }
static double near_log_sigmoid(double x) { return -near_softplus(-x); }

typedef struct function {
  const char *name;
  double limit; /* ulps */
  void (*single)(const float *, float *);
  void (*wide)(const double *, double *);
  double (*near_)(double);
  long double (*exact)(long double);
} function;

/* Loops, so that what is measured is what plugins get: vectors. */
#define LOOPS(name)                                               \
  static void single_##name(const float *x, float *y) {           \
    for (int i = 0; i < BLOCK; i++) y[i] = lossd_##name##f(x[i]); \
  }                                                               \
  static void wide_##name(const double *x, double *y) {           \
    for (int i = 0; i < BLOCK; i++) y[i] = lossd_##name(x[i]);    \
  }
LOOPS(exp) LOOPS(expm1) LOOPS(log) LOOPS(log1p) LOOPS(sigmoid) LOOPS(softplus) LOOPS(log_sigmoid) LOOPS(tanh)

static const function functions[] = {
    {"exp", 1.1, single_exp, wide_exp, exp, exact_exp},
    {"expm1", 2.0, single_expm1, wide_expm1, expm1, exact_expm1},
    {"log", 1.0, single_log, wide_log, log, exact_log},
    {"log1p", 1.0, single_log1p, wide_log1p, log1p, exact_log1p},
    {"sigmoid", 2.0, single_sigmoid, wide_sigmoid, near_sigmoid, exact_sigmoid},
    {"softplus", 1.8, single_softplus, wide_softplus, near_softplus, exact_softplus},
    {"log_sigmoid", 1.8, single_log_sigmoid, wide_log_sigmoid, near_log_sigmoid, exact_log_sigmoid},
    {"tanh", 2.6, single_tanh, wide_tanh, tanh, exact_tanh},
};

static int failed;

static void fail(const char *name, const char *type, double x, double got, double expected) {
  printf("FAILED: %s(%.17g) in %s is %.17g, expected %.17g\n", name, x, type, got, expected);
  if (++failed > 20) exit(1);
}

/* Both NaN, or equal with the same sign. */
static int same(double a, double b) { return a != a ? b != b : a == b && !signbit(a) == !signbit(b); }

static double ulp32(double value) {
  float magnitude = (float)fabs(value);
  return magnitude < 1.17549435e-38f ? 1.4012984643e-45 : (double)(nextafterf(magnitude, INFINITY) - magnitude);
}

static double ulp64(double value) {
  double magnitude = fabs(value);
  return magnitude < 2.2250738585072014e-308 ? 4.9406564584124654e-324
         : magnitude == HUGE_VAL             ? 1.9958403095347198e292
                                             : nextafter(magnitude, 0) == magnitude ? 0
                                               : magnitude - nextafter(magnitude, 0);
}

static void measure_single(const function *f, uint64_t stride) {
  static float x[BLOCK], y[BLOCK];
  double worst = 0, at = 0;
  for (uint64_t start = 0; start < (uint64_t)1 << 32; start += stride * BLOCK) {
    for (int i = 0; i < BLOCK; i++) x[i] = lossd_from_bitsf((uint32_t)(start + (uint64_t)i * stride));
    f->single(x, y);
    for (int i = 0; i < BLOCK; i++) {
      double expected = f->near_((double)x[i]), got = (double)y[i];
      if (!isfinite((float)expected) || !isfinite(y[i]) || expected == 0) {
        /* An overflow may come half an ulp early or late. */
        int is_edge = isinf(y[i]) && fabs(expected) > 3.40282e38;
        if (!same(got, (double)(float)expected) && !is_edge) fail(f->name, "float32", x[i], got, expected);
        continue;
      }
      double error = fabs(got - expected) / ulp32(expected);
      if (error > worst) worst = error, at = x[i];
    }
  }
  printf("%-12s float32 %5.2f ulp at %.9g\n", f->name, worst, at);
  if (!(worst <= f->limit)) fail(f->name, "float32", at, worst, f->limit);
}

static uint64_t state = 88172645463325252u;
static uint64_t next_random(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static void measure_wide(const function *f, uint64_t samples) {
  static double x[BLOCK], y[BLOCK];
  double worst = 0, at = 0;
  for (uint64_t done = 0; done < samples; done += BLOCK) {
    for (int i = 0; i < BLOCK; i++) {
      /* Half of them any bits, half where the function is not flat. */
      double unit = (double)(next_random() >> 11) * 0x1p-53;
      x[i] = i % 2 ? lossd_from_bits(next_random())
                   : ldexp(2 * unit - 1, (int)(next_random() % 16) - 6) * (i % 4 ? 1 : 1e-3);
    }
    f->wide(x, y);
    for (int i = 0; i < BLOCK; i++) {
      long double expected = f->exact((long double)x[i]);
      if (!isfinite((double)expected) || !isfinite(y[i]) || (double)expected == 0) {
        int is_edge = isinf(y[i]) && fabsl(expected) > 1.79769e308L;
        if (!same(y[i], (double)expected) && !is_edge) fail(f->name, "float64", x[i], y[i], (double)expected);
        continue;
      }
      double error = (double)(fabsl((long double)y[i] - expected) / ulp64((double)expected));
      if (error > worst) worst = error, at = x[i];
    }
  }
  printf("%-12s float64 %5.2f ulp at %.17g\n", f->name, worst, at);
  if (!(worst <= f->limit)) fail(f->name, "float64", at, worst, f->limit);
}

static void measure_powers(uint64_t samples) {
  double worst = 0, at = 0;
  for (uint64_t i = 0; i < samples; i++) {
    float x = lossd_from_bitsf((uint32_t)next_random() & 0x7fffffffu);
    float y = (float)ldexp((double)(next_random() >> 11) * 0x1p-52 - 1, (int)(next_random() % 12) - 4);
    double expected = pow(x, y), got = lossd_powf(x, y);
    if (!isfinite((float)expected) || !isfinite(got) || expected == 0) {
      if (!same(got, (float)expected)) fail("pow", "float32", x, got, expected);
      continue;
    }
    double error = fabs(got - expected) / ulp32(expected);
    if (error > worst) worst = error, at = x;
  }
  printf("%-12s float32 %5.2f ulp at %.9g\n", "pow", worst, at);
  if (!(worst <= 0.6)) fail("pow", "float32", at, worst, 0.6);
  static const float bases[] = {0, 1, 0.5f, 2, INFINITY, NAN}, exponents[] = {0, 1, -1, 2.5f, INFINITY, NAN};
  for (int i = 0; i < 36; i++) {
    float x = bases[i / 6], y = exponents[i % 6];
    if (!same(lossd_powf(x, y), powf(x, y))) fail("pow", "float32", x, lossd_powf(x, y), powf(x, y));
  }
}

#if defined(__FLT16_MAX__)
static void check_halves(uint64_t stride) {
  for (uint32_t bits = 0; bits < 65536; bits++) {
    uint16_t half = (uint16_t)bits;
    _Float16 value;
    memcpy(&value, &half, 2);
    if (!same(lossd_from_float16(half), (double)value)) fail("from_float16", "float16", bits, lossd_from_float16(half), (double)value);
    if (value == value && lossd_to_float16((float)value) != half) fail("to_float16", "float16", bits, lossd_to_float16((float)value), bits);
  }
  for (uint64_t bits = 0; bits < (uint64_t)1 << 32; bits += stride) {
    float x = lossd_from_bitsf((uint32_t)bits);
    _Float16 value = (_Float16)x;
    uint16_t expected;
    memcpy(&expected, &value, 2);
    if (x == x && lossd_to_float16(x) != expected) fail("to_float16", "float32", x, lossd_to_float16(x), expected);
    if (x != x && (lossd_to_float16(x) & 0x7fff) <= 0x7c00) fail("to_float16", "float32", x, lossd_to_float16(x), expected);
  }
}
#else
static void check_halves(uint64_t stride) { (void)stride; }
#endif

int main(int count, char **arguments) {
  uint64_t stride = count > 1 ? strtoull(arguments[1], 0, 10) : 997;
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    measure_single(&functions[i], stride);
    measure_wide(&functions[i], ((uint64_t)1 << 32) / stride / 16);
  }
  measure_powers(((uint64_t)1 << 32) / stride);
  check_halves(stride);
  return failed != 0;
}
