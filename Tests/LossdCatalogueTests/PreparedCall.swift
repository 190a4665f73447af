import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor

/// Numbers that repeat for a seed.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  /// SplitMix64.
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// One call of a function of the catalogue, with its inputs' memory and shapes: what `Evaluator`
/// does, step by step.
final class PreparedCall {
  let evaluation: Evaluation
  private var shapes: [UnsafeMutablePointer<Int64>] = []
  private var buffers: [AlignedBuffer] = []

  init(_ entry: FunctionEntry) { evaluation = Evaluation(entry) }

  deinit { for shape in shapes { shape.deallocate() } }

  /// Memory of `count` elements, nil where there are none; false where the shape cannot be one.
  func setInput(
    _ index: Int, _ type: DataType, _ shape: [Int64], bytes: AlignedBuffer? = nil
  ) throws(StatusError) -> Bool {
    guard let count = checkedElementCount(shape, byteSize: type.byteSize) else { return false }
    let sizes = UnsafeMutablePointer<Int64>.allocate(capacity: max(shape.count, 1))
    for (dimension, size) in shape.enumerated() { sizes[dimension] = size }
    shapes.append(sizes)
    if let bytes { buffers.append(bytes) }
    try evaluation.request.setInput(
      index,
      TensorView(
        data: bytes?.base, shape: UnsafeBufferPointer(start: sizes, count: shape.count),
        count: count, dataType: type))
    return true
  }

  /// Runs it in memory that is full of `poison`; returns all of the results' memory.
  func run(poison: UInt8) throws(StatusError) -> AlignedBuffer {
    func poisoned(_ count: Int) -> AlignedBuffer {
      let buffer = AlignedBuffer(count: count + 64)
      buffer.bytes.initializeMemory(as: UInt8.self, repeating: poison)
      return buffer
    }
    let results = poisoned(evaluation.plan.resultBytes)
    let (workspace, scratch) = (
      poisoned(evaluation.plan.workspaceBytes), poisoned(evaluation.plan.scratchBytes)
    )
    try evaluation.bind(results: results.base, workspace: workspace)
    try evaluation.runInline(scratch: scratch.base)
    return results
  }
}

/// The functions of the catalogue.
func catalogueEntries() throws -> [FunctionEntry] {
  let registry = Registry()
  try registry.add(cataloguePlugin())
  return registry.table.entries
}
