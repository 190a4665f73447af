// Part of lossd/plugin.hpp: losses of one input element and one target element.
#ifndef LOSSD_DETAIL_ELEMENTWISE_HPP
#define LOSSD_DETAIL_ELEMENTWISE_HPP

#include <lossd/detail/loss.hpp>

namespace lossd LOSSD_HIDDEN {

// What an elementwise loss derives from. It has to have: `name`, `summary`, and the two functions
// `template <class T> T loss(T x, T y) const` and `T slope(T x, T y) const`, the derivative by x. Members here are
// defaults that it may replace; `attributes` becomes an array, and then a constructor takes attribute_values.
// It is copied as bytes.
//
// input is of any shape; target has the same, or, with broadcasts_target, one that broadcasts to it; weight
// broadcasts to it. mean divides by the number of elements. The loss has the input's type.
struct LOSSD_VISIBLE elementwise_loss : loss_defaults {
  static constexpr const char *input_help = "predictions, any shape";
  static constexpr const char *target_help = "targets, like input";
  static constexpr bool broadcasts_target = false;
  static constexpr double cost_ns = 3; // an element, roughly
};

// The function of plugin.h that computes `Loss`.
template <class Loss> class elementwise {
  static_assert(std::is_trivially_copyable_v<Loss> && std::is_trivially_destructible_v<Loss>,
                "a loss is copied as bytes: give it numbers, not strings or vectors");
  enum { INPUT, TARGET, UPSTREAM, WEIGHT };
  static constexpr std::int64_t unit = 1024, tile = 256; // elements

  struct state {
    Loss loss;
    reduction how;
    detail::broadcast target, weight;
  };
  static_assert(sizeof(state) <= LOSSD_STATE_BYTES_MAX, "the loss has too many members");

 public:
  static const lossd_function *function() {
    static const lossd_input inputs[] = {
        {"input", Loss::input_help, LOSSD_FLOATING_TYPES, LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS, {0, 0}},
        {"target", Loss::target_help, detail::number_types,
         LOSSD_INPUT_REQUIRED | (Loss::broadcasts_target ? LOSSD_INPUT_BROADCAST : LOSSD_INPUT_ROWS), {0, 0}},
        {"grad.loss", "upstream gradient, like loss", LOSSD_FLOATING_TYPES, LOSSD_INPUT_UPSTREAM, {0, 0}},
        {"weight", "weight of each element, broadcasts to input", LOSSD_FLOATING_TYPES,
         LOSSD_INPUT_KEPT | LOSSD_INPUT_BROADCAST, {0, 0}}};
    static lossd_function function;
    detail::describe<Loss>(function, inputs, 4, sizeof(state));
    function.plan = plan;
    function.run = run;
    return &function;
  }

 private:
  static std::int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) noexcept {
    return guarded(error, [&]() -> std::int32_t {
      const lossd_tensor &x = call->inputs[INPUT], &y = call->inputs[TARGET], &w = call->inputs[WEIGHT];
      state *s = new (call->state) state{detail::make<Loss>(call), detail::reduction_of<Loss>(call), {}, {}};
      if (!s->target.set(y, x) || (!Loss::broadcasts_target && !detail::same_shape(y, x)))
        return detail::wrong_shape(error, "target", y, x);
      if (w.data_type != LOSSD_ABSENT && !s->weight.set(w, x)) return detail::wrong_shape(error, "weight", w, x);
      if (std::int32_t code = detail::plan_loss(call, plan, s->how, x, UPSTREAM, error)) return code;
      plan->passes[0].units = x.element_count / unit + (x.element_count % unit != 0);
      plan->passes[0].unit_cost_ns = Loss::cost_ns * static_cast<double>(unit);
      return LOSSD_OK;
    });
  }

  static std::int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) noexcept {
    return guarded(error, [&]() -> std::int32_t {
      if (call->inputs[INPUT].data_type == LOSSD_FLOAT64) elements<double>(call, chunk);
      else elements<float>(call, chunk);
      return LOSSD_OK;
    });
  }

  template <class T, bool has_gradient>
  LOSSD_LOOP static void compute(const Loss loss, const T *__restrict x, const T *__restrict y, T *__restrict losses,
                                 T *__restrict slopes, std::int64_t count) {
    for (std::int64_t i = 0; i < count; i++) {
      losses[i] = loss.loss(x[i], y[i]);
      if (has_gradient) slopes[i] = loss.slope(x[i], y[i]);
    }
  }

  template <class T> static void elements(const lossd_call *call, const lossd_chunk *chunk) {
    alignas(64) T own_x[tile], own_y[tile], factors[tile], losses[tile], own_slopes[tile];
    const state &s = *static_cast<const state *>(call->state);
    const lossd_tensor &x = call->inputs[INPUT], &y = call->inputs[TARGET];
    const lossd_tensor &weight = call->inputs[WEIGHT], &upstream = call->inputs[UPSTREAM];
    const lossd_tensor *per_element = s.how == reduction::none ? detail::output(call, detail::LOSS) : nullptr;
    const lossd_tensor *gradient = detail::output(call, detail::GRADIENT);
    const T scale = gradient ? static_cast<T>(detail::gradient_scale(call, s.how, UPSTREAM, static_cast<double>(x.element_count))) : T(0);
    const std::int64_t end = chunk->end * unit < x.element_count ? chunk->end * unit : x.element_count;
    for (std::int64_t at = chunk->begin * unit; at < end; at += tile) {
      const std::int64_t count = end - at < tile ? end - at : tile;
      const T *xs = detail::view(x, at, own_x, count);
      const T *ys = s.target.is_whole ? detail::view(y, at, own_y, count) : own_y;
      if (!s.target.is_whole) s.target.read(y, at, own_y, count);
      T *slopes = gradient && gradient->data_type == detail::type_of<T> ? static_cast<T *>(gradient->data) + at : own_slopes;
      if (gradient) compute<T, true>(s.loss, xs, ys, losses, slopes, count);
      else compute<T, false>(s.loss, xs, ys, losses, slopes, count);
      if (weight.data_type != LOSSD_ABSENT) {
        s.weight.read(weight, at, factors, count);
        detail::multiply(losses, factors, count);
        if (gradient) detail::multiply(slopes, factors, count);
      }
      chunk->accumulator[0] += detail::sum_of(losses, count);
      if (per_element) detail::store(losses, per_element->data, per_element->data_type, at, count);
      if (!gradient) continue;
      if (s.how == reduction::none && upstream.data_type != LOSSD_ABSENT) {
        detail::load(upstream.data, upstream.data_type, at, factors, count);
        detail::multiply(slopes, factors, count);
      }
      if (scale != T(1)) detail::multiply(slopes, scale, count);
      if (slopes == own_slopes) detail::store(slopes, gradient->data, gradient->data_type, at, count);
    }
    chunk->accumulator[1] += static_cast<double>(end - chunk->begin * unit);
  }
};

} // namespace lossd
#endif
