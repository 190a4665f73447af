import CLossdPlugin
import LossdTensor

/// What a function adds up over chunks, batches or machines: a sum for each of its accumulators.
///
/// The host's own additions round nothing away (`ExactSum`); a function that merges by itself adds
/// float64 numbers as it likes.
public struct Accumulator: Sendable {
  /// Of a function whose sums the host adds; empty for one that merges by itself.
  public private(set) var sums: [ExactSum] = []
  /// Of a function that merges by itself.
  public private(set) var own: [Double] = []

  /// Of no function.
  public init() {}

  public init(_ entry: FunctionEntry) { reset(entry) }

  /// As another process or a Summary has them, one a field each.
  public init(sums: [ExactSum]) { self.sums = sums }
  public init(own: [Double]) { self.own = own }

  public var isEmpty: Bool { sums.isEmpty && own.isEmpty }

  /// Whether it can be a sum of this function.
  public func belongs(to entry: FunctionEntry) -> Bool {
    sums.count == (entry.mergesByItself ? 0 : entry.accumulatorCount)
      && own.count == (entry.mergesByItself ? entry.accumulatorCount : 0)
  }

  /// Makes it the sum of nothing; does not allocate where it was one of as many fields.
  public mutating func reset(_ entry: FunctionEntry) {
    if belongs(to: entry) {
      for index in sums.indices { sums[index].clear() }
      for index in own.indices { own[index] = 0 }
    } else {
      let count = entry.accumulatorCount
      sums = Array(repeating: ExactSum(), count: entry.mergesByItself ? 0 : count)
      own = Array(repeating: 0, count: entry.mergesByItself ? count : 0)
    }
  }

  /// Adds one part of a function that merges by itself. Throws what its merge failed with.
  mutating func add(
    _ part: UnsafePointer<Double>, _ entry: FunctionEntry
  ) throws(StatusError) {
    var error = FunctionEntry.noError()
    var code = LOSSD_OK
    own.withUnsafeMutableBufferPointer {
      if let base = $0.baseAddress { code = entry.merge(base, part, &error) }
    }
    if code != LOSSD_OK { throw StatusError(entry.name, code, error) }
  }

  /// Adds the sums of a chunk, one a field, and makes them 0.
  mutating func take(_ chunk: ChunkSums) {
    for index in sums.indices {
      sums[index].merge(chunk.sums[index])
      chunk.sums[index].clear()
    }
  }

  /// Adds all of another accumulator of the same function.
  public mutating func merge(
    _ other: Accumulator, _ entry: FunctionEntry
  ) throws(StatusError) {
    if other.isEmpty { return }
    precondition(other.belongs(to: entry))
    for index in sums.indices { sums[index].merge(other.sums[index]) }
    if sums.isEmpty {
      var failure: StatusError?
      other.own.withUnsafeBufferPointer { parts in
        guard let base = parts.baseAddress else { return }
        do throws(StatusError) { try add(base, entry) } catch { failure = error }
      }
      if let failure { throw failure }
    }
  }

  /// The sums rounded to float64, one a field.
  public var values: [Double] { sums.isEmpty ? own : sums.map(\.value) }

  /// The sums rounded to float64, one a field.
  public mutating func write(to values: UnsafeMutablePointer<Double>) {
    for index in sums.indices { values[index] = sums[index].rounded() }
    for index in own.indices { values[index] = own[index] }
  }

  /// Calls `body` with the sums where they lie, as those of a chunk.
  mutating func withChunk(
    plain: UnsafeMutablePointer<Double>, _ body: (ChunkSums) throws(StatusError) -> Void
  ) throws(StatusError) {
    try sums.withUnsafeMutableBufferPointer { (buffer) throws(StatusError) in
      try body(ChunkSums(sums: buffer.baseAddress, plain: plain))
    }
  }
}

/// plugin.h's lossd_sums: what a chunk may add to.
struct KeptSums {
  private let sums: UnsafeMutablePointer<ExactSum>?
  private let count: Int

  /// `sums`: nil of a function that merges by itself.
  init(_ sums: UnsafeMutablePointer<ExactSum>?, _ entry: FunctionEntry) {
    self.sums = sums
    count = entry.accumulatorCount
  }

  /// Adds numbers to an accumulator; to none where the function has not declared it.
  func add(_ values: UnsafePointer<Double>, _ count: Int, to index: Int) {
    guard let sums, index < self.count, count > 0 else { return }
    sums[index].add(values, count)
  }
}

/// What a chunk of a function whose sums the host adds is given for them, a field each. A thread
/// has one for all its chunks. All zeros between two of them.
struct ChunkSums {
  /// nil where there is none.
  let sums: UnsafeMutablePointer<ExactSum>!
  /// Of the accumulators of kind PLAIN.
  let plain: UnsafeMutablePointer<Double>

  /// Of one thread, until it ends.
  static func allocate() -> ChunkSums {
    let count = Int(LOSSD_ACCUMULATORS_MAX)
    let chunk = ChunkSums(sums: .allocate(capacity: count), plain: .allocate(capacity: count))
    chunk.sums.initialize(repeating: ExactSum(), count: count)
    chunk.plain.initialize(repeating: 0, count: count)
    return chunk
  }

  func deallocate() {
    sums.deallocate()
    plain.deallocate()
  }

  /// Adds what a chunk has left in `plain` to the sums.
  func settle(_ entry: FunctionEntry) {
    for index in 0..<entry.accumulatorCount {
      if !entry.isSum(index) { sums[index].add(plain[index]) }
      plain[index] = 0
    }
  }

  /// Forgets what a chunk that has failed has left.
  func clear(_ entry: FunctionEntry) {
    for index in 0..<entry.accumulatorCount {
      sums[index].clear()
      plain[index] = 0
    }
  }
}
