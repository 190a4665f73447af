// tweedie_loss: the negative log likelihood of what has Tweedie's distribution: often 0, else a positive amount, such
// as the claims of an insurance policy. The variance is mean^power times a constant; for 1 < power < 2 an amount is
// the sum of a Poisson distributed number of gamma distributed ones. x is the logarithm of the mean (a log link), y
// the amount. What does not depend on x is left out:
//
//     exp((2 - power) x) / (2 - power) - y exp((1 - power) x) / (1 - power)
//
// At the ends, where that divides by 0, the distributions are Poisson's and gamma, and the losses theirs:
//
//     power = 1: exp(x) - y x        power = 2: x + y exp(-x)
//
// Near an end the loss is far from the one at the end, which leaves out y / (power - 1) or 1 / (2 - power), too; the
// slope has no such step. Jorgensen (1987), "Exponential Dispersion Models". scikit-learn's HalfTweedieLoss is the
// same, XGBoost's reg:tweedie the same without the ends.
#include <lossd/plugin.hpp>

#include <limits>

struct Tweedie : lossd::elementwise_loss {
  static constexpr const char *name = "tweedie_loss";
  static constexpr const char *summary = "exp((2 - power) x) / (2 - power) + y exp((1 - power) x) / (power - 1)";
  static constexpr const char *input_help = "logarithms of the mean, any shape";
  static constexpr const char *target_help = "0 or positive amounts, broadcast to input";
  static constexpr bool broadcasts_target = true;
  static constexpr double cost_ns = 5;
  static constexpr lossd::attribute attributes[] = {
      lossd::real("power", 1.5, "the variance is mean^power; 1: Poisson, 2: gamma").at_least(1).at_most(2)};

  double power;
  explicit Tweedie(lossd::attribute_values a) : power(a.real(0)) {}

  // In float64 for float32, too: rounding k x costs exp(k x) up to |k x| ulps of the type it is computed in, and
  // exp(k x) may overflow where its product with a small y does not. Compilers take the choice of a power, which is
  // the same for all elements, out of the loop.
  template <class T> T loss(T input, T target) const {
    double x = input, y = target;
    // An infinite exponential is the loss, since it outgrows x: infinity - infinity would be NaN.
    if (power == 1) {
      double mean = lossd::exp(x);
      return T(mean == infinity ? mean + y : mean - times(y, x)); // y: it may be NaN
    }
    if (power == 2) {
      double ratio = times(y, lossd::exp(-x));
      return T(ratio == infinity ? ratio : x + ratio);
    }
    return T(lossd::exp((2 - power) * x) / (2 - power) + times(y, lossd::exp((1 - power) * x) / (power - 1)));
  }
  template <class T> T slope(T input, T target) const {
    double x = input, y = target;
    if (power == 1) return T(lossd::exp(x) - y);
    if (power == 2) return T(1 - times(y, lossd::exp(-x)));
    return T(lossd::exp((2 - power) * x) - times(y, lossd::exp((1 - power) * x)));
  }

  static constexpr double infinity = std::numeric_limits<double>::infinity();
  // y a, 0 for y = 0 and an infinite a.
  static double times(double y, double a) { return y == 0 ? 0 : y * a; }
};

LOSSD_PLUGIN("tweedie", "1.0", lossd::elementwise<Tweedie>)
