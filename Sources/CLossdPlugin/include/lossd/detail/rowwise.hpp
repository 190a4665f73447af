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
// The loss has the input's type. Of classes, as torch.nn.functional.cross_entropy has them: input is (C), (N, C) or
// (N, C, d1, ..., dk), target has integers and the input's shape without C, 0 <= target < C. There are the input
// `weight`, (C) and of the input's type, and the attribute `ignore_index`, -100 by default: a row's loss and slopes are
// multiplied by the weight of the row's class, and by 0 where the target is ignore_index; mean divides by the sum of these
// factors. The two functions are not called for ignored rows. Of target rows: input is (C) or (N, C), target has its
// shape, mean divides by the number of rows.
struct LOSSD_VISIBLE rowwise_loss : loss_defaults {
  static constexpr const char *input_help = nullptr;
  static constexpr bool has_target_rows = false;
  static constexpr double cost_ns = 3; // a class, roughly
};

namespace detail {

// Where the rows of an input lie: row r begins at start(r), its elements are `inner` apart.
struct row_places {
  std::int64_t rows = 1, classes = 0, inner = 1;

  explicit row_places(const lossd_tensor &x) {
    classes = x.shape[x.rank == 1 ? 0 : 1];
    if (x.rank > 1) rows = x.shape[0];
    for (std::uint32_t i = 2; i < x.rank; i++) {
      inner *= x.shape[i];
      rows *= x.shape[i];
    }
  }
  std::int64_t start(std::int64_t row) const { return row / inner * classes * inner + row % inner; }
  // Rows that are read at once where their elements lie apart.
  std::int64_t block() const { return inner == 1 || classes > 1 << 12 ? 1 : 16; }
  // Elements of type double that a chunk needs: the rows of a block, one of targets, the slopes, a line across the rows.
  std::size_t scratch() const { return static_cast<std::size_t>((2 * block() + 1) * classes + block()); }
};

// Rows whose elements lie apart, one behind another. `line`: room for `count` elements.
template <class T>
void gather(const lossd_tensor &x, std::int64_t start, const row_places &places, std::int64_t count, T *rows, T *line) {
  for (std::int64_t i = 0; i < places.classes; i++) {
    load(x.data, x.data_type, start + i * places.inner, line, count);
    for (std::int64_t row = 0; row < count; row++) rows[row * places.classes + i] = line[row];
  }
}

// The way back.
template <class T>
void scatter(const T *rows, const lossd_tensor &x, std::int64_t start, const row_places &places, std::int64_t count, T *line) {
  for (std::int64_t i = 0; i < places.classes; i++) {
    for (std::int64_t row = 0; row < count; row++) line[row] = rows[row * places.classes + i];
    store(line, x.data, x.data_type, start + i * places.inner, count);
  }
}

} // namespace detail

template <class Loss> class rowwise {
  static_assert(std::is_trivially_copyable_v<Loss> && std::is_trivially_destructible_v<Loss>,
                "a loss is copied as bytes: give it numbers, not strings or vectors");
  enum { INPUT, TARGET, UPSTREAM, WEIGHT };
  static constexpr bool has_rows = Loss::has_target_rows;
  static constexpr const char *shapes = has_rows ? "(C) or (N, C)" : "(C), (N, C) or (N, C, d1, ..., dk)";
  static constexpr int ignore_index = detail::attribute_count<Loss>() + 1;

  struct state {
    Loss loss;
    reduction how;
    detail::row_places places;
    // Rows without elements, whose losses are all alike and wanted as a sum alone: one stands for all.
    bool is_one_for_all;
    // A pass over the targets comes first, for the sum of the weights.
    bool sums_weights_first;
    std::int64_t ignored;
  };
  static_assert(sizeof(state) <= LOSSD_STATE_BYTES_MAX, "the loss has too many members");

 public:
  static const lossd_function *function() {
    static const lossd_input inputs[] = {
        {"input", Loss::input_help ? Loss::input_help : has_rows ? "scores, (C) or (N, C)" : "scores, (C), (N, C) or (N, C, d1, ..., dk)",
         LOSSD_FLOATING_TYPES, LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS | LOSSD_INPUT_CLASSES, {0, 0}},
        {"target",
         has_rows ? "a row of targets for each of input, of its shape" : "the class of each row: input's shape without its classes",
         has_rows ? LOSSD_FLOATING_TYPES : LOSSD_INTEGER_TYPES, LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS, {0, 0}},
        {"grad.loss", "upstream gradient, like loss", LOSSD_FLOATING_TYPES, LOSSD_INPUT_UPSTREAM, {0, 0}},
        {"weight", "weight of each class, (C), of input's type", LOSSD_FLOATING_TYPES, LOSSD_INPUT_KEPT, {0, 0}}};
    static lossd_function function;
    static const attribute ignored = integer("ignore_index", -100, "targets of this value do not count");
    detail::describe<Loss>(function, inputs, has_rows ? 3 : 4, sizeof(state), has_rows ? nullptr : &ignored);
    function.plan = plan;
    function.run = run;
    return &function;
  }

 private:
  static std::int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) noexcept {
    return guarded(error, [&]() -> std::int32_t {
      const lossd_tensor &x = call->inputs[INPUT], &y = call->inputs[TARGET];
      if (x.rank == 0 || (has_rows && x.rank > 2)) {
        char text[128];
        std::snprintf(error->text, sizeof error->text, "input is %s, expected %s",
                      detail::shape_text(x.shape, x.rank, text), shapes);
        return LOSSD_INVALID_ARGUMENT;
      }
      const detail::row_places places(x);
      state *s = new (call->state) state{detail::make<Loss>(call), detail::reduction_of<Loss>(call), places, false, false, 0};
      s->is_one_for_all = has_rows && places.classes == 0 && places.rows > 0 &&
                          !(s->how == reduction::none && detail::output(call, detail::LOSS));
      lossd_tensor loss_shape = x;
      if constexpr (has_rows) {
        if (!detail::same_shape(y, x)) return detail::wrong_shape(error, "target", y, x);
        loss_shape.rank = x.rank - 1;
      } else {
        if (std::int32_t code = check(call, error, places)) return code;
        loss_shape.rank = x.rank == 1 ? 0 : y.rank;
        loss_shape.shape = y.shape;
        s->ignored = call->attributes[ignore_index].as.integer;
        s->sums_weights_first = s->how == reduction::mean && detail::output(call, detail::GRADIENT);
      }
      if (std::int32_t code = detail::plan_loss(call, plan, s->how, x, UPSTREAM, error, &loss_shape)) return code;
      // A tensor without elements may have a dimension of nearly 2^63.
      if (x.element_count > 0) plan->scratch_bytes = places.scratch() * sizeof(double);
      if (x.rank == 1) plan->rows = 1;
      int pass = 0;
      if (s->sums_weights_first) {
        plan->passes[pass].units = places.rows;
        plan->passes[pass++].unit_cost_ns = 2;
      }
      plan->passes[pass].units = s->is_one_for_all ? 1 : places.rows;
      plan->passes[pass].unit_cost_ns = 20 + Loss::cost_ns * static_cast<double>(places.classes);
      plan->pass_count = static_cast<std::uint32_t>(pass + 1);
      return LOSSD_OK;
    });
  }

  // That class indices and weights are of the right shapes and types.
  static std::int32_t check(const lossd_call *call, lossd_error *error, const detail::row_places &places) {
    const lossd_tensor &x = call->inputs[INPUT], &y = call->inputs[TARGET], &w = call->inputs[WEIGHT];
    char have[128], want[128];
    // torch takes (1) for the () of an input (C).
    bool is_right = y.rank == x.rank - 1 || (x.rank == 1 && y.rank == 1 && y.element_count == 1);
    for (std::uint32_t i = 0; x.rank > 1 && is_right && i < y.rank; i++) is_right = y.shape[i] == x.shape[i ? i + 1 : 0];
    if (!is_right) {
      std::snprintf(error->text, sizeof error->text, "target is %s, expected input %s without its classes",
                    detail::shape_text(y.shape, y.rank, have), detail::shape_text(x.shape, x.rank, want));
      return LOSSD_INVALID_ARGUMENT;
    }
    if (w.data_type == LOSSD_ABSENT || (w.rank == 1 && w.shape[0] == places.classes && w.data_type == x.data_type)) return LOSSD_OK;
    std::snprintf(error->text, sizeof error->text, "weight is %s %s, expected %s (%lld,)", detail::type_name(w.data_type),
                  detail::shape_text(w.shape, w.rank, have), detail::type_name(x.data_type),
                  static_cast<long long>(places.classes));
    return LOSSD_INVALID_ARGUMENT;
  }

  // The class of a row into `label`: -1 where it does not count.
  static std::int32_t label_of(const state &s, const lossd_tensor &y, std::int64_t index, std::int64_t &label, lossd_error *error) {
    label = detail::load_integer(y.data, y.data_type, index);
    if (label == s.ignored) label = -1;
    else if (label < 0 || label >= s.places.classes) {
      char place[128] = "0";
      std::int64_t at[LOSSD_RANK_MAX], rest = index;
      for (std::uint32_t i = y.rank; i-- > 0; rest /= y.shape[i]) at[i] = rest % y.shape[i];
      int length = 0;
      for (std::uint32_t i = 0; i < y.rank && length < 100; i++)
        length += std::snprintf(place + length, sizeof place - static_cast<std::size_t>(length), i ? ", %lld" : "%lld",
                                static_cast<long long>(at[i]));
      std::snprintf(error->text, sizeof error->text, "target[%s] is %lld, outside [0, %lld)", place,
                    static_cast<long long>(label), static_cast<long long>(s.places.classes));
      return LOSSD_INVALID_ARGUMENT;
    }
    return LOSSD_OK;
  }

  static double element(const lossd_tensor &x, std::int64_t index) {
    double value = 0;
    detail::load(x.data, x.data_type, index, &value, 1);
    return value;
  }

  static std::int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) noexcept {
    return guarded(error, [&] {
      const state &s = *static_cast<const state *>(call->state);
      if (s.sums_weights_first && chunk->pass == 0) return weigh(s, call, chunk, error);
      return call->inputs[INPUT].data_type == LOSSD_FLOAT64 ? rows<double>(s, call, chunk, error)
                                                            : rows<float>(s, call, chunk, error);
    });
  }

  static std::int32_t weigh(const state &s, const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
    const lossd_tensor &w = call->inputs[WEIGHT];
    for (std::int64_t i = chunk->begin; i < chunk->end; i++) {
      std::int64_t label;
      if (std::int32_t code = label_of(s, call->inputs[TARGET], i, label, error)) return code;
      if (label >= 0) chunk->accumulator[1] += w.data_type == LOSSD_ABSENT ? 1 : element(w, label);
    }
    return LOSSD_OK;
  }

  template <class T>
  static std::int32_t rows(const state &s, const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
    const Loss loss = s.loss;
    const lossd_tensor &x = call->inputs[INPUT], &y = call->inputs[TARGET], &up = call->inputs[UPSTREAM];
    const lossd_tensor *w = has_rows || call->inputs[WEIGHT].data_type == LOSSD_ABSENT ? nullptr : &call->inputs[WEIGHT];
    const lossd_tensor *per_row = s.how == reduction::none ? detail::output(call, detail::LOSS) : nullptr;
    const lossd_tensor *gradient = detail::output(call, detail::GRADIENT);
    const double divisor = s.sums_weights_first ? call->totals[1] : static_cast<double>(s.places.rows);
    const double scale = detail::gradient_scale(call, s.how, UPSTREAM, divisor);
    const std::int64_t classes = s.places.classes, inner = s.places.inner, block = s.places.block();
    if constexpr (has_rows) {
      if (s.is_one_for_all) {
        const row<T> nothing(nullptr, 0);
        chunk->accumulator[0] += loss.loss(nothing, nothing) * static_cast<double>(s.places.rows);
        chunk->accumulator[1] += static_cast<double>(s.places.rows);
        return LOSSD_OK;
      }
    }
    T *own_x = static_cast<T *>(chunk->scratch), *own_y = own_x + block * classes, *own_slopes = own_y + classes;
    T *line = own_slopes + block * classes;
    const bool is_in_place = gradient && gradient->data_type == detail::type_of<T> && inner == 1;
    for (std::int64_t at = chunk->begin, count; at < chunk->end; at += count) {
      count = inner - at % inner < block ? inner - at % inner : block;
      if (count > chunk->end - at) count = chunk->end - at;
      const std::int64_t start = s.places.start(at);
      if (inner > 1) detail::gather(x, start, s.places, count, own_x, line);
      for (std::int64_t i = 0; i < count; i++) {
        T *slopes = is_in_place ? static_cast<T *>(gradient->data) + start : own_slopes + i * classes;
        std::int64_t label = 0;
        if constexpr (!has_rows)
          if (std::int32_t code = label_of(s, y, at + i, label, error)) return code;
        double value = 0;
        if (label < 0) {
          for (std::int64_t k = 0; gradient && k < classes; k++) slopes[k] = 0;
        } else {
          const row<T> xs(inner > 1 ? own_x + i * classes : detail::view(x, start, own_x, classes), classes);
          const double own = w ? element(*w, label) : 1;
          if constexpr (has_rows) {
            const row<T> ys(detail::view(y, start, own_y, classes), classes);
            value = loss.loss(xs, ys);
            if (gradient) loss.slope(xs, ys, slopes);
          } else {
            value = own * loss.loss(xs, label);
            if (gradient) loss.slope(xs, label, slopes);
          }
          if (!s.sums_weights_first) chunk->accumulator[1] += own;
          double factor = scale;
          if (s.how == reduction::none && up.data_type != LOSSD_ABSENT) factor = element(up, at + i);
          factor *= own;
          if (gradient && factor != 1) detail::multiply(slopes, static_cast<T>(factor), classes);
        }
        chunk->accumulator[0] += value;
        if (per_row) detail::store(&value, per_row->data, per_row->data_type, at + i, 1);
        if (gradient && inner == 1 && !is_in_place) detail::store(slopes, gradient->data, gradient->data_type, start, classes);
      }
      if (gradient && inner > 1) detail::scatter(own_slopes, *gradient, start, s.places, count, line);
    }
    return LOSSD_OK;
  }
};

} // namespace lossd
#endif
