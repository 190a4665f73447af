// Part of lossd/plugin.hpp: what elementwise and row-wise losses have in common.
#ifndef LOSSD_DETAIL_LOSS_HPP
#define LOSSD_DETAIL_LOSS_HPP

#include <lossd/detail/numbers.hpp>

#if defined(__GNUC__) || defined(__clang__)
// A loop with everything that it calls inlined, and by itself, so that the compiler knows that nothing overlaps.
#define LOSSD_LOOP __attribute__((noinline, flatten))
#else
#define LOSSD_LOOP
#endif

namespace lossd LOSSD_HIDDEN {

struct LOSSD_VISIBLE loss_defaults {
  static constexpr const attribute *attributes = nullptr;
  static constexpr reduction default_reduction = reduction::mean;
};

namespace detail {

enum { LOSS, GRADIENT }; // outputs

constexpr std::uint32_t number_types = LOSSD_FLOATING_TYPES | LOSSD_INTEGER_TYPES | LOSSD_TYPE_BIT(LOSSD_BOOL);

// The attributes that a loss declares; `reduction` comes after them.
template <class Loss> constexpr int attribute_count() {
  if constexpr (std::is_array_v<decltype(Loss::attributes)>)
    return static_cast<int>(sizeof Loss::attributes / sizeof Loss::attributes[0]);
  else return 0;
}

template <class Loss> Loss make(const lossd_call *call) {
  if constexpr (std::is_constructible_v<Loss, attribute_values>) return Loss(attribute_values(call->attributes));
  else return Loss();
}

template <class Loss> reduction reduction_of(const lossd_call *call) {
  return reduction_of(call->attributes[attribute_count<Loss>()]);
}

template <class Loss>
std::int32_t finish(const lossd_function *, const lossd_value *attributes, const double *sums, double *values,
                    std::uint64_t *present, lossd_error *) noexcept {
  return finish_loss(attributes[attribute_count<Loss>()], sums, values, present);
}

// `last`: an attribute that comes after `reduction`.
template <class Loss>
void describe(lossd_function &function, const lossd_input *inputs, std::uint32_t input_count, std::size_t state_bytes,
              const attribute *last = nullptr) {
  static const lossd_output outputs[] = {
      {"loss", "scalar, or one an element or row for reduction=none", LOSSD_OUTPUT_DEFAULT | LOSSD_OUTPUT_ROWS, -1, {0, 0}},
      {"grad.input", "gradient with respect to input", LOSSD_OUTPUT_ROWS, -1, {0, 0}}};
  constexpr int own = attribute_count<Loss>();
  static lossd_attribute attributes[own + 2];
  for (int i = 0; i < own; i++) attributes[i] = declared(Loss::attributes[i]);
  attributes[own] = declared(choice("reduction", reductions[static_cast<int>(Loss::default_reduction)], reductions,
                                    "none: a loss an element or row; mean; sum"));
  attributes[own].flags |= LOSSD_ATTRIBUTE_REDUCTION;
  if (last) attributes[own + 1] = declared(*last);
  function.struct_size = sizeof function;
  function.kind = LOSSD_KIND_LOSS;
  function.name = Loss::name;
  function.summary = Loss::summary;
  function.inputs = inputs;
  function.input_count = input_count;
  function.outputs = outputs;
  function.output_count = 2;
  function.attributes = attributes;
  function.attribute_count = own + (last ? 2 : 1);
  function.accumulators = loss_sums;
  function.accumulator_count = 2;
  function.values = loss_values;
  function.value_count = 1;
  function.state_bytes = static_cast<std::uint32_t>(state_bytes);
  function.finish = finish<Loss>;
}

inline bool same_shape(const lossd_tensor &a, const lossd_tensor &b) {
  if (a.rank != b.rank) return false;
  for (std::uint32_t i = 0; i < a.rank; i++)
    if (a.shape[i] != b.shape[i]) return false;
  return true;
}

inline std::int32_t wrong_shape(lossd_error *error, const char *name, const lossd_tensor &is,
                                const lossd_tensor &expected) {
  char have[128], want[128];
  std::snprintf(error->text, sizeof error->text, "%s is %s, expected %s", name, shape_text(is.shape, is.rank, have),
                shape_text(expected.shape, expected.rank, want));
  return LOSSD_INVALID_ARGUMENT;
}

// Outputs, rows and the upstream gradient's check, of a loss whose shape for reduction=none is `loss_shape`'s, `input`'s
// where there is none.
inline std::int32_t plan_loss(const lossd_call *call, lossd_plan *plan, reduction how, const lossd_tensor &input,
                              int upstream, lossd_error *error, const lossd_tensor *loss_shape = nullptr) {
  lossd_tensor shape = loss_shape ? *loss_shape : input;
  if (how != reduction::none) shape.rank = 0;
  const lossd_tensor &up = call->inputs[upstream];
  if (up.data_type != LOSSD_ABSENT) {
    // One for all may be float64: batches of a mean get theirs over the sum of all weights.
    const bool is_wide = how != reduction::none && up.data_type == LOSSD_FLOAT64;
    if (!same_shape(up, shape) || (up.data_type != input.data_type && !is_wide)) {
      char have[128], want[128];
      std::snprintf(error->text, sizeof error->text, "grad.loss is %s %s, expected %s %s", type_name(up.data_type),
                    shape_text(up.shape, up.rank, have), type_name(input.data_type),
                    shape_text(shape.shape, shape.rank, want));
      return LOSSD_INVALID_ARGUMENT;
    }
  }
  if (call->wanted >> LOSS & 1) {
    lossd_planned_output &loss = plan->outputs[LOSS];
    loss.data_type = input.data_type;
    loss.rank = shape.rank;
    loss.flags = how == reduction::none ? 0 : LOSSD_PLANNED_REDUCED;
    for (std::uint32_t i = 0; i < shape.rank; i++) loss.shape[i] = shape.shape[i];
  }
  if (call->wanted >> GRADIENT & 1) {
    lossd_planned_output &gradient = plan->outputs[GRADIENT];
    gradient.data_type = input.data_type;
    gradient.rank = input.rank;
    for (std::uint32_t i = 0; i < input.rank; i++) gradient.shape[i] = input.shape[i];
  }
  // A tensor without elements may have more rows than anybody counts; then as many as the host takes for true.
  const std::int64_t rows_max = std::int64_t(1) << 48;
  plan->rows = input.rank == 0 ? 1 : input.shape[0] < rows_max ? input.shape[0] : rows_max;
  plan->pass_count = 1;
  return LOSSD_OK;
}

inline const lossd_tensor *output(const lossd_call *call, int index) {
  return call->wanted >> index & 1 ? &call->outputs[index] : nullptr;
}

// What every gradient is multiplied by: the upstream gradient of a reduced loss, over `divisor` for a mean.
inline double gradient_scale(const lossd_call *call, reduction how, int upstream, double divisor) {
  const lossd_tensor &up = call->inputs[upstream];
  double scale = 1;
  if (how != reduction::none && up.data_type != LOSSD_ABSENT) load(up.data, up.data_type, 0, &scale, 1);
  return how == reduction::mean ? scale / divisor : scale;
}

template <class T> void multiply(T *__restrict x, const T *__restrict by, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) x[i] *= by[i];
}

template <class T> void multiply(T *__restrict x, T by, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) x[i] *= by;
}

// Elements of a tensor as T: where they are, or widened into `own`.
template <class T>
const T *view(const lossd_tensor &tensor, std::int64_t index, T *own, std::int64_t count) {
  if (tensor.data_type == type_of<T>) return static_cast<const T *>(tensor.data) + index;
  load(tensor.data, tensor.data_type, index, own, count);
  return own;
}

} // namespace detail
} // namespace lossd
#endif
