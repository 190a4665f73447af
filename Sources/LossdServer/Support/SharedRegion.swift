import CLinux
import Glibc
import LossdEngine
import LossdSocket
import LossdTensor
import LossdWire

/// Memory that a client asked for and shares with the daemon for as long as its connection, or
/// until it gives it back. The client can write to it at any time: whatever serves as an index, a
/// size or a bound is copied out first. Kept by every call that uses it; then its pages are freed,
/// and only then is it counted no longer.
///
/// `@unchecked Sendable`: changed on its loop's thread alone, and no more once a call uses it.
final class SharedRegion: @unchecked Sendable {
  /// Less is neither made nor counted, bytes.
  static let bytesMin = 64 << 10
  /// What a client may ask for, bytes: a file's size is signed.
  static let lengthMax = UInt64(1) << 46

  /// The client's own number.
  let id: UInt64
  /// What the client asked for, bytes.
  let count: Int
  /// What is counted, bytes: `count` in whole pages, `bytesMin` at least.
  let bytes: Int
  private let owner: UserID
  private let regions: Regions
  private let connection: RegionAccount
  private(set) var memory: UnsafeMutableRawPointer?
  /// When its pages may be freed, `Clock.now`'s nanoseconds.
  var due: UInt64 = 0
  var keepsPages = false
  /// The client has given it back.
  var isReleased = false
  /// Called when it is counted no longer, on another thread.
  var onFree: (@Sendable () -> Void)?

  /// Counts a region that is still to be made. INVALID_ARGUMENT for a length that none can have,
  /// RESOURCE_EXHAUSTED where it does not fit.
  init(
    _ id: UInt64, length: UInt64, _ owner: UserID, _ regions: Regions,
    _ connection: RegionAccount, _ limits: ServerLimits
  ) throws(StatusError) {
    func text(_ reason: String) -> String { "region \(id): \(reason)" }
    if length == 0 { throw StatusError(.invalidArgument, text("its length is 0")) }
    if length > SharedRegion.lengthMax {
      throw StatusError(
        .resourceExhausted,
        text("its length is \(length) bytes, the most there can be are \(SharedRegion.lengthMax)"))
    }
    let page = Int(getpagesize())
    let bytes = max(SharedRegion.bytesMin, (Int(length) + page - 1) / page * page)
    guard connection.reserve(bytes) else {
      throw StatusError(
        .resourceExhausted,
        text(
          "\(bytes) bytes do not fit: the connection has \(connection.bytes) bytes of shared "
            + "memory, the limit is \(connection.bytesMax) (limits.connection_bytes)"))
    }
    do throws(StatusError) { try regions.ledger.take(bytes, owner, limits) } catch {
      connection.release(bytes)
      throw StatusError(error.code, text(error.message))
    }
    self.id = id
    count = Int(length)
    self.bytes = bytes
    self.owner = owner
    self.regions = regions
    self.connection = connection
  }

  deinit {
    let (ledger, connection, owner, bytes, onFree) = (
      regions.ledger, connection, owner, bytes, onFree
    )
    func settle() {
      ledger.give(bytes, owner)
      connection.release(bytes)
      onFree?()
    }
    guard let memory else { return settle() }
    regions.keeper.free(
      RegionKeeper.Item(memory, bytes, owner, due: due, keepsPages: keepsPages) {
        ledger.give(bytes, owner)
        connection.release(bytes)
        onFree?()
      })
  }

  /// Where it begins; a call has only regions that are there.
  var base: UnsafeMutableRawPointer { memory.unsafelyUnwrapped }

  /// Makes it and sends its descriptor along with `frame`, whole or not at all. The mapping alone
  /// is kept.
  func send(_ frame: UnsafeRawBufferPointer, _ socket: Int32) -> IOResult {
    var base: UnsafeMutableRawPointer?
    let raw = clinux_region(bytes, &base)
    guard raw >= 0, let base else { return .failed(errno) }
    let descriptor = Descriptor(adopting: raw)
    var vector = iovec(
      iov_base: UnsafeMutableRawPointer(mutating: frame.baseAddress), iov_len: frame.count)
    let outcome = withUnsafePointer(to: &vector) {
      LossdSocket.send(
        socket, UnsafeBufferPointer(start: $0, count: 1), passing: descriptor.raw)
    }
    if case .bytes = outcome {
      memory = base
    } else {
      // It has no pages yet.
      munmap(base, bytes)
    }
    return outcome
  }
}

/// What the daemon's regions share. Any thread.
final class Regions: Sendable {
  let ledger = RegionLedger()
  let keeper = RegionKeeper()
}
