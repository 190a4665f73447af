// What the tests of plugin.hpp call: a plain loss, two with both gradients, one with every kind of attribute, two over
// rows, and one that throws.
#include <lossd/plugin.hpp>

#include <stdexcept>

struct Squared : lossd::elementwise_loss {
  static constexpr const char *name = "test_squared";
  static constexpr const char *summary = "(input - target)^2";
  static constexpr bool broadcasts_target = true;
  template <class T> T loss(T x, T y) const { return (x - y) * (x - y); }
  template <class T> T slope(T x, T y) const { return 2 * (x - y); }
};

// torch.nn.functional.huber_loss, with both gradients; its weight is the kit's.
struct Huber : lossd::elementwise_loss {
  static constexpr const char *name = "test_huber";
  static constexpr const char *summary = "(x - y)^2 / 2 up to delta, else delta (|x - y| - delta / 2)";
  static constexpr bool broadcasts_target = true;
  static constexpr lossd::attribute attributes[] = {lossd::real("delta", 1, "the bend").at_least(0)};
  double delta;
  explicit Huber(lossd::attribute_values a) : delta(a.real(0)) {}
  template <class T> T loss(T x, T y) const {
    const T distance = lossd::abs(x - y), d = T(delta);
    return distance < d ? distance * distance / 2 : d * (distance - d / 2);
  }
  template <class T> T slope(T x, T y) const { return lossd::max(lossd::min(x - y, T(delta)), -T(delta)); }
  template <class T> T target_slope(T x, T y) const { return -slope(x, y); }
};

// Poisson's, whose derivatives are no mirror images: exp(x) - y x.
struct Alike : lossd::elementwise_loss {
  static constexpr const char *name = "test_alike";
  static constexpr const char *summary = "exp(input) - target * input, of equal shapes";
  template <class T> T loss(T x, T y) const { return lossd::exp(x) - y * x; }
  template <class T> T slope(T x, T y) const { return lossd::exp(x) - y; }
  template <class T> T target_slope(T x, T) const { return -x; }
};

struct Attributes : lossd::elementwise_loss {
  static constexpr const char *name = "test_attributes";
  static constexpr const char *summary = "a polynomial of its attributes, for input 0";
  static constexpr const char *const ways[] = {"up", "down", nullptr};
  static constexpr lossd::reduction default_reduction = lossd::reduction::sum;
  static constexpr lossd::attribute attributes[] = {
      lossd::real("factor", 0.5, "between 0 and 4").at_least(0).at_most(4), lossd::integer("count", -3, "any"),
      lossd::flag("negate", false, "or not"), lossd::choice("way", "up", ways, "adds or takes 1000")};
  double value;
  explicit Attributes(lossd::attribute_values a)
      : value((a.real(0) + 10 * double(a.integer(1))) * (a.flag(2) ? -1 : 1) + (a.is(3, "up") ? 1000 : -1000)) {}
  template <class T> T loss(T x, T y) const { return x * y + T(value); }
  template <class T> T slope(T, T y) const { return y; }
};

// torch.nn.functional.multi_margin_loss with p = 1 and margin 1.
struct MultiMargin : lossd::rowwise_loss {
  static constexpr const char *name = "test_multi_margin";
  static constexpr const char *summary = "mean of max(0, 1 - x[target] + x[j]) over the other classes";
  template <class T> double loss(lossd::row<T> x, std::int64_t target) const {
    const T right = x[target];
    return (x.sum([=](T v) { return lossd::max(1 - right + v, T(0)); }) - 1) / double(x.size());
  }
  template <class T> void slope(lossd::row<T> x, std::int64_t target, T *slopes) const {
    const T right = x[target], part = 1 / T(x.size());
    T others = 0;
    for (std::int64_t j = 0; j < x.size(); j++) {
      slopes[j] = j != target && 1 - right + x[j] > 0 ? part : T(0);
      others += slopes[j];
    }
    slopes[target] = -others;
  }
};

// cross_entropy of class indices.
struct ClassEntropy : lossd::rowwise_loss {
  static constexpr const char *name = "test_class_entropy";
  static constexpr const char *summary = "-log_softmax(input)[target]";
  template <class T> double loss(lossd::row<T> x, std::int64_t target) const {
    const T m = x.max();
    return std::log(x.sum([=](T v) { return lossd::exp(v - m); })) - double(x[target] - m);
  }
  template <class T> void slope(lossd::row<T> x, std::int64_t target, T *slopes) const {
    const T m = x.max(), part = T(1 / x.sum([=](T v) { return lossd::exp(v - m); }));
    for (std::int64_t j = 0; j < x.size(); j++) slopes[j] = lossd::exp(x[j] - m) * part;
    slopes[target] -= 1;
  }
};

// cross_entropy of class probabilities.
struct SoftTarget : lossd::rowwise_loss {
  static constexpr const char *name = "test_soft_target";
  static constexpr const char *summary = "-sum(target * log_softmax(input))";
  static constexpr bool has_target_rows = true;
  template <class T> double loss(lossd::row<T> x, lossd::row<T> y) const {
    const T m = x.max();
    const double logarithm = std::log(x.sum([=](T v) { return lossd::exp(v - m); }));
    double sum = 0;
    for (std::int64_t j = 0; j < x.size(); j++) sum -= double(y[j]) * (double(x[j] - m) - logarithm);
    return sum;
  }
  template <class T> void slope(lossd::row<T> x, lossd::row<T> y, T *slopes) const {
    const T m = x.max();
    const T total = T(1 / x.sum([=](T v) { return lossd::exp(v - m); })), mass = T(y.sum([](T v) { return v; }));
    for (std::int64_t j = 0; j < x.size(); j++) slopes[j] = lossd::exp(x[j] - m) * total * mass - y[j];
  }
};

struct Throws : lossd::elementwise_loss {
  static constexpr const char *name = "test_throws";
  static constexpr const char *summary = "throws";
  static constexpr const char *const modes[] = {"failure", "runtime", "number", "memory", nullptr};
  static constexpr lossd::attribute attributes[] = {lossd::choice("mode", "failure", modes, "what"),
                                                    lossd::flag("early", false, "in plan, not in run")};
  int mode;
  explicit Throws(lossd::attribute_values a) : mode(a.text(0)[0]) {
    if (a.flag(1)) throw_it();
  }
  [[noreturn]] void throw_it() const {
    if (mode == 'f') throw lossd::failure(LOSSD_FAILED_PRECONDITION, "no licence was found");
    if (mode == 'r') throw std::runtime_error("something ran out");
    if (mode == 'm') throw std::bad_alloc();
    throw 42;
  }
  template <class T> T loss(T x, T) const {
    if (x < 1000) throw_it();
    return x;
  }
  template <class T> T slope(T, T) const { return 1; }
};

LOSSD_PLUGIN("test_wrapper", "1.0", lossd::elementwise<Squared>, lossd::elementwise<Huber>, lossd::elementwise<Alike>,
             lossd::elementwise<Attributes>, lossd::rowwise<MultiMargin>, lossd::rowwise<ClassEntropy>,
             lossd::rowwise<SoftTarget>, lossd::elementwise<Throws>)
