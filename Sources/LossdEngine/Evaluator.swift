import LossdTensor

/// Evaluates in this process, in the calling thread: for `lossctl eval --embedded`, tests and
/// programs that link the engine.
public struct Evaluator: Sendable {
  public let registry: Registry

  public init(_ registry: Registry) { self.registry = registry }

  /// Like the wire's Evaluate. Inputs and outputs by name; no outputs: the function's result alone.
  /// `mayOverwrite`: results may take the inputs' places, which are then no longer the caller's to
  /// read.
  public func evaluate(
    _ function: String, inputs: [String: Tensor], attributes: [String: AttributeValue] = [:],
    outputs: [String] = [], mayOverwrite: Bool = false
  ) throws(StatusError) -> [String: Tensor] {
    let evaluation = try prepare(function, attributes: attributes, outputs: outputs)
    if mayOverwrite { evaluation.request.ownInputs = .max }
    return try run(evaluation, inputs)
  }

  /// An evaluation of a request, without its inputs: outputs as `evaluate` takes them.
  public func prepare(
    _ function: String, attributes: [String: AttributeValue], outputs: [String]
  ) throws(StatusError) -> Evaluation {
    let entry = try withBytes(function) { bytes throws(StatusError) in
      guard let entry = registry.table.find(bytes) else {
        throw StatusError(
          .notFound,
          "no function named `\(printable(bytes))`" + registry.table.didYouMean(printable(bytes)))
      }
      return entry
    }
    let evaluation = Evaluation(entry)
    for (name, value) in attributes {
      try withBytes(name) { name throws(StatusError) in
        switch value {
        case .bool(let bool): try evaluation.request.setAttribute(name, .bool(bool))
        case .int(let int): try evaluation.request.setAttribute(name, .int(int))
        case .float(let float): try evaluation.request.setAttribute(name, .float(float))
        case .string(let text):
          try withBytes(text) { text throws(StatusError) in
            try evaluation.request.setAttribute(name, .string(text))
          }
        }
      }
    }
    for name in outputs {
      try withBytes(name) { name throws(StatusError) in try evaluation.request.want(name) }
    }
    if outputs.isEmpty { evaluation.request.wantDefault() }
    return evaluation
  }

  func run(
    _ evaluation: Evaluation, _ inputs: [String: Tensor]
  ) throws(StatusError) -> [String: Tensor] {
    var shapes: [UnsafeMutablePointer<Int64>] = []
    defer { for shape in shapes { shape.deallocate() } }
    for (name, tensor) in inputs {
      let shape = UnsafeMutablePointer<Int64>.allocate(capacity: max(tensor.shape.count, 1))
      for (index, size) in tensor.shape.enumerated() { shape[index] = Int64(size) }
      shapes.append(shape)
      let view = TensorView(
        data: tensor.buffer.base + tensor.offset,
        shape: UnsafeBufferPointer(start: shape, count: tensor.shape.count), count: tensor.count,
        dataType: tensor.dataType)
      try withBytes(name) { name throws(StatusError) in try evaluation.request.setInput(name, view)
      }
    }
    try evaluation.makePlan()
    let results = try AlignedBuffer(reserving: evaluation.plan.resultBytes)
    try evaluation.bind(
      results: results.base,
      workspace: try AlignedBuffer(reserving: evaluation.plan.workspaceBytes))
    let scratch = try AlignedBuffer(reserving: evaluation.plan.scratchBytes)
    // Held until the end: a pointer does not keep its buffer.
    defer { withExtendedLifetime(scratch) {} }
    try evaluation.runInline(scratch: scratch.base)
    var outputs: [String: Tensor] = [:]
    for position in evaluation.request.wantedOutputs.indices {
      let result = evaluation.result(position)
      if let place = evaluation.plan.overwrites.first(where: { $0.position == position }) {
        let input = String(cString: evaluation.entry.inputs[place.input].name)
        outputs[String(cString: result.name)] = inputs[input]
        continue
      }
      outputs[String(cString: result.name)] = Tensor(
        dataType: result.view.dataType, shape: result.view.shape.map { Int($0) }, buffer: results,
        offset: result.offset)
    }
    return outputs
  }
}

extension Evaluation.Request {
  /// Sets the input of this name. The tensor's memory, shape included, is borrowed until the end.
  public mutating func setInput(named name: String, _ tensor: TensorView) throws(StatusError) {
    try withBytes(name) { name throws(StatusError) in try setInput(name, tensor) }
  }
}

private func withBytes<Result>(
  _ text: String, _ body: (UnsafeRawBufferPointer) throws(StatusError) -> Result
) throws(StatusError) -> Result {
  let utf8 = text.utf8
  let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: utf8.count, alignment: 1)
  defer { bytes.deallocate() }
  bytes.copyBytes(from: utf8)
  return try body(UnsafeRawBufferPointer(bytes))
}
