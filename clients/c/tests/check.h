/* Tests as sentences: TEST("a sentence") { ... CHECK(condition); }. Each prints a line; run_tests says how many
 * failed. One test program is one such file. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test {
  const char *sentence;
  void (*run)(void);
  struct test *next;
};

static struct test *first_test, **last_test = &first_test;
static int test_failures;
static const char *address; /* the daemon's */

static void add_test(struct test *test) {
  *last_test = test;
  last_test = &test->next;
}

#define JOINED(left, right) left##right
#define NAMED(left, right) JOINED(left, right)
#define TEST(text)                                                                                    \
  static void NAMED(run_, __LINE__)(void);                                                            \
  __attribute__((constructor)) static void NAMED(add_, __LINE__)(void) {                              \
    static struct test test = {text, NAMED(run_, __LINE__), NULL};                                    \
    add_test(&test);                                                                                  \
  }                                                                                                   \
  static void NAMED(run_, __LINE__)(void)

#define CHECK(condition)                                                                              \
  do {                                                                                                \
    if (!(condition)) {                                                                               \
      printf("  %s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                          \
      test_failures++;                                                                                \
      return;                                                                                         \
    }                                                                                                 \
  } while (0)

/* The call gives this code; the text says what it gave instead. */
#define CHECK_CODE(expected, expression)                                                              \
  do {                                                                                                \
    lossd_code found = (expression);                                                                  \
    if (found != (expected)) {                                                                        \
      printf("  %s:%d: %s, expected %s, of %s: %s\n", __FILE__, __LINE__, lossd_code_name(found),     \
             lossd_code_name(expected), #expression, error.text);                                     \
      test_failures++;                                                                                \
      return;                                                                                         \
    }                                                                                                 \
  } while (0)

#define CHECK_NEAR(left, right, tolerance)                                                            \
  do {                                                                                                \
    double a = (left), b = (right);                                                                   \
    if (!(a - b <= (tolerance) && b - a <= (tolerance))) {                                            \
      printf("  %s:%d: %s is %.17g, expected %.17g\n", __FILE__, __LINE__, #left, a, b);              \
      test_failures++;                                                                                \
      return;                                                                                         \
    }                                                                                                 \
  } while (0)

/* PROGRAM ADDRESS [WORD]: all tests, or those whose sentences have the word in them. */
static int run_tests(int count, char **arguments) {
  int all = 0, failed = 0;
  if (count > 1) address = arguments[1];
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (struct test *test = first_test; test != NULL; test = test->next) {
    if (count > 2 && strstr(test->sentence, arguments[2]) == NULL) continue;
    int before = test_failures;
    test->run();
    all++;
    if (test_failures > before) failed++;
    printf("%s: %s\n", test_failures > before ? "FAILED" : "ok", test->sentence);
  }
  printf("%d tests, %d failed\n", all, failed);
  return failed == 0 && all > 0 ? 0 : 1;
}

#endif
