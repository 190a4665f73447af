// wrapper_binary_loss: binary_cross_entropy_with_logits on plugin.hpp, to be measured beside the built-in one.
#include <lossd/plugin.hpp>

struct WrapperBinaryLoss : lossd::elementwise_loss {
  static constexpr const char *name = "wrapper_binary_loss";
  static constexpr const char *summary = "binary cross entropy of sigmoid(input)";
  template <class T> T loss(T x, T y) const {
    return lossd::softplus(-lossd::abs(x)) + (x < 0 ? -x * y : x * (1 - y));
  }
  template <class T> T slope(T x, T y) const { return lossd::sigmoid(x) - y; }
};

LOSSD_PLUGIN("wrapper_binary_loss", "1.0", lossd::elementwise<WrapperBinaryLoss>)
