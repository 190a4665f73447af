// torch.nn.functional.poisson_nll_loss: the negative log likelihood of counts, exp(x) - y x, where x is the
// logarithm of the rate, or x - y log(x + eps) of the rate itself; full adds Stirling's approximation of log(y!).
#include <lossd/plugin.hpp>

struct PoissonNLL : lossd::elementwise_loss {
  static constexpr const char *name = "poisson_nll";
  static constexpr const char *summary = "exp(input) - target * input: counts, by the logarithm of their rate";
  static constexpr bool broadcasts_target = true;
  static constexpr lossd::attribute attributes[] = {
      lossd::flag("log_input", true, "input is the logarithm of the rate"),
      lossd::flag("full", false, "add Stirling's approximation of log(target!) where target > 1"),
      lossd::real("eps", 1e-8, "keeps log(input + eps) finite where log_input is false")};

  bool log_input, full;
  double eps;
  explicit PoissonNLL(lossd::attribute_values a) : log_input(a.flag(0)), full(a.flag(1)), eps(a.real(2)) {}

  template <class T> T loss(T x, T y) const {
    T value = log_input ? lossd::exp(x) - y * x : x - y * lossd::log(x + T(eps));
    T stirling = y * lossd::log(y) - y + T(0.5) * lossd::log(T(6.283185307179586) * y);
    return full && y > 1 ? value + stirling : value;
  }
  template <class T> T slope(T x, T y) const { return log_input ? lossd::exp(x) - y : 1 - y / (x + T(eps)); }
};

LOSSD_PLUGIN("poisson_nll", "1.0", lossd::elementwise<PoissonNLL>)
