// Part of lossd/plugin.hpp: losses of one row of classes at a time.
//
//     struct MultiMargin : lossd::rowwise_loss {
//       static constexpr const char *name = "my_multi_margin";
//       static constexpr const char *summary = "mean of max(0, 1 - x[target] + x[j]) over the other classes";
//       template <class T> double loss(lossd::row<T> x, std::int64_t target) const {
//         T right = x[target];
//         return (x.sum([=](T v) { return lossd::max(1 - right + v, T(0)); }) - 1) / double(x.size());
//       }
//       template <class T> void slope(lossd::row<T> x, std::int64_t target, T *slopes) const { ... }
//     };
//     LOSSD_PLUGIN("my_multi_margin", "1.0", lossd::rowwise<MultiMargin>)
#ifndef LOSSD_DETAIL_ROWWISE_HPP
#define LOSSD_DETAIL_ROWWISE_HPP

#include <lossd/detail/loss.hpp>

namespace lossd LOSSD_HIDDEN {

// A row of numbers, borrowed.
template <class T> class LOSSD_VISIBLE row {
 public:
  row(const T *data, std::int64_t size) : data_(data), size_(size) {}
  std::int64_t size() const { return size_; }
  T operator[](std::int64_t index) const { return data_[index]; }
  const T *begin() const { return data_; }
  const T *end() const { return data_ + size_; }

  // The sum of f over the elements, in float64; f is called in loops that become vectors.
  template <class F> double sum(F f) const {
    T part[64];
    double total = 0;
    for (std::int64_t at = 0; at < size_; at += 64) {
      const std::int64_t count = size_ - at < 64 ? size_ - at : 64;
      for (std::int64_t i = 0; i < count; i++) part[i] = f(data_[at + i]);
      total += detail::sum_of(part, count);
    }
    return total;
  }

  // The largest element; NaN where one is. Of a row without elements -infinity.
  T max() const {
    T part[8], result = -T(INFINITY);
    bool has_nan = false;
    for (T &lane : part) lane = result;
    std::int64_t i = 0;
    for (; i + 8 <= size_; i += 8)
      for (int lane = 0; lane < 8; lane++) {
        const T x = data_[i + lane];
        has_nan |= x != x;
        part[lane] = part[lane] < x ? x : part[lane];
      }
    for (; i < size_; i++) {
      has_nan |= data_[i] != data_[i];
      part[0] = part[0] < data_[i] ? data_[i] : part[0];
    }
    for (T lane : part) result = result < lane ? lane : result;
    return has_nan ? T(NAN) : result;
  }

 private:
  const T *data_;
  std::int64_t size_;
};

// What a row-wise loss derives from. It has to have `name`, `summary`, and, with T float or double,
//
//     template <class T> double loss(lossd::row<T> x, std::int64_t target) const
//     template <class T> void slope(lossd::row<T> x, std::int64_t target, T *slopes) const
//
// of which the second writes the derivative by each element of x. With has_target_rows the target is a
// lossd::row<T>, too. Members here are defaults that it may replace. It is copied as bytes.
//
// input is (C) or (N, C). target is a class a row, () or (N), 0 <= target < C, or has the input's shape.
// mean divides by the number of rows. The loss has the input's type.
struct LOSSD_VISIBLE rowwise_loss : loss_defaults {
  static constexpr const char *input_help = "scores, (C) or (N, C)";
  static constexpr bool has_target_rows = false;
  static constexpr double cost_ns = 3; // a class, roughly
};

template <class Loss> class rowwise {
  static_assert(std::is_trivially_copyable_v<Loss> && std::is_trivially_destructible_v<Loss>,
                "a loss is copied as bytes: give it numbers, not strings or vectors");
  enum { INPUT, TARGET, UPSTREAM };
  static constexpr bool has_rows = Loss::has_target_rows;

  struct state {
    Loss loss;
    reduction how;
    std::int64_t rows, classes;
    // Rows without elements, whose losses are all alike and wanted as a sum alone: one stands for all.
    bool is_one_for_all;
  };
  static_assert(sizeof(state) <= LOSSD_STATE_BYTES_MAX, "the loss has too many members");

 public:
  static const lossd_function *function() {
    static const lossd_input inputs[] = {
        {"input", Loss::input_help, LOSSD_FLOATING_TYPES,
         LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS | LOSSD_INPUT_CLASSES, {0, 0}},
        {"target", has_rows ? "a row of targets for each of input, of its shape" : "the class of each row, () or (N)",
         has_rows ? LOSSD_FLOATING_TYPES : LOSSD_INTEGER_TYPES, LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS, {0, 0}},
        {"grad.loss", "upstream gradient, like loss", LOSSD_FLOATING_TYPES, LOSSD_INPUT_UPSTREAM, {0, 0}}};
    static lossd_function function;
    detail::describe<Loss>(function, inputs, 3, sizeof(state));
    function.plan = plan;
    function.run = run;
    return &function;
  }

 private:
  static std::int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) noexcept {
    return guarded(error, [&]() -> std::int32_t {
      const lossd_tensor &x = call->inputs[INPUT], &y = call->inputs[TARGET];
      if (x.rank != 1 && x.rank != 2) {
        char text[128];
        std::snprintf(error->text, sizeof error->text, "input is %s, expected (C) or (N, C)",
                      detail::shape_text(x.shape, x.rank, text));
        return LOSSD_INVALID_ARGUMENT;
      }
      const std::int64_t classes = x.shape[x.rank - 1], rows = x.rank == 2 ? x.shape[0] : 1;
      state *s = new (call->state) state{detail::make<Loss>(call), detail::reduction_of<Loss>(call), rows, classes, false};
      s->is_one_for_all = has_rows && classes == 0 && rows > 0 &&
                          !(s->how == reduction::none && detail::output(call, detail::LOSS));
      lossd_tensor expected = x;
      if (!has_rows) expected.rank = x.rank - 1;
      if (!detail::same_shape(y, expected)) return detail::wrong_shape(error, "target", y, expected);
      if (std::int32_t code = detail::plan_loss(call, plan, s->how, x, UPSTREAM, error, x.rank - 1)) return code;
      // Two rows and a gradient, where they are not of type T already. A tensor without elements may have a dimension
      // of nearly 2^63.
      if (x.element_count > 0) plan->scratch_bytes = static_cast<std::size_t>(classes) * 3 * sizeof(double);
      plan->passes[0].units = s->is_one_for_all ? 1 : rows;
      plan->passes[0].unit_cost_ns = 20 + Loss::cost_ns * static_cast<double>(classes);
      return LOSSD_OK;
    });
  }

  static std::int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) noexcept {
    return guarded(error, [&] {
      return call->inputs[INPUT].data_type == LOSSD_FLOAT64 ? rows<double>(call, chunk, error)
                                                            : rows<float>(call, chunk, error);
    });
  }

  template <class T>
  static std::int32_t rows(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
    const state &s = *static_cast<const state *>(call->state);
    const Loss loss = s.loss;
    const lossd_tensor &x = call->inputs[INPUT], &y = call->inputs[TARGET], &up = call->inputs[UPSTREAM];
    const lossd_tensor *per_row = s.how == reduction::none ? detail::output(call, detail::LOSS) : nullptr;
    const lossd_tensor *gradient = detail::output(call, detail::GRADIENT);
    const double scale = detail::gradient_scale(call, s.how, UPSTREAM, s.rows);
    const std::int64_t classes = s.classes;
    if constexpr (has_rows) {
      if (s.is_one_for_all) {
        const row<T> nothing(nullptr, 0);
        chunk->accumulator[0] += loss.loss(nothing, nothing) * static_cast<double>(s.rows);
        chunk->accumulator[1] += static_cast<double>(s.rows);
        return LOSSD_OK;
      }
    }
    T *own_x = static_cast<T *>(chunk->scratch), *own_y = own_x + classes, *own_slopes = own_y + classes;
    for (std::int64_t i = chunk->begin; i < chunk->end; i++) {
      const row<T> xs(detail::view(x, i * classes, own_x, classes), classes);
      T *slopes = own_slopes;
      if (gradient && gradient->data_type == detail::type_of<T>) slopes = static_cast<T *>(gradient->data) + i * classes;
      double value;
      if constexpr (has_rows) {
        const row<T> ys(detail::view(y, i * classes, own_y, classes), classes);
        value = loss.loss(xs, ys);
        if (gradient) loss.slope(xs, ys, slopes);
      } else {
        const std::int64_t label = detail::load_integer(y.data, y.data_type, i);
        if (label < 0 || label >= classes) {
          std::snprintf(error->text, sizeof error->text, "target[%lld] is %lld, outside [0, %lld)",
                        static_cast<long long>(i), static_cast<long long>(label), static_cast<long long>(classes));
          return LOSSD_INVALID_ARGUMENT;
        }
        value = loss.loss(xs, label);
        if (gradient) loss.slope(xs, label, slopes);
      }
      chunk->accumulator[0] += value;
      if (per_row) detail::store(&value, per_row->data, per_row->data_type, i, 1);
      if (!gradient) continue;
      double factor = scale;
      if (s.how == reduction::none && up.data_type != LOSSD_ABSENT) detail::load(up.data, up.data_type, i, &factor, 1);
      if (factor != 1) detail::multiply(slopes, static_cast<T>(factor), classes);
      if (slopes == own_slopes) detail::store(slopes, gradient->data, gradient->data_type, i * classes, classes);
    }
    chunk->accumulator[1] += static_cast<double>(chunk->end - chunk->begin);
    return LOSSD_OK;
  }
};

} // namespace lossd
#endif
