import LossdEngine
import LossdTensor
import LossdWire

// The types beside the widest. A function has code of its own for each, so that each may be wrong
// alone.
extension GradientCheck {
  /// One way to give the same inputs: a type for each that is not the widest of those that it may
  /// have.
  private struct Variant {
    /// What differs, for people.
    var type: DataType
    var types: [String: DataType] = [:]
  }

  /// Evaluates the same point in every other type, and compares result and gradients with those in
  /// the widest at exactly the values that the narrower type holds.
  func compareTypes(
    _ inputs: [String: Tensor], _ attributes: Attributes, _ report: inout Report
  ) throws {
    for variant in variants(inputs) {
      var typed: [String: Tensor] = [:]
      var exact: [String: Tensor] = [:]
      for (name, tensor) in inputs where name != upstream {
        let narrow = tensor.converted(to: variant.types[name] ?? tensor.dataType)
        typed[name] = narrow
        exact[name] = narrow.converted(to: tensor.dataType)
      }
      do {
        if let tensor = inputs[upstream] {
          guard let like = try evaluate(typed, attributes, [result])[result] else { continue }
          let narrow = tensor.converted(to: upstreamType(like))
          typed[upstream] = narrow
          exact[upstream] = narrow.converted(to: tensor.dataType)
        }
        let outputs = [result] + report.outputs
        let found = try evaluate(typed, attributes, outputs)
        let right = try evaluate(exact, attributes, outputs)
        for output in outputs {
          guard let found = found[output], let right = right[output] else { continue }
          let error = try compare(
            output, found, right, variant.type, exact, attributes)
          report.types[variant.type] = max(report.types[variant.type] ?? 0, error)
        }
      } catch let error as StatusError {
        // A value that the type has rounded out of what the function takes is refused in the widest
        // as well.
        exact[upstream] = nil
        guard (try? evaluate(exact, attributes, [result])) != nil else { continue }
        throw Complaint(
          "\(description.name) \(text(attributes)): refuses the type \(variant.type), which it "
            + "declares: \(error.message)"
        )
      }
    }
  }

  private func variants(_ inputs: [String: Tensor]) -> [Variant] {
    let given = description.inputs.filter { inputs[$0.name] != nil && $0.name != upstream }
    return DataType.allCases.compactMap { type in
      var variant = Variant(type: type)
      for input in given where input.dataTypes.contains(type) {
        guard let tensor = inputs[input.name], tensor.dataType != type,
          tensor.dataType.isFloatingPoint == type.isFloatingPoint, tensor.fits(type)
        else { continue }
        variant.types[input.name] = type
      }
      return variant.types.isEmpty ? nil : variant
    }
  }

  /// The largest relative error.
  private func compare(
    _ output: String, _ found: Tensor, _ right: Tensor, _ type: DataType,
    _ exact: [String: Tensor], _ attributes: Attributes
  ) throws -> Double {
    let (values, truth) = (found.doubles, right.doubles)
    guard found.shape == right.shape else {
      throw Complaint(
        "\(description.name) \(text(attributes)): \(output) has the shape \(found.shape) in "
          + "\(type), \(right.shape) "
          + "in \(right.dataType)")
    }
    let unit = max(type.unit, found.dataType.unit, right.dataType.unit)
    let scale = max(truth.map(\.magnitude).filter(\.isFinite).max() ?? 0, 1e-3)
    func isClose(_ value: Double, _ right: Double) -> Bool {
      if value.isNaN || right.isNaN { return value.isNaN && right.isNaN }
      // Beyond what the type holds.
      if value.isInfinite && right.magnitude >= 0.99 * found.dataType.greatest {
        return (value < 0) == (right < 0)
      }
      return abs(value - right) <= unit * (2 * right.magnitude + scale)
    }
    var worst = 0.0
    for index in values.indices {
      let isRight =
        try isClose(values[index], truth[index])
        || isNearKink(output, index, unit, exact, attributes) { isClose(values[index], $0) }
      guard isRight else {
        let input = output.hasPrefix("grad.") ? String(output.dropFirst(5)) : ""
        let place = exact[input].map { "; \(input)[\(index)] is \($0.doubles[index])" } ?? ""
        throw Complaint(
          "\(description.name) \(text(attributes)): \(output)[\(index)] is \(values[index]) in "
            + "\(type), \(truth[index]) "
            + "in \(right.dataType)" + place)
      }
      let error = abs(values[index] - truth[index]) / scale
      if error.isFinite && isClose(values[index], truth[index]) { worst = max(worst, error) }
    }
    return worst
  }

  /// Whether a gradient is right a few steps of the type away: rounding has taken it to the other
  /// side of a kink.
  private func isNearKink(
    _ output: String, _ index: Int, _ unit: Double, _ exact: [String: Tensor],
    _ attributes: Attributes, _ isClose: (Double) -> Bool
  ) throws -> Bool {
    guard output.hasPrefix("grad.") else { return false }
    let name = String(output.dropFirst(5))
    guard let tensor = exact[name], index < tensor.count else { return false }
    let step = 2 * unit * max(tensor.doubles[index].magnitude, 1)
    for offset in [step, -step] {
      let moved = exact.merging([name: tensor.shifted(index, by: offset)]) { $1 }
      // A step may lead out of what the function takes.
      guard let gradient = try? evaluate(moved, attributes, [output])[output]?.doubles else {
        if probe.hasEnded { _ = try evaluate(moved, attributes, [output]) }
        continue
      }
      if index < gradient.count && isClose(gradient[index]) { return true }
    }
    return false
  }
}

extension DataType {
  /// The relative error that results of the type may have: that of float32 and float64 leaves room
  /// for sums, that of 16 bits is a step of the type.
  var unit: Double {
    switch self {
    case .float32: 2e-5
    case .float16: 0x1p-10
    case .bfloat16: 0x1p-7
    default: 1e-12
    }
  }

  /// The largest finite value.
  var greatest: Double {
    switch self {
    case .float32: Double(Float.greatestFiniteMagnitude)
    case .float16: 65504
    case .bfloat16: 3.3895e38
    default: Double.greatestFiniteMagnitude
    }
  }

  /// The floating-point type with the most digits.
  static func widest(of types: [DataType]) -> DataType? {
    [.float64, .float32, .float16, .bfloat16].first { types.contains($0) }
  }
}

extension FunctionDescription.Input {
  /// The floating-point type with the most digits that it takes.
  var widest: DataType? { DataType.widest(of: dataTypes) }
}

extension Tensor {
  /// Elements rounded to a type.
  init(_ values: [Double], of type: DataType, shape: [Int]) {
    func integers<T: IntegerElement>(_ type: T.Type) -> Tensor {
      Tensor(values.map { T(exactly: $0.rounded(.down)) ?? 0 }, shape: shape)
    }
    switch type {
    case .float64: self.init(values, shape: shape)
    case .float32: self.init(values.map { Float($0) }, shape: shape)
    case .float16: self.init(values.map { Float16($0) }, shape: shape)
    case .bfloat16: self.init(values.map { BFloat16($0) }, shape: shape)
    case .int64: self = integers(Int64.self)
    case .int32: self = integers(Int32.self)
    case .int16: self = integers(Int16.self)
    case .int8: self = integers(Int8.self)
    case .uint8: self = integers(UInt8.self)
    case .bool:
      let bytes = Tensor(values.map { UInt8($0 == 0 ? 0 : 1) }, shape: shape)
      self.init(dataType: .bool, shape: shape, buffer: bytes.buffer)
    }
  }

  func converted(to type: DataType) -> Tensor {
    type == dataType ? self : Tensor(doubles, of: type, shape: shape)
  }

  /// Whether integers are the same in another type.
  func fits(_ type: DataType) -> Bool {
    type.isFloatingPoint || converted(to: type).doubles == doubles
  }

  /// One element changed.
  func shifted(_ index: Int, by offset: Double) -> Tensor {
    var values = doubles
    values[index] += offset
    return Tensor(values, of: dataType, shape: shape)
  }

  /// Type, shape and the first values.
  var summary: String {
    let values = doubles
    let shown = values.prefix(20).map { "\(Float($0))" } + (values.count > 20 ? ["..."] : [])
    return "\(dataType) \(shape) of \(shown.joined(separator: ", "))"
  }
}
