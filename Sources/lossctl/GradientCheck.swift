import LossdEngine
import LossdPluginHost
import LossdPluginKit
import LossdTensor
import LossdWire

/// Compares a function's gradients with central differences of its result, at random points, for
/// every combination of its bools, choices and optional inputs; then, at the same points, in every
/// other type that the function takes, with what it gave in the widest.
///
/// The objective is the sum of the result times a random upstream gradient. In float64 where the
/// function takes that, a step is 6e-6 and gradients agree to 1e-5; in float32 1e-2 and 2e-2. A
/// point where the two one-sided differences differ is a kink: no derivative is right there, and it
/// is left out.
struct GradientCheck {
  typealias Attributes = [String: AttributeValue]

  /// What the author knows better than this does.
  struct Options {
    /// By input: random numbers of low ... high.
    var ranges: [String: ClosedRange<Double>] = [:]
    var shapes: [String: [Int]] = [:]
    var attributes: Attributes = [:]
    var seed: UInt64 = 1
  }

  struct Report {
    var function: String
    var outputs: [String] = []
    var points = 0
    var kinks = 0
    var combinations = 0
    var worst = 0.0
    var dataType = DataType.float64
    /// The largest relative error of each other type.
    var types: [DataType: Double] = [:]
  }

  let probe: PluginProbe
  let description: FunctionDescription
  let options: Options

  /// The output that gradients are of, and the upstream gradient's input.
  var result: String { description.outputs.first { $0.isDefault }?.name ?? "loss" }
  var upstream: String { "grad.\(result)" }

  /// Inputs with a gradient.
  var differentiable: [FunctionDescription.Input] {
    description.inputs.filter { input in
      description.outputs.contains { $0.name == "grad.\(input.name)" } && input.widest != nil
    }
  }

  /// Throws a Complaint where a gradient is wrong, the plugin's process ends, or no inputs were
  /// found that the function takes.
  func run() throws -> Report {
    var report = Report(function: description.name)
    report.outputs = differentiable.map { "grad.\($0.name)" }
    guard !report.outputs.isEmpty else { return report }
    var random = SplitMix(state: options.seed)
    for attributes in combinations() {
      for hasOptional in hasOptionalInputs ? [false, true] : [false] {
        guard var inputs = try findInputs(attributes, hasOptional, &random) else { continue }
        try addUpstream(&inputs, attributes, &random)
        report.dataType = inputs[differentiable[0].name]?.dataType ?? .float64
        report.combinations += 1
        try compare(inputs, attributes, &report)
        try compareTypes(inputs, attributes, &report)
      }
    }
    return report
  }

  private var hasOptionalInputs: Bool {
    description.inputs.contains { !$0.isRequired && $0.name != upstream }
  }

  /// Every choice of bools and strings that have choices, at most 64; all others at their defaults.
  private func combinations() -> [Attributes] {
    var all: [Attributes] = [options.attributes]
    for attribute in description.attributes where options.attributes[attribute.name] == nil {
      var values: [AttributeValue] = []
      if attribute.type == "bool" { values = [.bool(false), .bool(true)] }
      if attribute.type == "string" { values = attribute.choices.map { .string($0) } }
      if values.isEmpty || all.count * values.count > 64 { continue }
      all = all.flatMap { before in
        values.map { before.merging([attribute.name: $0]) { $1 } }
      }
    }
    return all
  }

  // MARK: - Points

  /// Inputs that the function takes: it does not say what values and shapes it wants, so likely
  /// ones are tried.
  private func findInputs(
    _ attributes: Attributes, _ hasOptional: Bool, _ random: inout SplitMix
  ) throws -> [String: Tensor]? {
    var refusal = ""
    for range in [-2.0...2.0, 0.05...0.95] {
      for isTargetRow in [true, false] {
        var inputs: [String: Tensor] = [:]
        for input in description.inputs where input.name != upstream {
          if input.isRequired || hasOptional {
            inputs[input.name] = tensor(input, range, isTargetRow, &random)
          }
        }
        do {
          let values = try evaluate(inputs, attributes, [result])[result]?.doubles ?? []
          if values.allSatisfy({ $0.isFinite }) { return inputs }
          refusal = "\(result) is not finite"
        } catch let error as StatusError { refusal = error.message }
      }
    }
    if hasOptional { return nil }
    throw Complaint(
      "\(description.name) \(text(attributes)): found no inputs that it takes (\(refusal)): say "
        + "--range, --shape or --attr"
    )
  }

  private func tensor(
    _ input: FunctionDescription.Input, _ likely: ClosedRange<Double>, _ isTargetRow: Bool,
    _ random: inout SplitMix
  ) -> Tensor {
    let main = options.shapes["input"] ?? [4, 5]
    let isInteger = input.widest == nil
    // Integers alone are classes, of each row.
    let shape =
      options.shapes[input.name] ?? (isInteger && isTargetRow ? Array(main.dropLast()) : main)
    let count = shape.reduce(1, *)
    guard let type = input.widest else {
      let range = options.ranges[input.name] ?? 0...Double(max(main.last ?? 1, 1) - 1)
      let values = (0..<count).map { _ in
        random.next(range.lowerBound...(range.upperBound + 0.999)).rounded(.down)
      }
      return Tensor(values, of: input.dataTypes.first ?? .int64, shape: shape)
    }
    // Away from what others of the same range are, and never below 0 where it is a weight.
    let range = options.ranges[input.name] ?? (input.isKept ? 0.5...2 : likely)
    return Tensor((0..<count).map { _ in random.next(range) }, of: type, shape: shape)
  }

  private func addUpstream(
    _ inputs: inout [String: Tensor], _ attributes: Attributes, _ random: inout SplitMix
  ) throws {
    guard description.inputs.contains(where: { $0.name == upstream }),
      let like = try evaluate(inputs, attributes, [result])[result]
    else { return }
    let values = (0..<like.count).map { _ in random.next(0.5...2) }
    inputs[upstream] = Tensor(values, of: upstreamType(like), shape: like.shape)
  }

  /// The upstream gradient's type for a result.
  func upstreamType(_ like: Tensor) -> DataType {
    let types = description.inputs.first { $0.name == upstream }?.dataTypes ?? []
    return types.contains(like.dataType) ? like.dataType : DataType.widest(of: types) ?? .float32
  }

  // MARK: - Comparing with differences

  /// What differences are good for in a type: the step, the relative error of a slope, the error of
  /// a value.
  private static func precision(
    _ type: DataType
  ) -> (step: Double, relative: Double, noise: Double) {
    switch type {
    case .float64: (6e-6, 1e-5, 1e-15)
    case .float16: (0.125, 0.1, 1e-3)
    case .bfloat16: (0.25, 0.2, 8e-3)
    default: (1e-2, 2e-2, 4e-7)
    }
  }

  private func compare(
    _ inputs: [String: Tensor], _ attributes: Attributes, _ report: inout Report
  ) throws {
    let gradients = try evaluate(inputs, attributes, [result] + report.outputs)
    for input in differentiable {
      guard let gradient = gradients["grad.\(input.name)"]?.doubles, let tensor = inputs[input.name]
      else { continue }
      let (step, relative, unit) = GradientCheck.precision(tensor.dataType)
      let middle = try objective(inputs, attributes)
      let scale = max(gradient.map(\.magnitude).max() ?? 0, 1e-3)
      let noise = unit * max(middle.magnitude, 1) / step
      let limit = relative * scale + noise
      for index in 0..<tensor.count {
        func at(_ offset: Double) throws -> Double {
          try objective(
            inputs.merging([input.name: tensor.shifted(index, by: offset)]) { $1 }, attributes)
        }
        let (up, down) = (try at(step), try at(-step))
        let error = abs((up - down) / (2 * step) - gradient[index])
        report.points += 1
        if error <= limit {
          report.worst = max(report.worst, error / scale)
          continue
        }
        // Written so that a NaN is no kink.
        if abs((up - middle) - (middle - down)) / step > limit {
          report.kinks += 1
          continue
        }
        throw Complaint(
          "\(description.name) \(text(attributes)): grad.\(input.name)[\(index)] is "
            + "\(gradient[index]), differences of "
            + "\(result) give \((up - down) / (2 * step)); \(input.name)[\(index)] is "
            + "\(tensor.doubles[index])"
        )
      }
    }
    if report.kinks * 4 > report.points {
      throw Complaint(
        "\(description.name): \(report.kinks) of \(report.points) points are kinks: \(result) is "
          + "not smooth, or too inexact to tell")
    }
  }

  /// The sum of the result times the upstream gradient.
  private func objective(_ inputs: [String: Tensor], _ attributes: Attributes) throws -> Double {
    let values = try evaluate(inputs, attributes, [result])[result]?.doubles ?? []
    let factors = inputs[upstream]?.doubles ?? Array(repeating: 1, count: values.count)
    return zip(values, factors).reduce(0) { $0 + $1.0 * $1.1 }
  }

  // MARK: - Evaluating

  /// Throws a StatusError where the function refuses the request; a Complaint with the whole
  /// request where the plugin breaks plugin.h's rules or its process ends.
  func evaluate(
    _ inputs: [String: Tensor], _ attributes: Attributes, _ outputs: [String]
  ) throws -> [String: Tensor] {
    do throws(StatusError) {
      return try probe.evaluate(
        description.name, inputs: inputs, attributes: attributes, outputs: outputs)
    } catch {
      guard probe.hasEnded || error.code == .internal else { throw error }
      throw Complaint("\(error), asked for \(request(inputs, attributes, outputs))")
    }
  }

  /// A request in words: outputs, every attribute, and each input's type, shape and values.
  private func request(
    _ inputs: [String: Tensor], _ attributes: Attributes, _ outputs: [String]
  ) -> String {
    var all = attributes
    for attribute in description.attributes where all[attribute.name] == nil {
      all[attribute.name] = attribute.defaultValue
    }
    let tensors = inputs.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value.summary)" }
    return "\(outputs.joined(separator: ", ")) with attributes \(text(all)) and inputs "
      + "(\(tensors.joined(separator: "; ")))"
  }

  func text(_ attributes: Attributes) -> String {
    let parts = attributes.sorted { $0.key < $1.key }.map { key, value in
      switch value {
      case .bool(let bool): "\(key)=\(bool)"
      case .int(let int): "\(key)=\(int)"
      case .float(let float): "\(key)=\(float)"
      case .string(let string): "\(key)=\(string)"
      }
    }
    return "(" + parts.joined(separator: ", ") + ")"
  }
}

/// Random numbers that are the same everywhere (Steele et al. 2014).
struct SplitMix {
  var state: UInt64

  mutating func next(_ range: ClosedRange<Double>) -> Double {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    z ^= z >> 31
    return range.lowerBound + (range.upperBound - range.lowerBound) * Double(z >> 11) * 0x1p-53
  }
}
