import CLinux
import Glibc
import LossdEngine
import LossdSocket
import LossdTensor
import LossdWire

/// Memory that a client asked for and shares with the daemon, until the client releases the region
/// or the connection ends. The client can write to the region at any time, so an index, a size or a
/// bound is copied out before it is checked. Every call that uses the region keeps it. When the
/// last one has ended, its pages are freed, and only then does the region stop counting.
///
/// `@unchecked Sendable`: only its loop's thread changes it, and nobody changes it once a call uses
/// it.
final class SharedRegion: @unchecked Sendable {
  /// The smallest region that is made and counted, bytes.
  static let bytesMin = 64 << 10
  /// The most bytes that a client may ask for, since a file's size is signed.
  static let lengthMax = UInt64(1) << 46

  /// The client's own number.
  let id: UInt64
  /// What the client asked for, bytes.
  let count: Int
  /// The bytes that are counted: `count` in whole pages, at least `bytesMin`.
  let bytes: Int
  private let owner: UserID
  private let regions: Regions
  private let connection: RegionAccount
  private(set) var memory: UnsafeMutableRawPointer?
  /// The earliest time to free the pages, `Clock.now`'s nanoseconds.
  var due: UInt64 = 0
  var keepsPages = false
  /// The client has released the region.
  var isReleased = false
  /// Called on another thread when the region has stopped counting.
  var onFree: (@Sendable () -> Void)?

  /// Counts a region that is still to be made. INVALID_ARGUMENT for a length that no region can
  /// have, RESOURCE_EXHAUSTED where the region does not fit.
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

  /// The region's first byte. A call gets only regions that have been made.
  var base: UnsafeMutableRawPointer { memory.unsafelyUnwrapped }

  /// Makes the region and sends its descriptor with `frame`, whole or not at all. The daemon keeps
  /// the mapping and no descriptor.
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
      // The region has no pages yet.
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
