import LossdClient
import LossdFiles
import LossdTensor
import LossdWire
import Synchronization

/// Places for batches in memory that the daemon shares: a batch is read from the files straight
/// into one while the daemon computes those in the others, and results come back there.
final class BatchMemory: Sendable {
  /// Tensors of fewer bytes go by the socket.
  static let bytesMin = 256 << 10
  /// One is read, one is computed, one waits.
  private static let countMax = 3
  /// Bytes of all places.
  private static let bytesMax = 1 << 30

  private let cut: [BatchRule.Input]
  /// Results that get a place, with bytes a row and the shape of one.
  private let results: [(name: String, like: StoredTensor)]
  /// Of each place; nil: there is none on the connection that calls go by now.
  private let memories: Mutex<[SharedMemory?]>
  /// Places that a batch can have.
  let count: Int
  /// Bytes of a place.
  private let bytes: Int
  /// In a memory, bytes: of each input, then of each result.
  private let offsets: [Int]
  /// Places that nobody uses, by number.
  private let free: AsyncStream<Int>
  private let giving: AsyncStream<Int>.Continuation
  /// Places whose batches have no result yet, in their order.
  private let used = Mutex<[Int]>([])

  /// Whether there are places for this result.
  func hasPlace(_ name: String) -> Bool { results.contains { $0.name == name } }

  /// Nil where batches of so many rows are small, or the daemon has no memory for two of them.
  /// - Parameter results: names of results that are to have a place, each like the input that it is
  ///   paired with.
  init?(
    _ client: Client, _ rule: BatchRule, batchSize: Int,
    results: [(name: String, like: StoredTensor)], _ retry: Retry
  ) async throws(StatusError) {
    cut = rule.cut
    self.results = results
    var bytes = 0
    var inputBytes = 0
    var offsets: [Int] = []
    for stored in cut.map(\.stored) + results.map(\.like) {
      if offsets.count == cut.count { inputBytes = bytes }
      bytes = TensorLayout.align64(bytes)
      offsets.append(bytes)
      bytes += stored.rowByteCount * batchSize
    }
    if results.isEmpty { inputBytes = bytes }
    self.offsets = offsets
    let batches = (rule.rows + batchSize - 1) / batchSize
    let wanted = min(BatchMemory.countMax, batches, BatchMemory.bytesMax / max(bytes, 1))
    var memories: [SharedMemory] = []
    while memories.count < wanted, inputBytes >= BatchMemory.bytesMin,
      let memory = try await client.sharedMemory(bytes, timeout: retry.timeLeft)
    {
      memories.append(memory)
    }
    self.memories = Mutex(memories)
    (count, self.bytes) = (memories.count, bytes)
    (free, giving) = AsyncStream.makeStream()
    // With one there would be no batch to read while another is computed.
    if count < min(2, batches) || count == 0 {
      release()
      return nil
    }
    for place in 0..<count { giving.yield(place) }
  }

  /// The numbers of places that may be written over, one after the other; ends when its task is
  /// cancelled. For one task.
  var freePlaces: AsyncStream<Int>.Iterator { free.makeAsyncIterator() }

  /// A batch is sent from the place.
  func use(_ place: Int) { used.withLock { $0.append(place) } }

  /// The first of the batches that were sent has its result: its place may be written over.
  func giveFirst() {
    let place = used.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    if let place { giving.yield(place) }
  }

  /// Makes a place's memory anew where the connection that it was of has ended. For who alone uses
  /// the place.
  func renew(_ place: Int, _ client: Client, _ retry: Retry) async throws(StatusError) {
    if let memory = memory(place), memory.isWithinReach { return }
    _ = try await client.hello(timeout: retry.timeLeft)
    let memory = try await client.sharedMemory(bytes, timeout: retry.timeLeft)
    memories.withLock { $0[place] = memory }
  }

  private func memory(_ place: Int) -> SharedMemory? { memories.withLock { $0[place] } }

  /// Reads rows of the files into a place, or into ordinary memory where it has none.
  func read(
    rows: Range<Int>, to place: Int
  ) throws(FileError) -> [(name: String, tensor: Tensor)] {
    guard let memory = memory(place) else { return try BatchMemory.read(cut, rows: rows) }
    var tensors: [(name: String, tensor: Tensor)] = []
    for (index, input) in cut.enumerated() {
      let tensor = memory.tensor(
        input.stored.dataType, [rows.count] + input.stored.rowShape, at: offsets[index])
      try input.stored.read(rows: rows, to: tensor.writableBytes)
      tensors.append((input.name, tensor))
    }
    return tensors
  }

  /// Reads rows of files into ordinary memory.
  static func read(
    _ inputs: [BatchRule.Input], rows: Range<Int>
  ) throws(FileError) -> [(name: String, tensor: Tensor)] {
    var tensors: [(name: String, tensor: Tensor)] = []
    for input in inputs {
      let buffer = AlignedBuffer(count: input.stored.rowByteCount * rows.count)
      let tensor = Tensor(
        dataType: input.stored.dataType, shape: [rows.count] + input.stored.rowShape,
        buffer: buffer)
      try input.stored.read(rows: rows, to: tensor.writableBytes)
      tensors.append((input.name, tensor))
    }
    return tensors
  }

  /// Where the results of a batch of so many rows go.
  func results(rows count: Int, at place: Int) -> [String: Tensor] {
    guard let memory = memory(place) else { return [:] }
    var tensors: [String: Tensor] = [:]
    for (index, result) in results.enumerated() {
      tensors[result.name] = memory.tensor(
        result.like.dataType, [count] + result.like.rowShape, at: offsets[cut.count + index])
    }
    return tensors
  }

  /// Gives the memory back to the daemon.
  func release() {
    giving.finish()
    for memory in memories.withLock({ $0 }) { memory?.release() }
  }
}

extension StoredTensor {
  /// All of it, in memory that the daemon shares where it is big and there is some.
  func shared(with client: Client, _ retry: Retry) async throws -> Tensor {
    guard byteCount >= BatchMemory.bytesMin,
      let memory = try await client.sharedMemory(byteCount, timeout: retry.timeLeft)
    else { return tensor() }
    let tensor = memory.tensor(dataType, shape)
    try read(rows: 0..<rowCount, to: tensor.writableBytes)
    return tensor
  }
}

extension Tensor {
  /// For who fills it before anybody else has it.
  fileprivate var writableBytes: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: buffer.base + offset, count: byteCount)
  }
}
