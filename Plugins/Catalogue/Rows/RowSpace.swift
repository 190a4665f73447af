import LossdPluginKit
import LossdTensor

/// Up to three tensors, the operands, that broadcast to one shape, and the dimension of that shape that rows go along. Rows
/// are numbered in the order of memory, the row's own dimension left out. A plain value.
struct RowSpace: BitwiseCopyable {
  private(set) var space = BroadcastSpace()
  private(set) var axis = 0
  private(set) var operandCount = 0
  /// Elements of a row.
  private(set) var length = 1
  private(set) var rows = 1
  /// Elements from one of a row to the next, where nothing is repeated.
  private(set) var inner = 1
  /// Whether no operand is repeated.
  private(set) var isWhole = true

  init() {}

  /// `dim` is negative from the last. `names` are the operands', for the texts.
  init(
    _ operands: InlineArray<3, TensorView?>, _ names: InlineArray<3, StaticString>, dim: Int64
  ) throws(StatusError) {
    for index in 0..<3 {
      guard let operand = operands[index] else { continue }
      guard space.add(operand) else {
        let first = operands[0].map { shapeText($0.shape) } ?? ""
        throw invalid(
          "\(names[index]) is \(shapeText(operand.shape)), which does not broadcast with "
            + "\(names[0]) \(first)")
      }
      operandCount = index + 1
    }
    for index in 0..<operandCount {
      guard let operand = operands[index] else { continue }
      guard space.setStrides(index, operand) else {
        throw invalid("\(names[0]) and the others broadcast to 2^63 elements or more")
      }
      isWhole = isWhole && space.isWhole(operand)
    }
    let rank = max(space.rank, 1)
    guard dim >= -Int64(rank), dim < Int64(rank) else {
      throw invalid("dim is \(dim), outside [\(-rank), \(rank - 1)]")
    }
    axis = Int(dim < 0 ? dim + Int64(rank) : dim)
    length = space.rank == 0 ? 1 : space.shape[axis]
    for index in 0..<space.rank where index != axis {
      rows *= space.shape[index]
      if index > axis { inner *= space.shape[index] }
    }
  }

  var rank: Int { space.rank }

  /// The result's shape, the row's dimension 1 or left out.
  func resultShape(
    keepdim: Bool, _ body: (UnsafeBufferPointer<Int64>) throws(StatusError) -> Void
  ) throws(StatusError) {
    var sizes = InlineArray<64, Int64>(repeating: 1)
    var count = 0
    for index in 0..<rank where index != axis || keepdim {
      sizes[count] = index == axis ? 1 : Int64(space.shape[index])
      count += 1
    }
    let rank = count
    try withUnsafePointer(to: sizes) { pointer throws(StatusError) in
      try body(
        UnsafeBufferPointer(
          start: UnsafeRawPointer(pointer).assumingMemoryBound(to: Int64.self), count: rank))
    }
  }

  /// Where the operands' elements of this row begin.
  @inline(__always)
  func starts(_ row: Int) -> BroadcastSpace.Offsets {
    if isWhole {
      let start = inner == 1 ? row * length : row / inner * length * inner + row % inner
      return BroadcastSpace.Offsets(repeating: start)
    }
    let axis = axis
    return space.offsets(row) { $0 != axis }
  }

  /// Elements of the operand from one of a row to the next; 0 where one stands for all.
  func step(_ operand: Int) -> Int { rank == 0 ? 0 : space.strides[operand][axis] }

  /// Whether a row of the operand is `length` elements in one piece.
  func isContiguous(_ operand: Int) -> Bool { length == 1 || step(operand) == 1 }

  /// Whether one element of the operand stands for a whole row of several.
  func isOneForRow(_ operand: Int) -> Bool { length != 1 && step(operand) == 0 }

  /// The last dimension but the row's own, along which operands have constant steps; -1: there is none.
  var runDimension: Int { axis == rank - 1 ? rank - 2 : rank - 1 }

  /// How often each row of the operand is repeated.
  func repeats(_ operand: Int) -> Int {
    var product = 1
    for index in 0..<rank where index != axis && space.strides[operand][index] == 0 {
      product *= space.shape[index]
    }
    return product
  }

  /// Where the operand's row `own`, by its own count, begins.
  func start(_ operand: Int, own: Int) -> Int {
    var (own, start) = (own, 0)
    for index in stride(from: rank - 1, through: 0, by: -1) where index != axis {
      let step = space.strides[operand][index]
      if step == 0 { continue }
      start += own % space.shape[index] * step
      own /= space.shape[index]
    }
    return start
  }

  /// The number, in the whole space, of repetition `repetition` of the operand's row `own`.
  func row(_ operand: Int, own: Int, repetition: Int) -> Int {
    var (own, repetition) = (own, repetition)
    var (row, step) = (0, 1)
    for index in stride(from: rank - 1, through: 0, by: -1) where index != axis {
      let size = space.shape[index]
      if space.strides[operand][index] == 0 {
        row += repetition % size * step
        repetition /= size
      } else {
        row += own % size * step
        own /= size
      }
      step *= size
    }
    return row
  }
}

/// torch's type of a result of these tensors: one without dimensions counts only where no other is a floating-point number.
func promotedType(_ tensors: InlineArray<3, TensorView?>) -> DataType {
  var wide: DataType?
  var single: DataType?
  for index in 0..<3 {
    guard let tensor = tensors[index] else { continue }
    if tensor.rank > 0 {
      wide = wide?.promoted(with: tensor.dataType) ?? tensor.dataType
    } else {
      single = single?.promoted(with: tensor.dataType) ?? tensor.dataType
    }
  }
  guard let wide else { return single ?? .float32 }
  guard let single, !wide.isFloatingPoint else { return wide }
  return wide.promoted(with: single)
}
