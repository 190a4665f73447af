import LossdPluginHost
import LossdTensor
import Synchronization

/// Bytes in flight of one connection, against its own limit and the daemon's. Reserving is confined to
/// the connection's loop; releasing may happen anywhere.
final class MemoryAccount: Sendable {
  let bytesMax: Int
  let budget: MemoryBudget
  private let used = Atomic<Int>(0)

  init(bytesMax: Int, budget: MemoryBudget) {
    self.bytesMax = bytesMax
    self.budget = budget
  }

  var bytesInFlight: Int { used.load(ordering: .relaxed) }

  /// Whether so many bytes could be had if nothing else were in flight.
  func canEverFit(_ bytes: Int) -> Bool { bytes <= bytesMax && bytes <= budget.bytesMax }

  /// Whether `bytes` were free; then they are taken.
  func reserve(_ bytes: Int) -> Bool {
    let before = used.add(bytes, ordering: .relaxed).oldValue
    if before + bytes <= bytesMax && budget.reserve(bytes) { return true }
    used.subtract(bytes, ordering: .relaxed)
    return false
  }

  func release(_ bytes: Int) {
    used.subtract(bytes, ordering: .relaxed)
    budget.release(bytes)
  }
}

/// A big buffer on a connection's account: goes back to where it came from, and its bytes to the account, with
/// the last reference.
///
/// `@unchecked Sendable`: like `AlignedBuffer`, it is handed on, not used by two threads at a time.
final class PayloadBuffer: @unchecked Sendable {
  private enum Source {
    case pool(AlignedBuffer, BufferPool)
    /// Memory that a plugin's process can be shown.
    case segment(SharedSegment, SegmentPool)
  }

  private let source: Source
  private let account: MemoryAccount
  private let bytes: Int
  let base: UnsafeMutableRawPointer

  /// `bytes` are reserved on `account` already. RESOURCE_EXHAUSTED where the system has no memory for them; they are
  /// the caller's to release then.
  init(reserved bytes: Int, _ account: MemoryAccount, _ pool: BufferPool) throws(StatusError) {
    let buffer = try pool.take(bytes)
    self.bytes = bytes
    self.account = account
    source = .pool(buffer, pool)
    base = buffer.base
  }

  /// A segment that `pool` has lent, on the loop's thread, where it is also given back.
  init(
    reserved bytes: Int, _ account: MemoryAccount, _ segment: SharedSegment, of pool: SegmentPool
  ) {
    self.bytes = bytes
    self.account = account
    source = .segment(segment, pool)
    base = segment.base
  }

  deinit {
    switch source {
    case .pool(let buffer, let pool): pool.give(buffer)
    case .segment(let segment, let pool): pool.give(segment)
    }
    account.release(bytes)
  }

  /// nil where it is a segment.
  var aligned: AlignedBuffer? {
    if case .pool(let buffer, _) = source { return buffer }
    return nil
  }

  var segment: SharedSegment? {
    if case .segment(let segment, _) = source { return segment }
    return nil
  }
}
