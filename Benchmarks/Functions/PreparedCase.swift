import Glibc
import LossdEngine
import LossdTensor

/// A function with its inputs, evaluated over and over: each time the whole way of a call through
/// the engine, with results in memory that is used again, as the daemon's pool has it.
final class PreparedCase {
  private let entry: FunctionEntry
  private typealias Input = (
    name: StaticString, tensor: Tensor, shape: UnsafeMutablePointer<Int64>
  )
  private var inputs: [Input] = []
  private let dim: Int64
  private let wantsGradient: Bool
  private let evaluation: Evaluation
  private let scheduler: Scheduler?
  private var results = AlignedBuffer(count: 64)
  private var workspace = AlignedBuffer(count: 64)
  private var scratch = AlignedBuffer(count: 64)
  /// Calls that are timed together, where one is too short for the clock.
  private let callsPerTime: Int

  /// Of FUNCTION TYPE SHAPE DIM GRADIENT WORKERS; nil where there is no such function.
  init?(_ fields: [String], _ table: FunctionTable) {
    let name = fields[0]
    guard let type = DataType(name: fields[1]), let dim = Int64(fields[3]),
      let workers = Int(fields[5]), let entry = Array(name.utf8).withUnsafeBytes(table.find)
    else { return nil }
    let shape = fields[2].split(separator: "x").compactMap { Int($0) }
    self.entry = entry
    self.dim = dim
    wantsGradient = fields[4] == "1"
    evaluation = Evaluation(entry)
    scheduler = workers > 0 ? Scheduler(workers: workers) : nil
    let count = shape.reduce(1, *)
    callsPerTime = count < 1000 ? 200 : 1
    let isProbability = name == "binary_cross_entropy"
    add("input", random(shape, type, isProbability ? 0.01 : -6, isProbability ? 0.99 : 6))
    if ["cross_entropy", "nll_loss"].contains(name) {
      let axis = shape.count > 1 ? 1 : 0
      var positions = shape
      positions.remove(at: axis)
      add("target", random(positions, .int64, 0, Double(shape[axis])))
    } else if name.hasSuffix("loss") || name.hasPrefix("binary") {
      add("target", random(shape, type, 0, 1))
    } else if wantsGradient {
      add("grad.output", random(shape, type, -1, 1))
    }
  }

  deinit {
    scheduler?.stop()
    for input in inputs { input.shape.deallocate() }
  }

  private func add(_ name: StaticString, _ tensor: Tensor) {
    let shape = UnsafeMutablePointer<Int64>.allocate(capacity: max(tensor.shape.count, 1))
    for (index, size) in tensor.shape.enumerated() { shape[index] = Int64(size) }
    inputs.append((name, tensor, shape))
  }

  /// The times of one call, after one that is not counted, until they add up to `budget`.
  func seconds(budget: Double) throws -> [Double] {
    try run()
    var times: [Double] = []
    var total = 0.0
    repeat {
      let start = Clock.now
      for _ in 0..<callsPerTime { try run() }
      let time = Double(Clock.now - start) * 1e-9
      times.append(time / Double(callsPerTime))
      total += time
    } while total < budget
    return times
  }

  private func run() throws {
    evaluation.begin(entry)
    for (name, tensor, shape) in inputs {
      let view = TensorView(
        data: tensor.buffer.base,
        shape: UnsafeBufferPointer(start: shape, count: tensor.shape.count), count: tensor.count,
        dataType: tensor.dataType)
      try evaluation.setInput(bytes(name), view)
    }
    if entry.name.hasSuffix("softmax") {
      try evaluation.setAttribute(bytes("dim"), .int(dim))
    }
    evaluation.wantDefault()
    if wantsGradient { try evaluation.want(bytes("grad.input")) }
    try evaluation.makePlan()
    grow(&results, evaluation.resultBytes)
    grow(&workspace, evaluation.workspaceBytes)
    grow(&scratch, evaluation.scratchBytes)
    try evaluation.bind(results: results.base, workspace: workspace)
    // As the daemon does it.
    if let scheduler, evaluation.cost > Scheduler.loneCallCost {
      let done = Flag()
      scheduler.submit(evaluation, group: WorkGroup()) { _ in done.raise() }
      done.wait()
    } else {
      evaluation.runToEnd(scratch: scratch.base)
    }
    if let error = evaluation.error { throw error }
  }

  private func grow(_ buffer: inout AlignedBuffer, _ count: Int) {
    if buffer.count < count { buffer = AlignedBuffer(count: count) }
  }

  private func bytes(_ text: StaticString) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
  }
}

/// Repeatable values, evenly between two.
private func random(_ shape: [Int], _ type: DataType, _ low: Double, _ high: Double) -> Tensor {
  var state: UInt64 = 1
  let count = shape.reduce(1, *)
  let buffer = AlignedBuffer(count: count * type.byteSize)
  for index in 0..<count {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    let value = low + (high - low) * Double(state >> 11) * 0x1p-53
    switch type {
    case .float32: buffer.base.storeBytes(of: Float(value), toByteOffset: 4 * index, as: Float.self)
    case .float64: buffer.base.storeBytes(of: value, toByteOffset: 8 * index, as: Double.self)
    case .float16:
      buffer.base.storeBytes(of: Float16(value), toByteOffset: 2 * index, as: Float16.self)
    case .bfloat16:
      buffer.base.storeBytes(of: BFloat16(value), toByteOffset: 2 * index, as: BFloat16.self)
    default: buffer.base.storeBytes(of: Int64(value), toByteOffset: 8 * index, as: Int64.self)
    }
  }
  return Tensor(dataType: type, shape: shape, buffer: buffer)
}

/// Lets one thread wait for another; `@unchecked Sendable` since the semaphore is made for that.
private final class Flag: @unchecked Sendable {
  private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
  init() { sem_init(semaphore, 0, 0) }
  deinit {
    sem_destroy(semaphore)
    semaphore.deallocate()
  }
  func raise() { sem_post(semaphore) }
  func wait() { sem_wait(semaphore) }
}
