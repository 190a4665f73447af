import LossdFiles
import LossdTensor
import LossdWire

/// How the inputs of one evaluation are cut into batches of rows so that all batches together give
/// what one call would: what the function's declaration says, applied to these shapes, attributes
/// and results.
struct BatchRule {
  typealias Input = (name: String, stored: StoredTensor)

  /// Why these inputs cannot be cut.
  struct Uncuttable: Error {
    let text: String
    init(_ text: String) { self.text = text }
  }

  /// Rows of the whole data set.
  private(set) var rows = 0
  /// Cut: of each batch the same rows.
  private(set) var cut: [Input] = []
  /// Sent with each batch.
  private(set) var whole: [Input] = []
  /// Sent once, ahead of the batches.
  private(set) var kept: [Input] = []
  /// Results wanted, the function's own where none is named.
  let outputs: [String]
  /// What takes the gradients of a mean through the sum, batch by batch; nil: one pass does.
  private(set) var mean: Mean?

  /// A mean's gradient is that of the sum, with an upstream gradient that is over the weights of
  /// all rows.
  struct Mean {
    /// The attribute that is set to `sum`.
    var reduction: String
    /// The input of the upstream gradient, a scalar of float64.
    var upstream: String
  }

  init(
    _ function: FunctionDescription, _ inputs: [Input], _ attributes: [String: AttributeValue],
    outputs wanted: [String]
  ) throws(Uncuttable) {
    guard
      function.inputs.contains(where: { $0.batching == .rows || $0.batching == .broadcast })
    else {
      throw Uncuttable("its plugin, \(function.plugin), declares no rule for cutting it")
    }
    outputs = wanted.isEmpty ? function.outputs.filter(\.isDefault).map(\.name) : wanted
    try sort(function, inputs)
    try checkDimension(function, inputs, attributes)
    try checkOutputs(function)
    try checkReduction(function, attributes)
  }

  /// Parts the inputs into those that are cut and those that are not.
  private mutating func sort(
    _ function: FunctionDescription, _ inputs: [Input]
  ) throws(Uncuttable) {
    var declared: [(declaration: FunctionDescription.Input, input: Input)] = []
    for input in inputs {
      guard let declaration = function.inputs.first(where: { $0.name == input.name }) else {
        throw Uncuttable("it has no input \(input.name)")
      }
      if declared.contains(where: { $0.input.name == input.name }) {
        throw Uncuttable("\(input.name) is given twice")
      }
      if declaration.isClasses && input.stored.shape.count < 2 {
        throw Uncuttable(
          "\(input.name) is \(text(input.stored.shape)): without a dimension beside the classes it "
            + "is a single row")
      }
      declared.append((declaration, input))
    }
    // With this many dimensions, what broadcasts has rows of its own.
    let leading = declared.first { $0.declaration.batching == .rows }
    let broadcasting = declared.filter { $0.declaration.batching == .broadcast }
    let rank =
      leading?.input.stored.shape.count
      ?? broadcasting.map { $0.input.stored.shape.count }.max() ?? 0
    var found: (name: String, rows: Int)?
    for (declaration, input) in declared {
      let shape = input.stored.shape
      let isCut: Bool
      switch declaration.batching {
      case .rows: isCut = true
      case .broadcast:
        if shape.count > rank {
          throw Uncuttable(
            "\(input.name) has more dimensions than \(leading?.input.name ?? "input")")
        }
        isCut = shape.count == rank && rank > 0 && shape[0] != 1
      case .upstream: isCut = !shape.isEmpty
      case .whole: isCut = false
      }
      if !isCut {
        if declaration.isKept { kept.append(input) } else { whole.append(input) }
        continue
      }
      guard let count = shape.first else {
        throw Uncuttable("\(input.name) is a scalar, which has no rows")
      }
      if let found, found.rows != count {
        throw Uncuttable("\(input.name) has \(count) rows, \(found.name) has \(found.rows)")
      }
      found = found ?? (input.name, count)
      cut.append(input)
    }
    guard let found else { throw Uncuttable("none of its inputs has rows") }
    rows = found.rows
  }

  /// Whether it computes along the rows.
  private func checkDimension(
    _ function: FunctionDescription, _ inputs: [Input], _ attributes: [String: AttributeValue]
  ) throws(Uncuttable) {
    guard let first = function.inputs.first?.name,
      let shape = inputs.first(where: { $0.name == first })?.stored.shape
    else { return }
    for attribute in function.attributes where attribute.role == "dimension" {
      guard case .int(let dimension) = attributes[attribute.name] ?? attribute.defaultValue else {
        throw Uncuttable("\(attribute.name) is not given")
      }
      if dimension == 0 || dimension == -Int64(shape.count) {
        throw Uncuttable(
          "with \(attribute.name)=\(dimension) it computes along the rows of \(first) "
            + "\(text(shape))"
        )
      }
    }
  }

  private func checkOutputs(_ function: FunctionDescription) throws(Uncuttable) {
    for name in outputs {
      guard let output = function.outputs.first(where: { $0.name == name }) else {
        throw Uncuttable("it has no output \(name)")
      }
      if !output.hasRows { throw Uncuttable("its output \(name) has no rows") }
      guard BatchRule.isGradient(name) else { continue }
      let source = name.dropFirst("grad.".count)
      if !cut.contains(where: { $0.name == source }) {
        throw Uncuttable("\(name) adds up over all rows, since \(source) has none of its own")
      }
    }
  }

  private mutating func checkReduction(
    _ function: FunctionDescription, _ attributes: [String: AttributeValue]
  ) throws(Uncuttable) {
    guard function.kind == "loss", outputs.contains(where: BatchRule.isGradient) else { return }
    guard let attribute = function.attributes.first(where: { $0.role == "reduction" }),
      case .string(let reduction) = attributes[attribute.name] ?? attribute.defaultValue
    else { throw Uncuttable("it does not declare how it reduces, which its gradients depend on") }
    switch reduction {
    case "none", "sum": return
    case "mean":
      guard
        let upstream = function.inputs.first(where: { $0.batching == .upstream }),
        upstream.dataTypes.contains(.float64)
      else {
        throw Uncuttable("it takes no upstream gradient of float64, which a mean's gradients need")
      }
      mean = Mean(reduction: attribute.name, upstream: upstream.name)
    default:
      throw Uncuttable("nothing is known of the gradients of \(attribute.name)=\(reduction)")
    }
  }

  /// Those of a built-in function's `outputs` whose type and shape are known beforehand, each with
  /// the input that it is like: gradients, and what a function of one input makes of it.
  static func placed(
    _ outputs: [String], of inputs: [Input], _ attributes: [String: AttributeValue]
  ) -> [(name: String, like: StoredTensor)] {
    outputs.compactMap { name in
      let isOutput = name == "output" && attributes["dtype"] == nil
      let source =
        isGradient(name) ? String(name.dropFirst("grad.".count)) : isOutput ? "input" : nil
      guard let stored = inputs.first(where: { $0.name == source })?.stored,
        stored.dataType.isFloatingPoint
      else { return nil }
      return (name, stored)
    }
  }

  static func isGradient(_ output: String) -> Bool { output.hasPrefix("grad.") }

  private func text(_ shape: [Int]) -> String { shapeText(shape.map { Int64($0) }) }

  // MARK: - Sizes

  /// Bytes of the payload of a batch of so many rows; with the upstream gradient of float64 where a
  /// mean's take one.
  func payloadBytes(rows count: Int) -> Int {
    BatchRule.payloadBytes(
      cut.map { $0.stored.rowByteCount * count } + whole.map { $0.stored.byteCount }
        + (mean == nil ? [] : [DataType.float64.byteSize]))
  }

  /// Bytes of what is sent once.
  var keptBytes: Int { BatchRule.payloadBytes(kept.map { $0.stored.byteCount }) }

  /// Bytes of a payload of tensors of so many bytes: each begins at a multiple of 64.
  static func payloadBytes(_ sizes: [Int]) -> Int {
    sizes.reduce(0) { TensorLayout.align64($0) + $1 }
  }

  /// The most rows whose payload has at most `bytes`; 0: not even one.
  func rowsMax(bytes: Int) -> Int {
    if payloadBytes(rows: 1) > bytes { return 0 }
    var (good, bad) = (1, rows + 1)
    while bad - good > 1 {
      let middle = good + (bad - good) / 2
      if payloadBytes(rows: middle) <= bytes { good = middle } else { bad = middle }
    }
    return good
  }
}

extension FunctionDescription {
  /// The daemon's own, no plugin's.
  var isBuiltIn: Bool { plugin == "catalogue" }
}
