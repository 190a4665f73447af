import LossdFiles
import LossdTensor
import LossdWire

/// The tensors of the calls that `lossctl bench` makes, made up for what a function declares:
/// uniform numbers in [0, 1), which are good logits, probabilities and targets alike, and classes
/// within the shape.
struct BenchInputs {
  /// What a target looks like: functions that take integers may want either.
  enum Target: CaseIterable {
    case classes, likeInput
  }

  private(set) var tensors: [(name: String, tensor: Tensor)] = []
  private var state: UInt64 = 0x9E37_79B9_7F4A_7C15

  /// `given` are files' tensors by name, which are taken as they are.
  init(
    _ function: FunctionDescription, _ shape: [Int], _ dataType: DataType, _ target: Target,
    _ given: [(name: String, tensor: Tensor)]
  ) throws {
    for input in function.inputs {
      if let tensor = given.first(where: { $0.name == input.name })?.tensor {
        tensors.append((input.name, tensor))
      } else if input.isRequired {
        tensors.append((input.name, try made(input, shape, dataType, target)))
      }
    }
    for (name, _) in given where !function.inputs.contains(where: { $0.name == name }) {
      throw Complaint("--tensor \(name): \(function.name) has no such input", status: 64)
    }
  }

  private mutating func made(
    _ input: FunctionDescription.Input, _ shape: [Int], _ dataType: DataType, _ target: Target
  ) throws -> Tensor {
    // Where a target broadcasts to the input it is like the input, though it may be integers.
    if input.name == "target" && target == .classes && input.dataTypes.contains(.int64)
      && input.batching != .broadcast
    {
      // Classes lie along the second dimension, or the only one.
      var positions = shape
      let classes = positions.isEmpty ? 1 : positions.remove(at: shape.count > 1 ? 1 : 0)
      let count = positions.reduce(1, *)
      return Tensor(
        (0..<count).map { _ in Int64(next() % UInt64(max(classes, 1))) }, shape: positions)
    }
    if !input.dataTypes.contains(dataType) && input.dataTypes.contains(.int64) {
      return integers(input.name, shape)
    }
    guard input.dataTypes.contains(dataType) else {
      let types = input.dataTypes.map(\.description).joined(separator: ", ")
      throw Complaint("the input \(input.name) is \(types), not \(dataType)", status: 64)
    }
    // A parameter that belongs to no row, such as prelu's weight.
    let shape = input.isKept && input.batching == .whole ? [1] : shape
    let count = shape.reduce(1, *)
    let buffer = AlignedBuffer(count: count * dataType.byteSize)
    for index in 0..<count {
      let value = Double(next() >> 40) / Double(1 << 24)
      switch dataType {
      case .float64: store(value, buffer, index)
      case .float16: store(Float16(rounding: value), buffer, index)
      case .bfloat16: store(BFloat16(rounding: value), buffer, index)
      default: store(Float(value), buffer, index)
      }
    }
    return Tensor(dataType: dataType, shape: shape, buffer: buffer)
  }

  /// Of a function that takes integers alone: classes of each element; of ctc_loss a third as many
  /// labels as steps in time, and all steps, `shape` being (T, C) or (T, N, C).
  private mutating func integers(_ name: String, _ shape: [Int]) -> Tensor {
    let classes = shape.last ?? 1
    let samples = shape.count == 3 ? Array(shape[1..<2]) : []
    let labels = shape[0] / 3
    let each = samples.reduce(1, *)
    switch name {
    case "targets":
      let sizes = (samples.isEmpty ? [1] : samples) + [labels]
      return Tensor(
        (0..<each * labels).map { _ in Int64(next() % UInt64(classes)) }, shape: sizes)
    case "input_lengths", "target_lengths":
      let length = Int64(name == "input_lengths" ? shape[0] : labels)
      return Tensor(Array(repeating: length, count: each), shape: samples)
    default:
      let count = shape.reduce(1, *)
      return Tensor((0..<count).map { _ in Int64(next() % UInt64(classes)) }, shape: shape)
    }
  }

  private func store<Element: BitwiseCopyable>(
    _ value: Element, _ buffer: AlignedBuffer, _ index: Int
  ) {
    buffer.base.storeBytes(
      of: value, toByteOffset: index * MemoryLayout<Element>.size, as: Element.self)
  }

  /// Marsaglia's xorshift64*: the same numbers in every run.
  private mutating func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 0x2545_F491_4F6C_DD1D
  }
}

extension [Int] {
  /// What `--shape` says: `256x50257`, or with commas.
  init?(shape text: String) {
    let parts = text.split(whereSeparator: { $0 == "x" || $0 == "," })
    let sizes = parts.compactMap { Int($0) }
    guard sizes.count == parts.count, !sizes.isEmpty, sizes.allSatisfy({ $0 > 0 && $0 < 1 << 40 }),
      sizes.reduce(1.0, { $0 * Double($1) }) < Double(1 << 40)
    else { return nil }
    self = sizes
  }
}
