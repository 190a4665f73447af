// Times the engine in this process: reads cases from standard input, one a line, and answers each with
// the seconds of its repetitions. Benchmarks/functions.py drives it, in turn with torch; Benchmarks/plugins.py gives
// it plugins' files as arguments, whose functions are there as well.
//
//   FUNCTION DTYPE SHAPE(4096x1000) DIM GRADIENT(0|1) WORKERS(0: this thread) REPETITIONS
import Glibc
import LossdCatalogue
import LossdEngine
import LossdPluginHost
import LossdTensor
import Synchronization

/// One prepared evaluation.
struct Case {
  let entry: FunctionEntry
  var inputs: [(name: StaticString, tensor: Tensor)] = []
  let dim: Int64
  let gradient: Bool
}

func seconds(_ body: () -> Void) -> Double {
  let start = Clock.now
  body()
  return Double(Clock.now - start) * 1e-9
}

func random(_ shape: [Int], _ type: DataType, _ low: Double, _ high: Double) -> Tensor {
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

func prepare(
  _ table: FunctionTable, _ function: String, _ type: DataType, _ shape: [Int], _ dim: Int64,
  _ gradient: Bool
) -> Case? {
  let isIndex = ["cross_entropy", "nll_loss"].contains(function)
  let isProbability = function == "binary_cross_entropy"
  let found = Array(function.utf8).withUnsafeBytes { table.find($0) }
  guard let entry = found else { return nil }
  var made = Case(entry: entry, dim: dim, gradient: gradient)
  made.inputs.append(
    ("input", random(shape, type, isProbability ? 0.01 : -6, isProbability ? 0.99 : 6)))
  if isIndex {
    var positions = shape
    positions.remove(at: shape.count > 1 ? 1 : 0)
    made.inputs.append(
      ("target", random(positions, .int64, 0, Double(shape[shape.count > 1 ? 1 : 0]))))
  } else if function.hasSuffix("loss") || function.hasPrefix("binary") {
    made.inputs.append(("target", random(shape, type, 0, 1)))
  }
  return made
}

func bytes(_ text: StaticString) -> UnsafeRawBufferPointer {
  UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
}

/// Memory that is used again from repetition to repetition, as the daemon's pool does.
final class Arena {
  var results = AlignedBuffer(count: 64)
  var workspace = AlignedBuffer(count: 64)
  var scratch = AlignedBuffer(count: 64)
}

func run(_ item: Case, _ evaluation: Evaluation, _ arena: Arena, _ scheduler: Scheduler?) throws {
  evaluation.begin(item.entry)
  for (name, tensor) in item.inputs {
    try tensor.shape.map { Int64($0) }.withUnsafeBufferPointer { shape in
      // The shape is borrowed until the end of the evaluation: kept alive in `shapes`.
      let copy = UnsafeMutablePointer<Int64>.allocate(capacity: max(shape.count, 1))
      for (index, size) in shape.enumerated() { copy[index] = size }
      shapes.append(copy)
      try evaluation.setInput(
        bytes(name),
        TensorView(
          data: tensor.buffer.base, shape: .init(start: copy, count: shape.count),
          count: tensor.count, dataType: tensor.dataType))
    }
  }
  if item.entry.name.hasSuffix("softmax") {
    try evaluation.setAttribute(bytes("dim"), .int(item.dim))
  }
  evaluation.wantDefault()
  if item.gradient { try evaluation.want(bytes("grad.input")) }
  try evaluation.makePlan()
  if arena.results.count < evaluation.resultBytes {
    arena.results = AlignedBuffer(count: evaluation.resultBytes)
  }
  if arena.workspace.count < evaluation.workspaceBytes {
    arena.workspace = AlignedBuffer(count: evaluation.workspaceBytes)
  }
  if arena.scratch.count < evaluation.scratchBytes {
    arena.scratch = AlignedBuffer(count: evaluation.scratchBytes)
  }
  evaluation.bind(results: arena.results.base, workspace: arena.workspace)
  if let scheduler {
    let done = DispatchFlag()
    scheduler.submit(evaluation, group: WorkGroup()) { _ in done.raise() }
    done.wait()
  } else {
    evaluation.runToEnd(scratch: arena.scratch.base)
  }
  if let error = evaluation.error { throw error }
}

nonisolated(unsafe) var shapes: [UnsafeMutablePointer<Int64>] = []

/// Lets one thread wait for another.
final class DispatchFlag: @unchecked Sendable {
  private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
  init() { sem_init(semaphore, 0, 0) }
  deinit {
    sem_destroy(semaphore)
    semaphore.deallocate()
  }
  func raise() { sem_post(semaphore) }
  func wait() { sem_wait(semaphore) }
}

let registry = Registry()
try registry.add(cataloguePlugin())
for file in CommandLine.arguments.dropFirst() {
  _ = try PluginManager.load(file, into: registry)
}
let arena = Arena()

while let line = readLine() {
  let fields = line.split(separator: " ").map(String.init)
  guard fields.count == 7, let type = DataType(name: fields[1]), let dim = Int64(fields[3]),
    let workers = Int(fields[5]), let repetitions = Int(fields[6]),
    let item = prepare(
      registry.table, fields[0], type, fields[2].split(separator: "x").compactMap { Int($0) }, dim,
      fields[4] == "1")
  else {
    print("error bad case")
    continue
  }
  let scheduler = workers > 0 ? Scheduler(workers: workers) : nil
  let evaluation = Evaluation(item.entry)
  var times: [Double] = []
  do {
    for _ in 0..<repetitions {
      // Short ones many times over, so that the clock counts for nothing.
      let inner = item.inputs[0].tensor.count < 1000 ? 200 : 1
      var failure: (any Error)?
      let time = seconds {
        for _ in 0..<inner {
          do { try run(item, evaluation, arena, scheduler) } catch { failure = error }
        }
      }
      if let failure { throw failure }
      times.append(time / Double(inner))
    }
    print(times.map { "\($0)" }.joined(separator: " "))
    fflush(nil)
  } catch {
    print("error \(error)")
    fflush(nil)
  }
  scheduler?.stop()
}
