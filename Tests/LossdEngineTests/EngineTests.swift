import LossdEngine
import LossdPluginKit
import LossdTensor
import Synchronization
import Testing

/// Half the squared input, summed; its gradient is the input. A function of one unit an element.
enum HalfSquare: Function {
  struct State: BitwiseCopyable {}

  static var declaration: FunctionDeclaration {
    FunctionDeclaration(
      name: "half_square", kind: .loss, summary: "sum of x*x/2",
      inputs: [InputDeclaration("input", [.float64], isRequired: true, help: "any shape")],
      outputs: [
        OutputDeclaration("loss", isDefault: true, help: "scalar"),
        OutputDeclaration("grad.input", help: "like input"),
        OutputDeclaration("grad.weight", isUnimplemented: true, help: "not differentiated"),
      ],
      attributes: [
        AttributeDeclaration(
          "scale", .float, default: .float(1), minimum: .float(0), maximum: .float(10), help: "")
      ],
      accumulators: ["loss_sum"], values: ["loss"])
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
    guard let input = call.input(0) else { throw StatusError(.internal, "no input") }
    plan.setRows(input.count)
    plan.addPass(units: input.count, unitCost: 20)
    if call.wants(0) { plan.setReducedOutput(0, input.dataType) }
    if call.wants(1) { plan.setOutput(1, input.dataType, shape: input.shape) }
    return State()
  }

  static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {
    guard let input = call.input(0) else { return }
    let elements = input.elements(as: Double.self)
    let gradient = call.output(1)?.elements(as: Double.self)
    for index in chunk.range {
      let x = elements[index]
      if x == -12345 { throw StatusError(.invalidArgument, "input[\(index)] is -12345") }
      chunk.sums[0] += x * x / 2
      gradient?[index] = x
    }
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? { sums[0] * attributes.float(0) }
}

@Suite struct EngineTests {
  let registry = Registry()

  init() throws {
    try registry.add(
      makePlugin(name: "test", version: "1", functions: [makeFunction(HalfSquare.self)]))
  }

  private func evaluate(
    _ values: [Double], attributes: [String: AttributeValue] = [:], outputs: [String] = []
  ) throws -> [String: Tensor] {
    try Evaluator(registry).evaluate(
      "half_square", inputs: ["input": Tensor(values)], attributes: attributes, outputs: outputs)
  }

  @Test("a request naming no output gets the default one, attributes count")
  func defaults() throws {
    let result = try evaluate([1, 2, 3], attributes: ["scale": .int(2)])
    #expect(result.keys.sorted() == ["loss"])
    #expect(result["loss"]?.scalar == 14)
    #expect(try evaluate([])["loss"]?.scalar == 0)
  }

  @Test("what a request gets wrong is named")
  func errors() {
    func code(_ body: () throws -> Void) -> StatusError? {
      do {
        try body()
        return nil
      } catch { return error as? StatusError }
    }
    let evaluator = Evaluator(registry)
    #expect(code { _ = try evaluator.evaluate("nope", inputs: [:]) }?.code == .notFound)
    let wide = code {
      _ = try evaluator.evaluate(
        "half_square", inputs: ["input": Tensor([1.0], shape: Array(repeating: 1, count: 65))])
    }
    #expect(wide?.message == "half_square: input has 65 dimensions, over the limit of 64")
    let missing = code { _ = try evaluator.evaluate("half_square", inputs: [:]) }
    #expect(missing?.message == "half_square: the input `input` is missing")
    let type = code {
      _ = try evaluator.evaluate("half_square", inputs: ["input": Tensor([Int64(1)])])
    }
    #expect(type?.message == "half_square: input is int64, expected float64")
    #expect(code { _ = try evaluate([1], attributes: ["scal": .int(1)]) }?.code == .invalidArgument)
    let outside = code { _ = try evaluate([1], attributes: ["scale": .float(11)]) }
    #expect(outside?.message == "half_square: scale is 11.0, outside [0.0, 10.0]")
    #expect(code { _ = try evaluate([1], outputs: ["grad.weight"]) }?.code == .unimplemented)
    #expect(code { _ = try evaluate([1], outputs: ["grad.x"]) }?.code == .invalidArgument)
    #expect(code { _ = try evaluate([1], outputs: ["loss", "loss"]) }?.code == .invalidArgument)
    #expect(
      code {
        try registry.add(
          makePlugin(
            name: "again", version: "1", functions: [makeFunction(HalfSquare.self)]))
      }?.code
        == .alreadyExists)
  }

  @Test("the lowest failing chunk's error is the call's, however many fail")
  func lowestError() throws {
    var values = [Double](repeating: 1, count: 200_000)
    values[150_000] = -12345
    values[60_000] = -12345
    for _ in 0..<20 {
      let error = scheduled(values, workers: 4).error
      #expect(error?.message == "half_square: input[60000] is -12345")
    }
  }

  @Test("inline and any number of workers give the same bits")
  func determinism() throws {
    var generator = SystemRandomNumberGenerator()
    let values = (0..<100_000).map { _ in Double.random(in: -1e8...1e8, using: &generator) }
    let alone = try evaluate(values, outputs: ["loss", "grad.input"])
    for workers in [1, 2, 3, 8] {
      let (error, loss, gradient) = scheduled(values, workers: workers)
      #expect(error == nil)
      #expect(loss.bitPattern == alone["loss"]?.scalar?.bitPattern)
      #expect(gradient == values)
    }
  }

  @Test("a call past its deadline or stopped ends so and runs no further chunk")
  func stops() {
    let values = [Double](repeating: 1, count: 500_000)
    #expect(scheduled(values, workers: 2, deadline: 1).error?.code == .deadlineExceeded)
    #expect(scheduled(values, workers: 2, stop: true).error?.code == .cancelled)
  }

  @Test("sums of batches merge without rounding")
  func exactMerge() throws {
    let entry = try #require(registry.table.entries.first)
    var total = Accumulator(entry)
    for part in [1e300, 1.0, -1e300, 1.0] {
      try total.merge(Accumulator(sums: [ExactSum(part)]), entry)
    }
    var sum = 0.0
    withUnsafeMutablePointer(to: &sum) { total.write(to: $0) }
    #expect(sum == 2)
  }

  private func scheduled(
    _ values: [Double], workers: Int, deadline: UInt64 = .max, stop: Bool = false
  ) -> (error: StatusError?, loss: Double, gradient: [Double]) {
    let threads = WorkerThreads(workers: workers)
    defer { threads.stop() }
    guard let entry = registry.table.entries.first else { return (nil, .nan, []) }
    let evaluation = Evaluation(entry)
    let tensor = Tensor(values)
    let shape = UnsafeMutablePointer<Int64>.allocate(capacity: 1)
    defer { shape.deallocate() }
    shape.pointee = Int64(values.count)
    let view = TensorView(
      data: tensor.buffer.base, shape: UnsafeBufferPointer(start: shape, count: 1),
      count: values.count, dataType: .float64)
    do throws(StatusError) {
      try set(evaluation, "input", view)
      try want(evaluation, "loss")
      try want(evaluation, "grad.input")
      try evaluation.makePlan()
    } catch { return (error, .nan, []) }
    let results = AlignedBuffer.zeroed(count: evaluation.plan.resultBytes)
    do throws(StatusError) {
      try evaluation.bind(results: results.base, workspace: nil)
    } catch { return (error, .nan, []) }
    evaluation.deadline = deadline
    if stop { evaluation.stop() }
    let isDone = Atomic<Bool>(false)
    threads.submit(evaluation, group: WorkGroup()) { _ in
      isDone.store(true, ordering: .releasing)
    }
    while !isDone.load(ordering: .acquiring) {}
    let loss = evaluation.result(0).view.elements(as: Double.self).pointee
    let gradient = evaluation.result(1).view.elements(as: Double.self)
    return (
      evaluation.error, loss, Array(UnsafeBufferPointer(start: gradient, count: values.count))
    )
  }

  private func set(_ evaluation: Evaluation, _ name: StaticString, _ view: TensorView)
    throws(StatusError)
  {
    try evaluation.request.setInput(
      UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), view)
  }

  private func want(_ evaluation: Evaluation, _ name: StaticString) throws(StatusError) {
    try evaluation.request.want(
      UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
  }
}
