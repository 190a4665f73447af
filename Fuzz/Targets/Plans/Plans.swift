import CLossdPlugin
import FuzzEvaluation
import FuzzSupport
import LossdEngine
import LossdTensor

/// Requests that are made of the bytes: every built-in function, attributes and inputs that it
/// declares and hostile ones, shapes that fit one another and shapes that overflow. Nearly every
/// input is a request that gets far.
@main struct Plans {
  static func main() {
    fuzz { input in
      let request = Request(&input)
      Trial { (attempt) throws(StatusError) in try request.evaluation(&attempt) }.run()
    }
  }
}

/// What the bytes say.
struct Request {
  /// Sizes at which something changes: of registers, tiles, chunks and integers.
  static let sizes: [Int64] = [
    1, 2, 3, 4, 5, 0, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 256,
    257, 511, 1000,
    1024, 4096, 65535, 65536, 1 << 20, 1 << 31, 1 << 32, 1 << 33, 1 << 40, 1 << 45, 1 << 58,
    1 << 60, (1 << 62) - 1,
    1 << 62, .max, -1, .min,
  ]
  /// How many of them are of use in most requests.
  static let usualSizes = 18

  let entry: FunctionEntry
  private var attributes: [(Int, Argument)] = []
  private var inputs: [(index: Int, type: DataType, shape: [Int64], fill: Fill)] = []
  private var outputs: [Int] = []

  /// What elements look like.
  private struct Fill {
    var kind: Int
    var seed: UInt64
  }

  private enum Argument {
    case value(AttributeArgument)
    case text([UInt8])
  }

  init(_ input: inout Input) {
    entry = input.one(of: functions.entries)
    for index in 0..<entry.attributes.count where input.bool() {
      attributes.append((index, Request.argument(entry.attributes[index], &input)))
    }
    let wanted = input.byte()
    for index in 0..<entry.outputs.count where wanted & (1 << UInt8(index)) != 0 {
      outputs.append(index)
    }
    let base = Request.shape(&input)
    let type = input.one(of: DataType.allCases)
    for index in 0..<entry.inputs.count {
      // 0: as it is most often.
      let choice = input.byte()
      let isRequired = entry.inputs[index].flags & UInt32(LOSSD_INPUT_REQUIRED) != 0
      if choice & 1 == (isRequired ? 1 : 0) && choice & 0x80 == 0 { continue }
      let isTaken = entry.inputs[index].data_types & (1 << type.rawValue) != 0
      inputs.append(
        (
          index, isTaken && choice & 2 == 0 ? type : input.one(of: DataType.allCases),
          Request.related(Int(choice >> 2) & 7, to: base, &input),
          Fill(kind: input.below(8), seed: UInt64(input.byte()))
        ))
    }
  }

  private static func shape(_ input: inout Input) -> [Int64] {
    let rank = input.byte()
    if rank >= 250 { return (0..<64).map { _ in input.one(of: sizes) } }
    let usual = rank & 0x40 == 0
    return (0..<Int(rank & 7)).map { _ in
      usual ? sizes[input.below(usualSizes)] : input.one(of: sizes)
    }
  }

  /// A shape that stands in some relation to another, as targets and weights do.
  private static func related(_ relation: Int, to base: [Int64], _ input: inout Input) -> [Int64] {
    switch relation {
    case 0, 1: return base
    // Labels: without the dimension of the classes.
    case 2:
      return base.count > 1 ? [base[0]] + base[2...] : []
    // One weight a class.
    case 3: return base.count > 1 ? [base[1]] : base
    // What is broadcast.
    case 4: return base.map { input.bool() ? 1 : $0 }
    case 5: return Array(base.suffix(input.below(4)))
    case 6:
      var shape = base
      if !shape.isEmpty { shape[input.below(shape.count)] = input.one(of: sizes) }
      return shape
    default: return shape(&input)
    }
  }

  private static func argument(_ declared: lossd_attribute, _ input: inout Input) -> Argument {
    let floats: [Double] = [
      0, 1, -1, 0.5, 0.1, 2, -0.0, 1e-300, 1e300, .infinity, -.infinity, .nan, 5e-324, 1e-45,
      3.5e38,
    ]
    let ints: [Int64] = [0, 1, -1, 2, -2, 3, 63, 64, -64, -100, 100, .max, .min, 1 << 32, -1 << 31]
    // Most often of the type that is declared.
    let choice = input.byte()
    switch choice & 0xC0 == 0xC0 ? UInt32(choice & 7) : declared.type {
    case UInt32(LOSSD_VALUE_BOOL): return .value(.bool(input.bool()))
    case UInt32(LOSSD_VALUE_INT): return .value(.int(input.one(of: ints)))
    case UInt32(LOSSD_VALUE_FLOAT):
      let number = input.byte()
      return .value(
        number < 200
          ? .float(floats[Int(number) % floats.count]) : .float(Double(bitPattern: input.word())))
    case UInt32(LOSSD_VALUE_STRING):
      var texts = [Array("mean".utf8), Array("\u{1F600}".utf8), [], [0xFF, 0x41]]
      var index = 0
      while let choice = declared.choices?[index], index < 64 {
        texts.insert(Array(String(cString: choice).utf8), at: 0)
        index += 1
      }
      return .text(input.one(of: texts))
    default: return .value(.none)
    }
  }

  // MARK: - To the engine

  func evaluation(_ attempt: inout Trial.Attempt) throws(StatusError) -> Evaluation {
    let evaluation = Evaluation(entry)
    for (index, argument) in attributes {
      switch argument {
      case .value(let value): try evaluation.request.setAttribute(index, value)
      case .text(let text):
        let copy = text.withUnsafeBytes { ExactMemory(copying: $0) }
        attempt.memory.append(copy)
        try evaluation.request.setAttribute(index, .string(copy.bytes))
      }
    }
    for index in outputs { try evaluation.request.want(index) }
    if outputs.isEmpty { evaluation.request.wantDefault() }
    for input in inputs {
      guard let count = checkedElementCount(input.shape, byteSize: input.type.byteSize) else {
        throw StatusError(.invalidArgument, "the wire refuses this shape")
      }
      let shape = input.shape.withUnsafeBytes { ExactMemory(copying: $0) }
      attempt.memory.append(shape)
      var data: UnsafeMutableRawPointer?
      // What is larger is not run.
      if count * input.type.byteSize <= 1 << 19 {
        let memory = ExactMemory(count * input.type.byteSize, fill: 0)
        attempt.memory.append(memory)
        data = memory.base
        if let data { fill(data, count, input.type, input.fill) }
      } else {
        attempt.isPlanOnly = true
        // A place that is not there: planning does not look at elements.
        data = UnsafeMutableRawPointer(bitPattern: 64)
      }
      try evaluation.request.setInput(
        input.index,
        TensorView(
          data: data,
          shape: UnsafeBufferPointer(
            start: shape.base?.assumingMemoryBound(to: Int64.self), count: input.shape.count),
          count: count, dataType: input.type))
    }
    return evaluation
  }

  private func fill(_ data: UnsafeMutableRawPointer, _ count: Int, _ type: DataType, _ fill: Fill) {
    var state = fill.seed
    for index in 0..<count {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let bits = state >> 32
      let small = Int(bits % 5) - (fill.kind == 3 ? 2 : 0)
      if type == .bool {
        // Now and then one that is no bool.
        data.storeBytes(
          of: fill.kind == 7 ? UInt8(truncatingIfNeeded: bits) : UInt8(bits & 1),
          toByteOffset: index, as: UInt8.self)
        continue
      }
      switch fill.kind {
      // Any bits: infinities, NaNs, subnormals, labels out of range.
      case 6, 7:
        withUnsafeBytes(of: state) { source in
          (data + index * type.byteSize).copyMemory(
            from: source.baseAddress.unsafelyUnwrapped, byteCount: type.byteSize)
        }
      case 0, 1, 2: store(Double(bits & 0xFFFF) / 65536, small, data, index, type)
      case 5: store(Double(Int(bits & 0xFFFF) - 32768), -100, data, index, type)
      default: store((Double(bits & 0xFFFF) - 32768) / 4096, small, data, index, type)
      }
    }
  }

  private func store(
    _ value: Double, _ label: Int, _ data: UnsafeMutableRawPointer, _ index: Int, _ type: DataType
  ) {
    let place = data + index * type.byteSize
    switch type {
    case .float32: place.storeBytes(of: Float(value), as: Float.self)
    case .float64: place.storeBytes(of: value, as: Double.self)
    case .float16: place.storeBytes(of: Float16(value), as: Float16.self)
    case .bfloat16: place.storeBytes(of: BFloat16(value), as: BFloat16.self)
    case .int64: place.storeBytes(of: Int64(label), as: Int64.self)
    case .int32: place.storeBytes(of: Int32(label), as: Int32.self)
    case .int16: place.storeBytes(of: Int16(label), as: Int16.self)
    case .int8: place.storeBytes(of: Int8(label), as: Int8.self)
    case .uint8, .bool: place.storeBytes(of: UInt8(truncatingIfNeeded: label), as: UInt8.self)
    }
  }
}
