// plugin.hpp: plugin.h for C++17: a loss is its formula and its derivative and nothing else.
//
// Header only, no dependency but the standard library's headers. An elementwise loss, as a whole plugin:
//
//     #include <lossd/plugin.hpp>
//
//     struct Huber : lossd::elementwise_loss {
//       static constexpr const char *name = "my_huber";
//       static constexpr const char *summary = "quadratic within delta, linear beyond";
//       static constexpr lossd::attribute attributes[] = {
//           lossd::real("delta", 1, "where it turns linear").at_least(0)};
//       double delta;
//       explicit Huber(lossd::attribute_values a) : delta(a.real(0)) {}
//
//       template <class T> T loss(T x, T y) const {
//         T d = lossd::abs(x - y), k = T(delta);
//         return d < k ? T(0.5) * d * d : k * (d - T(0.5) * k);
//       }
//       template <class T> T slope(T x, T y) const {
//         return lossd::max(lossd::min(x - y, T(delta)), -T(delta));
//       }
//     };
//     LOSSD_PLUGIN("my_huber", "1.0", lossd::elementwise<Huber>)
//
// What the wrapper adds: the inputs `input`, `target`, `weight` and `grad.loss`, the outputs `loss` and
// `grad.input`, the attribute `reduction` (none, mean, sum), shapes, broadcasting, the four floating-point
// types (16-bit ones are computed in float32 and rounded once), float64 sums, cutting into chunks, streams.
// With `static constexpr bool broadcasts_target = true` input and target broadcast with one another as torch has
// it; with a member `template <class T> T target_slope(T x, T y) const`, the derivative by y, there is the output
// `grad.target`. The gradient of what is repeated is summed over its repetitions.
//
// T is float or double. The functions are called in loops that compilers turn into vectors: write straight-line
// code with lossd::exp and the like, and `a < b ? c : d` in place of branches; build with
// -O3 -fno-math-errno -fno-trapping-math and, for machines that have them, -mavx2 -mfma.
//
// A loss over classes is lossd::rowwise<L>: see detail/rowwise.hpp. What fits neither is written with plugin.h
// and guarded by lossd::guarded.
//
// Exceptions never leave a callback: a lossd::failure becomes its code and text, std::bad_alloc
// RESOURCE_EXHAUSTED, any other INTERNAL with its what(). It compiles with -fno-exceptions, too.
#ifndef LOSSD_PLUGIN_HPP
#define LOSSD_PLUGIN_HPP

#if __cplusplus < 201703L
#error "lossd/plugin.hpp needs C++17; plugin.h does with C++11"
#endif

#include <lossd/detail/declarations.hpp>
#include <lossd/detail/elementwise.hpp>
#include <lossd/detail/numbers.hpp>
#include <lossd/detail/rowwise.hpp>
#include <lossd/plugin.h>

// The plugin of these functions: name, version, then lossd::elementwise<...>, lossd::rowwise<...> or any type
// with `static const lossd_function *function()`.
#define LOSSD_PLUGIN(name, version, ...)                                            \
  extern "C" const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {       \
    return lossd::detail::make_plugin<__VA_ARGS__>(host, name, version);            \
  }

#endif
