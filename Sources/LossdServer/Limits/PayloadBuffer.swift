import LossdPluginHost
import LossdTensor

/// Who lends segments of shared memory to calls, and takes them back. Confined to a
/// loop's thread.
protocol SegmentKeeper: AnyObject {
  /// Whether the segment is kept for another call; else the caller frees it.
  func give(_ segment: SharedSegment) -> Bool
}

/// A big buffer on a connection's account. With the last reference the memory goes back to its
/// pool, and its bytes to the account.
///
/// `@unchecked Sendable`: a buffer is handed from thread to thread, and one thread at a time uses
/// it.
final class PayloadBuffer: @unchecked Sendable {
  private enum Source {
    case pool(AlignedBuffer, BufferPool)
    /// Memory that a plugin's process can be shown.
    case segment(SharedSegment, any SegmentKeeper)
  }

  /// nil: the memory is on its way back.
  private var source: Source?
  private let account: MemoryBudget
  private let bytes: Int
  let base: UnsafeMutableRawPointer

  /// `bytes` are reserved on `account` already. RESOURCE_EXHAUSTED where the system has no memory;
  /// the caller then releases the bytes.
  init(reserved bytes: Int, _ account: MemoryBudget, _ pool: BufferPool) throws(StatusError) {
    let buffer = try pool.take(bytes)
    self.bytes = bytes
    self.account = account
    source = .pool(buffer, pool)
    base = buffer.base
  }

  /// A segment that `pool` has lent. Made and dropped on the loop's thread.
  init(
    reserved bytes: Int, _ account: MemoryBudget, _ segment: SharedSegment,
    of pool: any SegmentKeeper
  ) {
    self.bytes = bytes
    self.account = account
    source = .segment(segment, pool)
    base = segment.base
  }

  /// What no pool keeps is freed before its bytes are released: else others could hold as much
  /// again.
  deinit {
    guard let source = source.take() else { return }
    switch consume source {
    case .pool(let buffer, let pool):
      if !pool.give(buffer) && buffer.capacity >= Reaper.bytesMin {
        return Reaper.shared.free(buffer, bytes, of: account)
      }
    case .segment(let segment, let pool):
      if !pool.give(segment) && segment.capacity >= Reaper.bytesMin {
        return Reaper.shared.free(consume segment, bytes, of: account)
      }
    }
    account.release(bytes)
  }

  /// nil where the memory is a segment.
  var aligned: AlignedBuffer? {
    if case .pool(let buffer, _) = source { return buffer }
    return nil
  }

  var segment: SharedSegment? {
    if case .segment(let segment, _) = source { return segment }
    return nil
  }
}

/// The bytes of results, where they lie: one behind the other, each piece at a multiple of 64, they
/// are a response's payload.
struct ResultBytes {
  /// Results of up to so many bytes are copied behind their message, which costs less than a vector
  /// of their own.
  static let copiedBytesMax = 4 << 10

  /// The first `count` bytes of this, else of `small`.
  var buffer: PayloadBuffer?
  var small: UnsafeMutableRawPointer?
  var count = 0
  /// Then results that took an input's place in the request's payload.
  var pieces: [(offset: Int, count: Int)] = []
  var request: PayloadBuffer?
  /// All of it, gaps included.
  var total = 0
}
