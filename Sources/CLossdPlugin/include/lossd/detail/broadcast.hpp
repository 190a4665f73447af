// Part of lossd/plugin.hpp: tensors that broadcast with one another, and sums over their repetitions.
#ifndef LOSSD_DETAIL_BROADCAST_HPP
#define LOSSD_DETAIL_BROADCAST_HPP

#include <lossd/detail/loss.hpp>

namespace lossd LOSSD_HIDDEN {
namespace detail {

// The size of the dimension that has so many behind it; 1 where there is none.
inline std::int64_t size_from_last(const lossd_tensor &tensor, std::uint32_t back) {
  return back < tensor.rank ? tensor.shape[tensor.rank - 1 - back] : 1;
}

// How many parts of at most `size` so many elements make.
inline std::int64_t parts(std::int64_t count, std::int64_t size) { return count / size + (count % size != 0); }

inline const char *exact_type_name(std::uint32_t type) {
  switch (type) {
    case LOSSD_INT64: return "int64";
    case LOSSD_INT32: return "int32";
    case LOSSD_INT16: return "int16";
    case LOSSD_INT8: return "int8";
    case LOSSD_UINT8: return "uint8";
    case LOSSD_BOOL: return "bool";
    default: return type_name(type);
  }
}

// Adds x to sums, element by element.
template <class T> void accumulate(double *__restrict sums, const T *__restrict x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) sums[i] += static_cast<double>(x[i]);
}

// What input and target broadcast to by torch's rules, as torch.broadcast_shapes says.
struct broadcast_shape {
  std::uint32_t rank = 0;
  std::int64_t count = 1; // 0 where a dimension is empty
  std::int64_t sizes[LOSSD_RANK_MAX];

  std::int32_t set(const lossd_tensor &input, const lossd_tensor &target, lossd_error *error) {
    rank = input.rank > target.rank ? input.rank : target.rank;
    bool is_empty = false;
    for (std::uint32_t back = 0; back < rank; back++) {
      const std::int64_t a = size_from_last(input, back), b = size_from_last(target, back);
      if (a != b && a != 1 && b != 1) {
        char have[128], want[128];
        std::snprintf(error->text, sizeof error->text, "target is %s, which does not broadcast with input %s",
                      shape_text(target.shape, target.rank, have), shape_text(input.shape, input.rank, want));
        return LOSSD_INVALID_ARGUMENT;
      }
      sizes[rank - 1 - back] = a == 1 ? b : a;
    }
    for (std::uint32_t i = 0; i < rank; i++) {
      if (sizes[i] == 0) is_empty = true;
      else if (sizes[i] > INT64_MAX / count) return report(error, LOSSD_INVALID_ARGUMENT,
                                                           "input and target broadcast to 2^63 elements or more");
      else count *= sizes[i];
    }
    if (is_empty) count = 0;
    return LOSSD_OK;
  }

  // As a tensor's, of `type`. It lives as long as this.
  lossd_tensor tensor(std::uint32_t type) const { return {nullptr, sizes, count, rank, type}; }

  std::int64_t from_last(std::uint32_t back) const { return sizes[rank - 1 - back]; }

  // Whether `tensor` broadcasts to this shape without enlarging it.
  bool holds(const lossd_tensor &tensor) const {
    if (tensor.rank > rank) return false;
    for (std::uint32_t back = 0; back < tensor.rank; back++)
      if (size_from_last(tensor, back) != from_last(back) && size_from_last(tensor, back) != 1) return false;
    return true;
  }
};

// How the gradient of an operand that is repeated is summed: each of its elements over its repetitions in row-major
// order, in pieces that depend on the number of repetitions alone, so that the bits depend on neither chunks nor
// batches. A unit of work is a block of the operand's elements and a piece of their repetitions. Of several pieces each
// leaves its sums in the workspace, piece after piece, and a second pass adds them up.
struct repeat_sums {
  // Elements of what is computed at once. Repetitions that are added up by themselves, then to the sum; where elements
  // lie beside one another those of a piece. At most so many pieces, which bounds the workspace. Results of a unit where
  // the repetitions lie inside.
  static constexpr std::int64_t tile = 256, group = 256, pieces_max = 256, results = 1 << 14;

  std::int64_t elements, repeats, block_size, piece_size, pieces;
  // Whether the innermost dimension is the operand's own. Then elements lie beside one another, and a repetition of many
  // of them is taken at once; else an element's repetitions are.
  bool is_own_inner;

  // Of an operand with elements that has fewer than `shape`.
  repeat_sums(const broadcast_shape &shape, const lossd_tensor &operand) {
    elements = operand.element_count;
    repeats = shape.count / elements;
    std::uint32_t innermost = 0;
    while (innermost < shape.rank && shape.from_last(innermost) == 1) innermost++;
    is_own_inner = size_from_last(operand, innermost) != 1;
    const std::int64_t least = is_own_inner ? group : results;
    const std::int64_t grown = parts(parts(repeats, pieces_max), group) * group;
    piece_size = grown > least ? grown : least;
    pieces = parts(repeats, piece_size);
    block_size = is_own_inner ? tile : results > repeats ? results / repeats : 1;
  }

  std::int64_t units() const { return parts(elements, block_size) * pieces; }
  // Of the pass that adds the pieces up; 0: one piece is the whole.
  std::int64_t merge_units() const { return pieces > 1 ? parts(elements, tile) : 0; }
  // In the workspace.
  std::int64_t partial_count() const { return pieces > 1 ? pieces * elements : 0; }
  // Results of one unit, about.
  double unit_count() const {
    return static_cast<double>(block_size < elements ? block_size : elements) *
           static_cast<double>(piece_size < repeats ? piece_size : repeats);
  }
};

// How a tensor is read as if it had the shape that it broadcasts to: the sizes of that shape's dimensions and the
// tensor's strides in them, 0 where it is repeated. Innermost first; dimensions that lie alike are joined, those of
// size 1 are left out.
struct broadcast {
  std::int32_t rank = 0;
  bool is_whole = true; // no repetition and no other order: the flat index is the same
  std::int64_t size[LOSSD_RANK_MAX], stride[LOSSD_RANK_MAX];

  // Of a tensor that broadcasts to `shape`, in row-major order.
  void set(const lossd_tensor &tensor, const broadcast_shape &shape) {
    add(tensor, shape, [](std::uint32_t) { return true; });
    finish();
  }

  // In the order of `sums`: the repetitions of its operand are inside of the operand's own dimensions, or outside.
  void set(const lossd_tensor &tensor, const broadcast_shape &shape, const lossd_tensor &operand,
           const repeat_sums &sums) {
    auto is_inner = [&](std::uint32_t back) { return (size_from_last(operand, back) != 1) == sums.is_own_inner; };
    add(tensor, shape, is_inner);
    add(tensor, shape, [&](std::uint32_t back) { return !is_inner(back); });
    finish();
  }

  // Elements [index, index + count) of the wide shape, at least one, widened to T.
  template <class T>
  void read(const lossd_tensor &tensor, std::int64_t index, T *to, std::int64_t count) const {
    if (is_whole) return load(tensor.data, tensor.data_type, index, to, count);
    std::int64_t places[LOSSD_RANK_MAX], at = 0;
    for (std::int32_t d = 0; d < rank; d++) {
      places[d] = index % size[d];
      index /= size[d];
      at += places[d] * stride[d];
    }
    for (std::int64_t inner = places[0];;) {
      // The innermost dimension from this place on.
      const std::int64_t run = size[0] - inner < count ? size[0] - inner : count;
      if (stride[0] == 1) {
        load(tensor.data, tensor.data_type, at, to, run);
      } else {
        T one;
        load(tensor.data, tensor.data_type, at, &one, 1);
        for (std::int64_t i = 0; i < run; i++) to[i] = one;
      }
      to += run;
      count -= run;
      if (count == 0) return;
      // Then the next place.
      at -= inner * stride[0];
      inner = 0;
      for (std::int32_t d = 1; d < rank; d++) {
        at += stride[d];
        if (++places[d] < size[d]) break;
        at -= size[d] * stride[d];
        places[d] = 0;
      }
    }
  }

  // The same, from where they are if they are T already and lie in this order.
  template <class T>
  const T *view(const lossd_tensor &tensor, std::int64_t index, T *own, std::int64_t count) const {
    if (is_whole) return detail::view(tensor, index, own, count);
    read(tensor, index, own, count);
    return own;
  }

 private:
  template <class Taken> void add(const lossd_tensor &tensor, const broadcast_shape &shape, Taken is_taken) {
    std::int64_t step = 1;
    for (std::uint32_t back = 0; back < shape.rank; back++) {
      const std::int64_t wide = shape.from_last(back), own = size_from_last(tensor, back);
      if (wide != 1 && is_taken(back)) add(wide, own == 1 ? 0 : step);
      step *= own;
    }
  }

  void add(std::int64_t wide, std::int64_t by) {
    const std::int64_t last = rank > 0 ? stride[rank - 1] : 0;
    if (rank > 0 && (by == 0 ? last == 0 : last != 0 && by == last * size[rank - 1])) {
      size[rank - 1] *= wide;
    } else {
      size[rank] = wide;
      stride[rank++] = by;
    }
  }

  void finish() { is_whole = rank == 0 || (rank == 1 && stride[0] == 1); }
};

} // namespace detail
} // namespace lossd
#endif
