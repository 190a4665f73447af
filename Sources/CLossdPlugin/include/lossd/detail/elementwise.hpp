// Part of lossd/plugin.hpp: losses of one input element and one target element.
#ifndef LOSSD_DETAIL_ELEMENTWISE_HPP
#define LOSSD_DETAIL_ELEMENTWISE_HPP

#include <lossd/detail/broadcast.hpp>
#include <lossd/detail/loss.hpp>

#include <utility>

namespace lossd LOSSD_HIDDEN {

// What an elementwise loss derives from. It has to have: `name`, `summary`, and the two functions
// `template <class T> T loss(T x, T y) const` and `T slope(T x, T y) const`, the derivative by x. With a third,
// `T target_slope(T x, T y) const`, the derivative by y, it has the output `grad.target`, of the target's shape and
// type, which is a floating-point one where it is wanted. Members here are defaults that it may replace; `attributes`
// becomes an array, and then a constructor takes attribute_values. It is copied as bytes.
//
// input is of any shape; target has the same, or, with broadcasts_target, the two broadcast with one another by torch's
// rules. weight broadcasts to the shape that they have together, and mean divides by its number of elements. The loss
// has the input's type. A gradient that is a sum over repetitions is summed in float64.
struct LOSSD_VISIBLE elementwise_loss : loss_defaults {
  static constexpr const char *input_help = "predictions, any shape";
  static constexpr const char *target_help = "targets, like input";
  static constexpr bool broadcasts_target = false;
  static constexpr double cost_ns = 3; // an element, roughly
};

namespace detail {

// Whether there is a target_slope; one that is not const counts, so that the compiler says what is wrong with it.
template <class Loss, class = void> struct has_target_slope : std::false_type {};
template <class Loss>
struct has_target_slope<Loss, std::void_t<decltype(std::declval<Loss &>().target_slope(1.0f, 1.0f))>> : std::true_type {};

} // namespace detail

// The function of plugin.h that computes `Loss`.
template <class Loss> class elementwise {
  static_assert(std::is_trivially_copyable_v<Loss> && std::is_trivially_destructible_v<Loss>,
                "a loss is copied as bytes: give it numbers, not strings or vectors");
  enum { INPUT, TARGET, UPSTREAM, WEIGHT };
  enum { TARGET_GRADIENT = detail::GRADIENT + 1 };
  static constexpr bool has_target_slope = detail::has_target_slope<Loss>::value;
  static constexpr std::int64_t unit = 1024, tile = detail::repeat_sums::tile; // elements

  struct state {
    Loss loss;
    reduction how;
    std::int64_t count; // elements of what input and target broadcast to
    bool is_whole;      // nothing is repeated: a flat index is the same in all tensors
    // The passes that sum a gradient over its operand's repetitions, 0: none. The pass after it adds up its pieces.
    std::uint32_t input_sums, target_sums;
  };
  static_assert(sizeof(state) <= LOSSD_STATE_BYTES_MAX, "the loss has too many members");

 public:
  static const lossd_function *function() {
    // Where they broadcast with one another, either may be the one that has the rows.
    constexpr std::uint32_t flags =
        LOSSD_INPUT_REQUIRED | (Loss::broadcasts_target ? LOSSD_INPUT_BROADCAST : LOSSD_INPUT_ROWS);
    static const lossd_input inputs[] = {
        {"input", Loss::input_help, LOSSD_FLOATING_TYPES, flags, {0, 0}},
        {"target", Loss::target_help, detail::number_types, flags, {0, 0}},
        {"grad.loss", "upstream gradient, like loss", LOSSD_FLOATING_TYPES, LOSSD_INPUT_UPSTREAM, {0, 0}},
        {"weight",
         Loss::broadcasts_target ? "weight of each element, broadcasts to what input and target broadcast to"
                                 : "weight of each element, broadcasts to input",
         LOSSD_FLOATING_TYPES, LOSSD_INPUT_KEPT | LOSSD_INPUT_BROADCAST, {0, 0}}};
    static lossd_function function;
    detail::describe<Loss>(function, inputs, 4, sizeof(state));
    if constexpr (has_target_slope) {
      static lossd_output outputs[TARGET_GRADIENT + 1];
      for (int i = 0; i < TARGET_GRADIENT; i++) outputs[i] = function.outputs[i];
      outputs[TARGET_GRADIENT] = {"grad.target", "gradient with respect to target", LOSSD_OUTPUT_ROWS, -1, {0, 0}};
      function.outputs = outputs;
      function.output_count = TARGET_GRADIENT + 1;
    }
    function.plan = plan;
    function.run = run;
    return &function;
  }

 private:
  static std::int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) noexcept {
    return guarded(error, [&]() -> std::int32_t {
      const lossd_tensor &x = call->inputs[INPUT], &y = call->inputs[TARGET], &w = call->inputs[WEIGHT];
      state *s = new (call->state) state{detail::make<Loss>(call), detail::reduction_of<Loss>(call), 0, false, 0, 0};
      if (!Loss::broadcasts_target && !detail::same_shape(y, x)) return detail::wrong_shape(error, "target", y, x);
      detail::broadcast_shape shape;
      if (std::int32_t code = shape.set(x, y, error)) return code;
      const lossd_tensor result = shape.tensor(x.data_type);
      s->count = shape.count;
      s->is_whole = x.element_count == shape.count && y.element_count == shape.count;
      if (w.data_type != LOSSD_ABSENT) {
        if (!shape.holds(w)) return detail::wrong_shape(error, "weight", w, result);
        s->is_whole = s->is_whole && w.element_count == shape.count;
      }
      if (std::int32_t code = detail::plan_loss(call, plan, s->how, result, UPSTREAM, error)) return code;
      if (call->wanted >> detail::GRADIENT & 1) plan_gradient(plan->outputs[detail::GRADIENT], x, shape.count);
      if (has_target_slope && call->wanted >> TARGET_GRADIENT & 1) {
        if (!(LOSSD_TYPE_BIT(y.data_type) & LOSSD_FLOATING_TYPES)) {
          std::snprintf(error->text, sizeof error->text, "target is %s, which has no gradient",
                        detail::exact_type_name(y.data_type));
          return LOSSD_INVALID_ARGUMENT;
        }
        plan_gradient(plan->outputs[TARGET_GRADIENT], y, shape.count);
      }
      const double cost = Loss::cost_ns + (s->is_whole ? 0 : 3 + 0.2 * shape.rank);
      plan->pass_count = 0;
      add_pass(plan, detail::parts(shape.count, unit), cost * static_cast<double>(unit));
      if (shape.count == 0) return LOSSD_OK;
      s->input_sums = plan_sums(call, plan, shape, x, detail::GRADIENT, cost);
      if (has_target_slope) s->target_sums = plan_sums(call, plan, shape, y, TARGET_GRADIENT, cost);
      return LOSSD_OK;
    });
  }

  static void plan_gradient(lossd_planned_output &gradient, const lossd_tensor &operand, std::int64_t count) {
    gradient.data_type = operand.data_type;
    gradient.rank = operand.rank;
    gradient.flags = count == 0 ? LOSSD_PLANNED_ZEROED : 0; // the sum of no repetitions
    for (std::uint32_t i = 0; i < operand.rank; i++) gradient.shape[i] = operand.shape[i];
  }

  static std::uint32_t add_pass(lossd_plan *plan, std::int64_t units, double cost) {
    plan->passes[plan->pass_count] = {units, cost};
    return plan->pass_count++;
  }

  static std::uint32_t plan_sums(const lossd_call *call, lossd_plan *plan, const detail::broadcast_shape &shape,
                                 const lossd_tensor &operand, int gradient, double cost) {
    if (operand.element_count == shape.count || !(call->wanted >> gradient & 1)) return 0;
    const detail::repeat_sums sums(shape, operand);
    // One operand after the other, so that both may use the same memory. More than anybody has is refused by the host.
    const std::int64_t most = std::int64_t(1) << 57, wanted = sums.partial_count();
    const std::size_t bytes = static_cast<std::size_t>(wanted < most ? wanted : most) * sizeof(double);
    if (plan->workspace_bytes < bytes) plan->workspace_bytes = bytes;
    const std::uint32_t pass = add_pass(plan, sums.units(), 100 + cost * sums.unit_count());
    if (sums.merge_units() > 0) add_pass(plan, sums.merge_units(), 0.5 * static_cast<double>(sums.pieces * tile));
    return pass;
  }

  static std::int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) noexcept {
    return guarded(error, [&]() -> std::int32_t {
      return call->inputs[INPUT].data_type == LOSSD_FLOAT64 ? pass<double>(call, chunk, error)
                                                            : pass<float>(call, chunk, error);
    });
  }

  // Tensors that may be repeated, in the order in which they are read.
  struct orders {
    detail::broadcast input, target, weight, upstream;
  };

  // A call's tensors and its tiles of elements.
  template <class T> struct tiles {
    alignas(64) T x[tile], y[tile], factors[tile], upstreams[tile], losses[tile], slopes[tile];
    const state &s;
    const lossd_tensor &input, &target, &weight, &upstream;
    const orders *order; // NULL: nothing is repeated
    const bool has_weight, has_upstream;

    tiles(const lossd_call *call, const orders *how)
        : s(*static_cast<const state *>(call->state)), input(call->inputs[INPUT]), target(call->inputs[TARGET]),
          weight(call->inputs[WEIGHT]), upstream(call->inputs[UPSTREAM]), order(how),
          has_weight(weight.data_type != LOSSD_ABSENT),
          has_upstream(s.how == reduction::none && upstream.data_type != LOSSD_ABSENT) {}

    static const T *view(const lossd_tensor &tensor, const detail::broadcast *how, std::int64_t at, T *own,
                         std::int64_t count) {
      return how ? how->view(tensor, at, own, count) : detail::view(tensor, at, own, count);
    }
    const T *inputs(std::int64_t at, std::int64_t count) {
      return view(input, order ? &order->input : nullptr, at, x, count);
    }
    const T *targets(std::int64_t at, std::int64_t count) {
      return view(target, order ? &order->target : nullptr, at, y, count);
    }
    const T *weights(std::int64_t at, std::int64_t count) {
      return has_weight ? view(weight, order ? &order->weight : nullptr, at, factors, count) : nullptr;
    }
    // Multiplies derivatives by their weights and upstream gradients, if there are any.
    void scale(T *derivatives, const T *by, std::int64_t at, std::int64_t count) {
      if (by) detail::multiply(derivatives, by, count);
      if (has_upstream)
        detail::multiply(derivatives, view(upstream, order ? &order->upstream : nullptr, at, upstreams, count), count);
    }
  };

  template <class T, bool has_gradient>
  LOSSD_LOOP static void compute(const Loss loss, const T *__restrict x, const T *__restrict y, T *__restrict losses,
                                 T *__restrict slopes, std::int64_t count) {
    for (std::int64_t i = 0; i < count; i++) {
      losses[i] = loss.loss(x[i], y[i]);
      if (has_gradient) slopes[i] = loss.slope(x[i], y[i]);
    }
  }

  template <class T, bool of_target>
  LOSSD_LOOP static void derive(const Loss loss, const T *__restrict x, const T *__restrict y, T *__restrict slopes,
                                std::int64_t count) {
    for (std::int64_t i = 0; i < count; i++) {
      if constexpr (of_target) slopes[i] = loss.target_slope(x[i], y[i]);
      else slopes[i] = loss.slope(x[i], y[i]);
    }
  }

  template <class T>
  static std::int32_t pass(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
    const state &s = *static_cast<const state *>(call->state);
    if (s.is_whole) {
      tiles<T> whole(call, nullptr);
      elements(call, chunk, whole);
      return LOSSD_OK;
    }
    if (chunk->pass == 0) {
      detail::broadcast_shape shape;
      if (std::int32_t code = shape.set(call->inputs[INPUT], call->inputs[TARGET], error)) return code;
      orders order;
      order.input.set(call->inputs[INPUT], shape);
      order.target.set(call->inputs[TARGET], shape);
      tiles<T> repeated(call, &order);
      if (repeated.has_weight) order.weight.set(repeated.weight, shape);
      if (repeated.has_upstream) order.upstream.set(repeated.upstream, shape);
      elements(call, chunk, repeated);
      return LOSSD_OK;
    }
    if constexpr (has_target_slope)
      if (s.target_sums > 0 && chunk->pass >= s.target_sums) return sums<T, true>(call, chunk, error);
    return sums<T, false>(call, chunk, error);
  }

  static double gradient_scale(const lossd_call *call, const state &s) {
    return detail::gradient_scale(call, s.how, UPSTREAM, static_cast<double>(s.count));
  }

  // The losses, and the derivatives by what is not repeated.
  template <class T> static void elements(const lossd_call *call, const lossd_chunk *chunk, tiles<T> &t) {
    const state &s = t.s;
    const lossd_tensor *per_element = s.how == reduction::none ? detail::output(call, detail::LOSS) : nullptr;
    const lossd_tensor *gradient = s.input_sums ? nullptr : detail::output(call, detail::GRADIENT);
    const lossd_tensor *target_gradient =
        !has_target_slope || s.target_sums ? nullptr : detail::output(call, TARGET_GRADIENT);
    const T scale = gradient || target_gradient ? static_cast<T>(gradient_scale(call, s)) : T(0);
    const std::int64_t end = chunk->end * unit < s.count ? chunk->end * unit : s.count;
    for (std::int64_t at = chunk->begin * unit; at < end; at += tile) {
      const std::int64_t count = end - at < tile ? end - at : tile;
      const T *xs = t.inputs(at, count), *ys = t.targets(at, count), *weights = t.weights(at, count);
      T *slopes = place(gradient, t, at);
      if (gradient) compute<T, true>(s.loss, xs, ys, t.losses, slopes, count);
      else compute<T, false>(s.loss, xs, ys, t.losses, slopes, count);
      if (weights) detail::multiply(t.losses, weights, count);
      chunk->accumulator[0] += detail::sum_of(t.losses, count);
      if (per_element) detail::store(t.losses, per_element->data, per_element->data_type, at, count);
      if (gradient) write(*gradient, t, slopes, weights, scale, at, count);
      if constexpr (has_target_slope) {
        if (!target_gradient) continue;
        slopes = place(target_gradient, t, at);
        derive<T, true>(s.loss, xs, ys, slopes, count);
        write(*target_gradient, t, slopes, weights, scale, at, count);
      }
    }
    chunk->accumulator[1] += static_cast<double>(end - chunk->begin * unit);
  }

  // Where derivatives are computed: in the gradient itself where it is of type T.
  template <class T> static T *place(const lossd_tensor *gradient, tiles<T> &t, std::int64_t at) {
    return gradient && gradient->data_type == detail::type_of<T> ? static_cast<T *>(gradient->data) + at : t.slopes;
  }

  template <class T>
  static void write(const lossd_tensor &gradient, tiles<T> &t, T *slopes, const T *weights, T scale, std::int64_t at,
                    std::int64_t count) {
    t.scale(slopes, weights, at, count);
    if (scale != T(1)) detail::multiply(slopes, scale, count);
    if (slopes == t.slopes) detail::store(slopes, gradient.data, gradient.data_type, at, count);
  }

  // ---- Gradients of operands that are repeated ----

  // Where the sums go.
  struct goal {
    const lossd_tensor &gradient;
    const detail::repeat_sums &plan;
    double *partials, scale;

    // Takes sums of one piece, at most a tile of them: as the gradient where there is no other piece.
    void put(double *values, std::int64_t first, std::int64_t count, std::int64_t piece) const {
      if (plan.pieces == 1) return store(values, first, count);
      std::memcpy(partials + piece * plan.elements + first, values, static_cast<std::size_t>(count) * sizeof(double));
    }
    // Adds up the pieces of a tile of elements.
    void merge(std::int64_t index) const {
      const std::int64_t first = index * tile, rest = plan.elements - first, count = rest < tile ? rest : tile;
      double values[tile] = {};
      for (std::int64_t piece = 0; piece < plan.pieces; piece++)
        detail::accumulate(values, partials + piece * plan.elements + first, count);
      store(values, first, count);
    }
    // Rounds once.
    void store(double *values, std::int64_t first, std::int64_t count) const {
      if (scale != 1) detail::multiply(values, scale, count);
      detail::store(values, gradient.data, gradient.data_type, first, count);
    }
  };

  template <class T, bool of_target>
  static std::int32_t sums(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
    const state &s = *static_cast<const state *>(call->state);
    const lossd_tensor *gradient = detail::output(call, of_target ? int(TARGET_GRADIENT) : int(detail::GRADIENT));
    if (!gradient) return LOSSD_OK;
    const lossd_tensor &operand = call->inputs[of_target ? TARGET : INPUT];
    detail::broadcast_shape shape;
    if (std::int32_t code = shape.set(call->inputs[INPUT], call->inputs[TARGET], error)) return code;
    const detail::repeat_sums plan(shape, operand);
    const goal to = {*gradient, plan, static_cast<double *>(call->workspace), gradient_scale(call, s)};
    if (chunk->pass != (of_target ? s.target_sums : s.input_sums)) {
      for (std::int64_t index = chunk->begin; index < chunk->end; index++) to.merge(index);
      return LOSSD_OK;
    }
    orders order;
    tiles<T> t(call, &order);
    order.input.set(t.input, shape, operand, plan);
    order.target.set(t.target, shape, operand, plan);
    if (t.has_weight) order.weight.set(t.weight, shape, operand, plan);
    if (t.has_upstream) order.upstream.set(t.upstream, shape, operand, plan);
    for (std::int64_t index = chunk->begin; index < chunk->end; index++) {
      const std::int64_t block = index / plan.pieces, piece = index % plan.pieces;
      const bool is_done = plan.is_own_inner ? add_own<T, of_target>(call, t, to, block, piece)
                                             : add_repeated<T, of_target>(call, t, to, block, piece);
      if (!is_done) return detail::report(error, LOSSD_INTERNAL, "cancelled");
    }
    return LOSSD_OK;
  }

  // At most a tile of them, with weights and upstream gradients, from `at` on in the order of the tiles.
  template <class T, bool of_target> static const T *derivatives(tiles<T> &t, std::int64_t at, std::int64_t count) {
    derive<T, of_target>(t.s.loss, t.inputs(at, count), t.targets(at, count), t.slopes, count);
    t.scale(t.slopes, t.weights(at, count), at, count);
    return t.slopes;
  }

  // Whether a unit of very many repetitions, which takes long, is to go on: asked every now and then.
  static bool goes_on(const lossd_call *call, int &tiles_until_check) {
    if (--tiles_until_check > 0) return true;
    tiles_until_check = 128;
    return call->host->cancelled(call) == 0;
  }

  // A block of elements that lie beside one another, in the order of their repetitions.
  template <class T, bool of_target>
  static bool add_own(const lossd_call *call, tiles<T> &t, const goal &to, std::int64_t block, std::int64_t piece) {
    const detail::repeat_sums &plan = to.plan;
    const std::int64_t first = block * plan.block_size, rest = plan.elements - first;
    const std::int64_t count = rest < plan.block_size ? rest : plan.block_size;
    // The whole of a small operand is taken several times at once.
    const std::int64_t together = count == plan.elements ? tile / count : 1;
    const std::int64_t begin = piece * plan.piece_size, more = plan.repeats - begin;
    const std::int64_t end = begin + (more < plan.piece_size ? more : plan.piece_size);
    double values[tile] = {};
    int tiles_until_check = 128;
    for (std::int64_t repetition = begin; repetition < end;) {
      const std::int64_t taken = end - repetition < together ? end - repetition : together;
      const T *slopes = derivatives<T, of_target>(t, repetition * plan.elements + first, taken * count);
      for (std::int64_t i = 0; i < taken; i++) detail::accumulate(values, slopes + i * count, count);
      repetition += taken;
      if (!goes_on(call, tiles_until_check)) return false;
    }
    to.put(values, first, count, piece);
    return true;
  }

  // A block of elements whose repetitions lie beside one another.
  template <class T, bool of_target>
  static bool add_repeated(const lossd_call *call, tiles<T> &t, const goal &to, std::int64_t block,
                           std::int64_t piece) {
    const detail::repeat_sums &plan = to.plan;
    const std::int64_t begin = block * plan.block_size, rest = plan.elements - begin;
    const std::int64_t end = begin + (rest < plan.block_size ? rest : plan.block_size);
    const std::int64_t more = plan.repeats - piece * plan.piece_size;
    const std::int64_t repetitions = more < plan.piece_size ? more : plan.piece_size;
    const std::int64_t together = plan.repeats < plan.group ? plan.group / plan.repeats : 1;
    int tiles_until_check = 128;
    for (std::int64_t element = begin; element < end;) {
      const std::int64_t taken = end - element < together ? end - element : together;
      const std::int64_t first = element * plan.repeats + piece * plan.piece_size;
      double values[tile] = {};
      for (std::int64_t done = 0; done < repetitions;) {
        const std::int64_t count = repetitions - done < plan.group ? repetitions - done : plan.group;
        const T *slopes = derivatives<T, of_target>(t, first + done, taken * count);
        for (std::int64_t i = 0; i < taken; i++) values[i] += detail::sum_of(slopes + i * count, count);
        done += count;
        if (!goes_on(call, tiles_until_check)) return false;
      }
      to.put(values, element, taken, piece);
      element += taken;
    }
    return true;
  }
};

} // namespace lossd
#endif
