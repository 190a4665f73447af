import Glibc
import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Synchronization
import Testing

/// Rows that are cut into blocks, against plain sums over the whole row.
@Suite struct LongRowTests {
  let evaluator: Evaluator

  init() throws {
    let registry = Registry()
    try registry.add(cataloguePlugin())
    evaluator = Evaluator(registry)
  }

  /// Repeatable values; `seed` is printed by a failing test's arguments.
  private func values(_ count: Int, seed: UInt64, scale: Double = 6) -> [Double] {
    var state = seed
    return (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (Double(state >> 40) / Double(1 << 24) - 0.5) * 2 * scale
    }
  }

  private func tensor(_ values: [Double], _ type: DataType, _ shape: [Int]) -> Tensor {
    switch type {
    case .float64: Tensor(values, shape: shape)
    case .float16: Tensor(values.map { Float16($0) }, shape: shape)
    case .bfloat16: Tensor(values.map { BFloat16($0) }, shape: shape)
    default: Tensor(values.map { Float($0) }, shape: shape)
    }
  }

  private func logarithms(_ x: [Double]) -> [Double] {
    let top = x.max() ?? 0
    let sum = x.reduce(0) { $0 + exp($1 - top) }
    return x.map { $0 - top - log(sum) }
  }

  /// Within a few ulps of the type, of the larger of the value and `floor`.
  private func isClose(
    _ actual: [Double], _ expected: [Double], _ type: DataType, floor: Double
  ) -> Bool {
    let epsilon =
      switch type {
      case .float64: 1e-13
      case .float32: 5e-7
      case .float16: 1e-3
      default: 8e-3
      }
    return actual.count == expected.count
      && zip(actual, expected).allSatisfy {
        abs($0 - $1) <= epsilon * max(abs($1), floor) || $0.isNaN && $1.isNaN || $0 == $1
      }
  }

  @Test(
    "softmax and its gradient of long rows, whole and strided",
    arguments: [DataType.float32, .float64, .float16, .bfloat16],
    [
      [2, 70_001, 1], [1, 70_001, 3], [1, 17_000, 66], [2, 600, 40], [1, 2000, 17], [1, 520, 2100],
    ])
  func softmax(type: DataType, shape: [Int]) throws {
    let (size, inner) = (shape[1], shape[2])
    let rows = shape[0] * inner
    let input = tensor(values(size * rows, seed: 7), type, shape)
    let upstream = tensor(values(size * rows, seed: 8, scale: 1), type, shape)
    let (x, g) = (input.doubles, upstream.doubles)
    for name in ["softmax", "log_softmax"] {
      let results = try evaluator.evaluate(
        name, inputs: ["input": input, "grad.output": upstream],
        attributes: ["dim": .int(1)], outputs: ["output", "grad.input"])
      let output = try #require(results["output"]).doubles
      let gradient = try #require(results["grad.input"]).doubles
      for row in stride(from: 0, to: rows, by: max(rows / 3, 1)) {
        let start = row / inner * size * inner + row % inner
        let places = (0..<size).map { start + $0 * inner }
        let logs = logarithms(places.map { x[$0] })
        let p = logs.map { exp($0) }
        let up = places.map { g[$0] }
        let isLog = name == "log_softmax"
        let dot = isLog ? up.reduce(0, +) : zip(up, p).reduce(0) { $0 + $1.0 * $1.1 }
        let wanted = zip(up, p).map { isLog ? $0 - $1 * dot : $1 * ($0 - dot) }
        // float32 kernels round x - max: the yardstick is the row's largest probability, as torch's
        // is.
        let floor = isLog ? 1 : max(p.max() ?? 0, type == .float16 ? 6e-5 : 0)
        #expect(
          isClose(places.map { output[$0] }, isLog ? logs : p, type, floor: floor), "\(name) \(row)"
        )
        #expect(
          isClose(places.map { gradient[$0] }, wanted, type, floor: floor),
          "\(name) gradient \(row)")
      }
    }
  }

  @Test(
    "long rows have the same bits from any number of workers",
    arguments: [[300_000, 1], [5000, 60]])
  func determinism(shape: [Int]) throws {
    let x = tensor(values(300_000, seed: 11), .float32, shape)
    let g = tensor(values(300_000, seed: 12), .float32, shape)
    let inputs = ["input": x, "grad.output": g]
    let alone = try evaluator.evaluate(
      "softmax", inputs: inputs, attributes: ["dim": .int(0)], outputs: ["output", "grad.input"])
    for workers in [1, 2, 5] {
      let together = try scheduled(inputs, workers: workers)
      for (name, bytes) in together {
        let wanted = try #require(alone[name]).bytes
        #expect(bytes.count == wanted.count && zip(bytes, wanted).allSatisfy { $0 == $1 })
      }
    }
  }

  /// `output` and `grad.input` of softmax on worker threads.
  private func scheduled(_ inputs: [String: Tensor], workers: Int) throws -> [String: [UInt8]] {
    let entry = try #require(Array("softmax".utf8).withUnsafeBytes(evaluator.registry.table.find))
    let evaluation = Evaluation(entry)
    let shape = UnsafeMutablePointer<Int64>.allocate(capacity: 2)
    defer { shape.deallocate() }
    for (name, tensor) in inputs {
      for (index, size) in tensor.shape.enumerated() { shape[index] = Int64(size) }
      let view = TensorView(
        data: tensor.buffer.base, shape: UnsafeBufferPointer(start: shape, count: 2),
        count: tensor.count, dataType: tensor.dataType)
      try Array(name.utf8).withUnsafeBytes { try evaluation.request.setInput($0, view) }
    }
    try Array("dim".utf8).withUnsafeBytes { try evaluation.request.setAttribute($0, .int(0)) }
    for name in ["output", "grad.input"] {
      try Array(name.utf8).withUnsafeBytes { try evaluation.request.want($0) }
    }
    try evaluation.makePlan()
    let results = AlignedBuffer(count: evaluation.plan.resultBytes)
    let workspace = AlignedBuffer(count: evaluation.plan.workspaceBytes)
    try evaluation.bind(results: results.base, workspace: workspace)
    let threads = WorkerThreads(workers: workers)
    let isDone = Atomic<Bool>(false)
    threads.submit(evaluation, group: WorkGroup()) { _ in
      isDone.store(true, ordering: .releasing)
    }
    while !isDone.load(ordering: .acquiring) { usleep(1000) }
    threads.stop()
    var bytes: [String: [UInt8]] = [:]
    for position in 0..<2 {
      let result = evaluation.result(position)
      bytes[String(cString: result.name)] = Array(
        UnsafeRawBufferPointer(start: result.view.data, count: result.view.byteCount))
    }
    withExtendedLifetime((inputs, results)) {}
    return bytes
  }

  @Test("a long row with +inf or NaN, or of -inf alone, is NaN; blocks of -inf count as nothing")
  func specials() throws {
    let count = 140_000
    for type in [DataType.float32, .float64] {
      var x = values(count, seed: 9)
      for index in 20_000..<90_000 { x[index] = -.infinity }
      let sparse = try call("softmax", tensor(x, type, [count]))
      #expect(sparse[30_000] == 0)
      #expect(abs(sparse.reduce(0, +) - 1) < 1e-5)
      for special in [Double.infinity, .nan] {
        var spoilt = x
        spoilt[100_000] = special
        let output = try call("log_softmax", tensor(spoilt, type, [count]))
        #expect(output.allSatisfy { $0.isNaN })
      }
      let nothing = tensor(Array(repeating: -.infinity, count: count), type, [count])
      let empty = try call("softmax", nothing)
      #expect(empty.count == count && empty.allSatisfy { $0.isNaN })
    }
  }

  @Test("the same of long rows across memory")
  func specialColumns() throws {
    let (size, rows) = (3000, 20)
    for type in [DataType.float32, .float64, .bfloat16] {
      var x = values(size * rows, seed: 13)
      // Row 1 has whole blocks of -inf, row 2 nothing else, rows 3 and 4 something that spoils
      // them.
      for index in 0..<size {
        if index < 2500 { x[index * rows + 1] = -.infinity }
        x[index * rows + 2] = -.infinity
      }
      x[17 * rows + 3] = .nan
      x[2900 * rows + 4] = .infinity
      for name in ["softmax", "log_softmax"] {
        let output = try call(name, tensor(x, type, [size, rows]), dim: 0)
        for row in 0..<rows {
          let y = (0..<size).map { output[$0 * rows + row] }
          if row >= 2 && row <= 4 {
            #expect(y.allSatisfy { $0.isNaN }, "\(name) \(type) \(row)")
          } else {
            let total = y.reduce(0) { $0 + (name == "softmax" ? $1 : exp($1)) }
            #expect(abs(total - 1) < (type == .bfloat16 ? 0.02 : 1e-5), "\(name) \(type) \(row)")
          }
          if row == 1 { #expect(y[100] == (name == "softmax" ? 0 : -.infinity)) }
        }
      }
    }
  }

  private func call(_ name: String, _ input: Tensor, dim: Int64 = -1) throws -> [Double] {
    try evaluator.evaluate(name, inputs: ["input": input], attributes: ["dim": .int(dim)])[
      "output"]?.doubles ?? []
  }
}
