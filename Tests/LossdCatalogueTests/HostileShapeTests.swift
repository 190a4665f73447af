import Glibc
import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

/// Shapes that a request of a hundred bytes can have: a tensor without elements may be of any.
@Suite struct HostileShapeTests {
  /// What is over in milliseconds.
  private static let runCostMax = 2e6

  private func seed(_ index: UInt64) -> UInt64 {
    getenv("LOSSD_SEED").flatMap { UInt64(String(cString: $0)) } ?? UInt64.random(in: 0...(1 << 40))
      &+ index
  }

  /// Dimensions that are there to overflow something, and small ones.
  private static let sizes: [Int64] = [
    0, 1, 2, 3, 5, 16, 33, 1 << 10, 1 << 31, (1 << 31) - 1, 1 << 33, 1 << 40, 100_000_000_000_000,
    1 << 58, 1 << 60, (1 << 60) + 1, (1 << 61) - 1, (1 << 62) - 1, 1 << 62, .max - 1, .max,
  ]

  private func randomShape(_ generator: inout SeededGenerator) -> [Int64] {
    switch Int.random(in: 0..<10, using: &generator) {
    case 0: return []
    case 1: return [0, HostileShapeTests.sizes.randomElement(using: &generator)!]
    case 2: return [HostileShapeTests.sizes.randomElement(using: &generator)!, 0]
    case 3:
      var shape = [Int64](repeating: 1, count: 64)
      shape[Int.random(in: 0..<64, using: &generator)] = Bool.random(using: &generator) ? 0 : 3
      return shape
    case 4: return [Int64](repeating: 2, count: 62) + [0]
    case 5:
      let rank = Int.random(in: 1...4, using: &generator)
      return (0..<rank).map { _ in Int64.random(in: 0...6, using: &generator) }
    default:
      let rank = Int.random(in: 1...5, using: &generator)
      var shape = (0..<rank).map { _ in HostileShapeTests.sizes.randomElement(using: &generator)! }
      if Int.random(in: 0..<4, using: &generator) > 0 {
        shape[Int.random(in: 0..<rank, using: &generator)] = 0
      }
      return shape
    }
  }

  /// A shape that goes with the first input's, more often than not.
  private func relatedShape(
    _ first: [Int64], _ generator: inout SeededGenerator
  ) -> [Int64] {
    switch Int.random(in: 0..<8, using: &generator) {
    case 0...2: return first
    case 3:
      var shape = first
      if !shape.isEmpty { shape.remove(at: shape.count == 1 ? 0 : 1) }
      return shape
    case 4: return first.count < 2 ? first : [first[1]]
    case 5: return first.map { Bool.random(using: &generator) ? 1 : $0 }
    case 6: return []
    default: return randomShape(&generator)
    }
  }

  @Test(
    "a plan of any shape is torch's result or INVALID_ARGUMENT, and nothing costs nothing",
    arguments: 0..<8 as Range<UInt64>)
  func everyFunction(index: UInt64) throws {
    let seed = seed(index)
    print("hostile shapes: LOSSD_SEED=\(seed)")
    var generator = SeededGenerator(seed)
    var (planned, computed) = (0, 0)
    for entry in try catalogueEntries() {
      for _ in 0..<1500 {
        switch try plan(entry, &generator, seed) {
        case .planned: planned += 1
        case .computed: computed += 1
        case .refused: break
        }
      }
    }
    #expect(
      planned + computed > 500 && computed > 200, "LOSSD_SEED=\(seed): \(planned), \(computed)")
  }

  private enum Outcome { case refused, planned, computed }

  private func plan(
    _ entry: FunctionEntry, _ generator: inout SeededGenerator, _ seed: UInt64
  ) throws -> Outcome {
    let call = PreparedCall(entry)
    let evaluation = call.evaluation
    var text = entry.name
    let first = randomShape(&generator)
    var types: [DataType] = []
    var isAllEmpty = true
    do throws(StatusError) {
      for index in 0..<entry.inputs.count {
        let isRequired = entry.inputs[index].flags & 1 != 0
        if !isRequired && Int.random(in: 0..<3, using: &generator) > 0 { continue }
        let shape = index == 0 ? first : relatedShape(first, &generator)
        // The first's type, where the function takes it.
        let mask = entry.inputs[index].data_types
        var type = DataType.allCases.randomElement(using: &generator)!
        if let first = types.first, mask & (1 << first.rawValue) != 0,
          Int.random(in: 0..<3, using: &generator) > 0
        {
          type = first
        }
        types.append(type)
        guard let count = checkedElementCount(shape, byteSize: type.byteSize) else {
          // As the daemon refuses it before.
          return .refused
        }
        // Elements have to be sent.
        if count > 4096 { return .refused }
        let bytes =
          count > 0 || Bool.random(using: &generator)
          ? AlignedBuffer.zeroed(count: count * type.byteSize) : nil
        text += " \(String(cString: entry.inputs[index].name)): \(type) \(shapeText(shape))"
        if count > 0 { isAllEmpty = false }
        _ = try call.setInput(index, type, shape, bytes: bytes)
      }
      for index in 0..<entry.attributes.count {
        text += try setAttribute(evaluation, index, &generator)
      }
      var isWanted = false
      for index in 0..<entry.outputs.count where Bool.random(using: &generator) {
        if entry.outputs[index].flags & 2 != 0 { continue }
        try evaluation.request.want(index)
        isWanted = true
      }
      if !isWanted { evaluation.request.wantDefault() }
      text += " wants \(evaluation.request.wantedOutputs)"
      try evaluation.makePlan()
    } catch {
      check(error, text, seed, isAllEmpty: isAllEmpty && !text.contains("reduction=none"))
      return .refused
    }
    if isAllEmpty && evaluation.plan.resultBytes <= 128 {
      // One row without elements is computed, whose loss is the margin.
      let scratchMax = entry.name == "triplet_margin_loss" ? 1 << 16 : 0
      #expect(evaluation.plan.scratchBytes <= scratchMax, "LOSSD_SEED=\(seed): \(text)")
      #expect(evaluation.plan.workspaceBytes == 0, "LOSSD_SEED=\(seed): \(text)")
      #expect(evaluation.plan.cost < 20_000, "LOSSD_SEED=\(seed): \(text)")
    }
    guard evaluation.plan.cost <= HostileShapeTests.runCostMax,
      evaluation.plan.resultBytes < 1 << 20,
      evaluation.plan.workspaceBytes < 1 << 20, evaluation.plan.scratchBytes < 1 << 20
    else { return .planned }
    do {
      let results = try call.run(poison: 0xEE)
      if isAllEmpty && entry.valueCount > 0 && evaluation.request.wantedOutputs == [0]
        && evaluation.result(0).view.rank == 0
      {
        let data = try #require(evaluation.result(0).view.data)
        let value = widenedElement(data, evaluation.result(0).view.dataType, at: 0)
        let isMargin = entry.name == "triplet_margin_loss" && value > 0
        #expect(
          value.isNaN || value == 0 || isMargin, "LOSSD_SEED=\(seed): \(text) gives \(value)")
      }
      withExtendedLifetime(results) {}
    } catch let error as StatusError {
      // Labels of a tensor without classes.
      #expect(error.code == .invalidArgument, "LOSSD_SEED=\(seed): \(text): \(error)")
    }
    return .computed
  }

  private func check(_ error: StatusError, _ text: String, _ seed: UInt64, isAllEmpty: Bool) {
    switch error.code {
    case .invalidArgument, .unimplemented: break
    case .resourceExhausted:
      // Rows without elements have results.
      let isOfRows = [
        "logsumexp", "cosine_similarity", "pairwise_distance", "triplet_margin_loss",
      ].contains {
        text.hasPrefix($0) && error.message.contains("the results take more than")
      }
      #expect(!isAllEmpty || isOfRows, "LOSSD_SEED=\(seed): \(text): \(error)")
      #expect(
        error.message.contains("limits.call_cost") || error.message.contains("take more than"),
        "LOSSD_SEED=\(seed): \(text): \(error)")
    default: Issue.record("LOSSD_SEED=\(seed): \(text): \(error)")
    }
  }

  private func setAttribute(
    _ evaluation: Evaluation, _ index: Int, _ generator: inout SeededGenerator
  ) throws(StatusError) -> String {
    let declared = evaluation.entry.attributes[index]
    let name = String(cString: declared.name)
    if Bool.random(using: &generator) { return "" }
    var argument = AttributeArgument.none
    var text = ""
    switch declared.type {
    case 1:
      let value = Bool.random(using: &generator)
      (argument, text) = (.bool(value), "\(value)")
    case 2:
      let value = [0, 1, -1, 2, -64, 63, .min, .max].randomElement(using: &generator)! as Int64
      (argument, text) = (.int(value), "\(value)")
    case 3:
      let value = [0, -0.0, 0.1, 1, .leastNonzeroMagnitude].randomElement(using: &generator)!
      (argument, text) = (.float(value), "\(value)")
    default:
      var choices: [String] = []
      while let choice = declared.choices?[choices.count] {
        choices.append(String(cString: choice))
      }
      let value = choices.randomElement(using: &generator) ?? ""
      let bytes = Array(value.utf8)
      var failure: StatusError?
      bytes.withUnsafeBytes {
        do throws(StatusError) { try evaluation.request.setAttribute(index, .string($0)) } catch {
          failure = error
        }
      }
      if let failure { throw failure }
      return " \(name)=\(value)"
    }
    try evaluation.request.setAttribute(index, argument)
    return " \(name)=\(text)"
  }

  private func evaluation(
    _ function: String, _ inputs: [(DataType, [Int64])], reduction: String? = nil,
    outputs: [Int] = []
  ) throws -> PreparedCall {
    let entry = try #require(try catalogueEntries().first { $0.name == function })
    let call = PreparedCall(entry)
    for (index, (type, shape)) in inputs.enumerated() {
      #expect(try call.setInput(index, type, shape))
    }
    if let reduction, let index = entry.attribute(named: "reduction") {
      let bytes = Array(reduction.utf8)
      try bytes.withUnsafeBytes { try call.evaluation.request.setAttribute(index, .string($0)) }
    }
    if outputs.isEmpty { call.evaluation.request.wantDefault() }
    for output in outputs { try call.evaluation.request.want(output) }
    return call
  }

  @Test(
    """
    losses of nothing are torch's: NaN for a mean, 0 for a sum without rows, NaN for rows without \
    classes
    """,
    arguments: [DataType.float32, .float64, .float16, .bfloat16])
  func lossesOfNothing(type: DataType) throws {
    let huge: [[Int64]] = [
      [0, 1 << 33], [0, 1 << 40], [0, 1 << 58, 2], [0, 1 << 60 - 1], [100_000_000_000_000, 0],
      [1 << 58, 0], [0, 3], [3, 0],
    ]
    for shape in huge where checkedElementCount(shape, byteSize: type.byteSize) != nil {
      for (name, sumOfRows) in [
        ("cross_entropy", 0.0), ("multilabel_soft_margin_loss", .nan), ("binary_cross_entropy", 0),
        ("binary_cross_entropy_with_logits", 0),
      ] {
        for reduction in ["mean", "sum"] {
          let call = try evaluation(
            name, [(type, shape), (type, shape)], reduction: reduction, outputs: [0, 1])
          try call.evaluation.makePlan()
          #expect(call.evaluation.plan.cost < 2000, "\(name) \(shape)")
          #expect(call.evaluation.plan.scratchBytes + call.evaluation.plan.workspaceBytes == 0)
          let results = try call.run(poison: 0xEE)
          let view = call.evaluation.result(0).view
          let value = widenedElement(try #require(view.data), type, at: 0)
          let expected = reduction == "mean" ? .nan : shape[0] == 0 ? 0 : sumOfRows
          #expect(
            value.isNaN == expected.isNaN && (value.isNaN || value == expected),
            "\(name) \(shape) \(reduction): \(value)")
          #expect(call.evaluation.result(1).view.count == 0)
          withExtendedLifetime(results) {}
        }
      }
    }
  }

  @Test("a result that has no size is INVALID_ARGUMENT that says which")
  func noSize() throws {
    for (function, inputs) in [
      ("sigmoid", [(DataType.uint8, [Int64.max, 0])]),
      ("sigmoid", [(.int8, [0, (1 << 62) - 1])]),
    ] as [(String, [(DataType, [Int64])])] {
      let call = try evaluation(function, inputs)
      #expect {
        try call.evaluation.makePlan()
      } throws: { error in
        let error = error as? StatusError
        return error?.code == .invalidArgument && error!.message.contains("output would be float32")
          && error!.message.contains("2^63 bytes")
      }
    }
  }

  @Test("rows of nothing are counted as far as anybody counts")
  func rows() throws {
    let call = try evaluation("sigmoid", [(.float16, [(1 << 62) - 1, 0])])
    try call.evaluation.makePlan()
    #expect(call.evaluation.plan.rows == 1 << 48)
  }

  @Test(
    "the likelihood's gradient of more classes than a unit of work may write is cleared in pieces")
  func longGradient() throws {
    let classes = 1 << 22 + 5
    let entry = try #require(try catalogueEntries().first { $0.name == "nll_loss" })
    let call = PreparedCall(entry)
    let input = AlignedBuffer.zeroed(count: 2 * classes * 2)
    input.base.storeBytes(of: -3 as Float16, toByteOffset: 2 * 7, as: Float16.self)
    input.base.storeBytes(
      of: -4 as Float16, toByteOffset: 2 * (2 * classes - 1), as: Float16.self)
    let target = AlignedBuffer(count: 16)
    target.base.storeBytes(of: 7, as: Int64.self)
    target.base.storeBytes(of: Int64(classes - 1), toByteOffset: 8, as: Int64.self)
    #expect(try call.setInput(0, .float16, [2, Int64(classes)], bytes: input))
    #expect(try call.setInput(1, .int64, [2], bytes: target))
    for output in 0..<2 { try call.evaluation.request.want(output) }
    try call.evaluation.makePlan()
    // The host's clearing apart, two positions.
    #expect(call.evaluation.plan.cost < 5e6)
    let results = try call.run(poison: 0xEE)
    let loss = try #require(call.evaluation.result(0).view.data).load(as: Float16.self)
    #expect(loss == 3.5)
    let gradient = try #require(call.evaluation.result(1).view.data)
    var wrong = 0
    for index in stride(from: 0, to: 2 * classes * 2, by: 4)
    where gradient.load(fromByteOffset: index, as: UInt32.self) != 0 { wrong += 1 }
    #expect(wrong == 2)
    #expect(gradient.load(fromByteOffset: 14, as: Float16.self) == -0.5)
    #expect(gradient.load(fromByteOffset: 4 * classes - 2, as: Float16.self) == -0.5)
    withExtendedLifetime((call, results)) {}
  }

  @Test("three tensors that broadcast over different dimensions are refused by their cost")
  func broadcasting() throws {
    let size: Int64 = 100_000
    let entry = try #require(
      try catalogueEntries().first { $0.name == "multilabel_soft_margin_loss" })
    let call = PreparedCall(entry)
    let bytes = AlignedBuffer.zeroed(count: 4 * Int(size))
    for (index, shape) in [(0, [size, 1, 1]), (1, [1, size, 1]), (3, [1, 1, size])] {
      #expect(try call.setInput(index, .float32, shape, bytes: bytes))
    }
    call.evaluation.request.wantDefault()
    #expect {
      try call.evaluation.makePlan()
    } throws: { error in
      let error = error as? StatusError
      return error?.code == .resourceExhausted && error!.message.contains("limits.call_cost")
        && error!.message.contains("\(Evaluation.callCostMax)")
    }
  }

  @Test(
    "operands of every function that broadcast to more than anybody could hold end in a refusal")
  func everyBroadcast() throws {
    var refused: [String] = []
    for entry in try catalogueEntries() {
      let name = String(cString: entry.name)
      guard let error = try refusalOfBroadcast(entry) else { continue }
      let isKnown = error.code == .invalidArgument || error.code == .resourceExhausted
      #expect(isKnown, "\(name): \(error)")
      if error.code == .resourceExhausted { refused.append(name) }
    }
    for name in ["triplet_margin_loss", "margin_ranking_loss", "cosine_similarity", "xlogy"] {
      #expect(refused.contains(name), "\(name) is not among \(refused)")
    }
  }

  /// How a plan ends with all results wanted of operands of 2^20 elements, each along a dimension
  /// of its own; the last dimension, that of rows, has one element.
  private func refusalOfBroadcast(_ entry: FunctionEntry) throws -> StatusError? {
    let size: Int64 = 1 << 20
    let call = PreparedCall(entry)
    let operands = (0..<entry.inputs.count).filter {
      !String(cString: entry.inputs[$0].name).hasPrefix("grad.")
    }
    for (place, index) in operands.enumerated() {
      var shape = [Int64](repeating: 1, count: operands.count + 1)
      shape[place] = size
      let isFloat = entry.inputs[index].data_types & (1 << DataType.float32.rawValue) != 0
      let type = isFloat ? DataType.float32 : .int64
      let bytes = AlignedBuffer.zeroed(count: type.byteSize * Int(size))
      guard try call.setInput(index, type, shape, bytes: bytes) else { return nil }
    }
    do {
      for index in 0..<entry.outputs.count {
        if entry.outputs[index].flags & 2 == 0 { try call.evaluation.request.want(index) }
      }
      try call.evaluation.makePlan()
    } catch {
      return error
    }
    return nil
  }
}
