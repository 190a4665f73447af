import Glibc
import LossdEngine
import LossdTensor

/// A function with its inputs, evaluated over and over: each time the whole way of a call through
/// the engine, with results in memory that is used again, as the daemon's pool has it.
final class PreparedCase {
  private let entry: FunctionEntry
  private var inputs: [(name: Name, tensor: Tensor, shape: UnsafeMutablePointer<Int64>)] = []
  private var attributes: [(name: Name, value: AttributeArgument)] = []
  private let gradient: Name
  private let wantsGradient: Bool
  private let evaluation: Evaluation
  private let threads: WorkerThreads?
  private var results = AlignedBuffer(count: 64)
  private var workspace = AlignedBuffer(count: 64)
  private var scratch = AlignedBuffer(count: 64)
  /// Calls that are timed together, where one is too short for the clock.
  private let callsPerTime: Int

  /// Of FUNCTION GRADIENT WORKERS, operands and attributes; nil where there is no such function or
  /// operand.
  init?(_ fields: [String], _ table: FunctionTable) {
    guard let workers = Int(fields[2]),
      let entry = Array(fields[0].utf8).withUnsafeBytes(table.find)
    else { return nil }
    self.entry = entry
    wantsGradient = fields[1] == "1"
    evaluation = Evaluation(entry)
    threads = workers > 0 ? WorkerThreads(workers: workers) : nil
    var made: [(Name, Tensor)] = []
    for field in fields.dropFirst(3) {
      if let sign = field.firstIndex(of: "=") {
        let text = field[field.index(after: sign)...]
        attributes.append((Name(field[..<sign]), AttributeArgument(text)))
        continue
      }
      guard let operand = random(field) else { return nil }
      made.append(operand)
    }
    guard let (_, input) = made.first else { return nil }
    callsPerTime = input.count < 1000 ? 200 : 1
    for (name, tensor) in made {
      let shape = UnsafeMutablePointer<Int64>.allocate(capacity: max(tensor.shape.count, 1))
      for (index, size) in tensor.shape.enumerated() { shape[index] = Int64(size) }
      inputs.append((name, tensor, shape))
    }
    gradient = Name("grad." + fields[3].prefix(while: { $0 != ":" }))
  }

  deinit {
    threads?.stop()
    for input in inputs { input.shape.deallocate() }
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
      try evaluation.request.setInput(name.bytes, view)
    }
    for (name, value) in attributes { try evaluation.request.setAttribute(name.bytes, value) }
    evaluation.request.wantDefault()
    if wantsGradient { try evaluation.request.want(gradient.bytes) }
    try evaluation.makePlan()
    grow(&results, evaluation.plan.resultBytes)
    grow(&workspace, evaluation.plan.workspaceBytes)
    grow(&scratch, evaluation.plan.scratchBytes)
    try evaluation.bind(results: results.base, workspace: workspace)
    // As the daemon does it.
    if let threads, evaluation.plan.cost > WorkerThreads.loneCallCost {
      let done = Flag()
      threads.submit(evaluation, group: WorkGroup()) { _ in done.raise() }
      done.wait()
    } else {
      evaluation.runToEnd(scratch: scratch.base)
    }
    if let error = evaluation.error { throw error }
  }

  private func grow(_ buffer: inout AlignedBuffer, _ count: Int) {
    if buffer.count < count { buffer = AlignedBuffer(count: count) }
  }
}

/// A name's bytes, which stay where they are for the life of the program.
private struct Name {
  let bytes: UnsafeRawBufferPointer

  init(_ text: some StringProtocol) {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: text.utf8.count, alignment: 1)
    copy.copyBytes(from: text.utf8)
    bytes = UnsafeRawBufferPointer(copy)
  }
}

extension AttributeArgument {
  fileprivate init(_ text: Substring) {
    if let number = Int64(text) {
      self = .int(number)
    } else if let number = Double(text) {
      self = .float(number)
    } else if text == "True" || text == "False" {
      self = .bool(text == "True")
    } else {
      self = .string(Name(text).bytes)
    }
  }
}

/// NAME:TYPE:SHAPE:LOW,HIGH or NAME:TYPE:SHAPE:signs: repeatable values, evenly between two.
private func random(_ operand: String) -> (Name, Tensor)? {
  let parts = operand.split(separator: ":")
  guard parts.count == 4, let type = DataType(name: String(parts[1])) else { return nil }
  let shape = parts[2].split(separator: "x").compactMap { Int($0) }
  let bounds = parts[3].split(separator: ",").compactMap { Double($0) }
  let isSigns = bounds.count != 2
  var state: UInt64 = 1
  let count = shape.reduce(1, *)
  let buffer = AlignedBuffer(count: count * type.byteSize)
  for index in 0..<count {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    let uniform = Double(state >> 11) * 0x1p-53
    let value =
      isSigns ? (uniform < 0.5 ? -1 : 1) : bounds[0] + (bounds[1] - bounds[0]) * uniform
    switch type {
    case .float32: buffer.base.storeBytes(of: Float(value), toByteOffset: 4 * index, as: Float.self)
    case .float64: buffer.base.storeBytes(of: value, toByteOffset: 8 * index, as: Double.self)
    case .float16:
      buffer.base.storeBytes(of: Float16(value), toByteOffset: 2 * index, as: Float16.self)
    case .bfloat16:
      buffer.base.storeBytes(of: BFloat16(value), toByteOffset: 2 * index, as: BFloat16.self)
    default:
      buffer.base.storeBytes(
        of: Int64(value.rounded(.down)), toByteOffset: 8 * index, as: Int64.self)
    }
  }
  return (Name(parts[0]), Tensor(dataType: type, shape: shape, buffer: buffer))
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
