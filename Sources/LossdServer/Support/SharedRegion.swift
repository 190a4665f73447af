import CLinux
import Glibc
import LossdSocket
import LossdTensor

/// Memory that a client shares with the daemon for as long as its connection or until it gives it back. The client can
/// write to it at any time: whatever serves as an index, a size or a bound is copied out first. Kept by every call
/// that uses it.
///
/// `@unchecked Sendable`: immutable but for `onFree`, which the connection sets on the loop's thread while the last
/// reference is still its own.
final class SharedRegion: @unchecked Sendable {
  /// The client's own number.
  let id: UInt64
  let base: UnsafeMutableRawPointer
  let count: Int
  let isWritable: Bool
  private let account: MemoryBudget
  /// Called when the last call has let go of it, on that one's thread.
  var onFree: (() -> Void)?

  /// INVALID_ARGUMENT for what is no such memory, RESOURCE_EXHAUSTED where it does not fit.
  init(
    _ id: UInt64, _ descriptor: borrowing Descriptor, length: UInt64, _ account: MemoryBudget
  ) throws(StatusError) {
    func text(_ reason: String) -> String { "region \(id): \(reason)" }
    if let reason = clinux_check_shared(descriptor.raw, length) {
      throw StatusError(.invalidArgument, text(String(cString: reason)))
    }
    guard let count = Int(exactly: length), account.tooSmall(for: count) == nil,
      account.reserve(count) == nil
    else {
      throw StatusError(
        .resourceExhausted,
        text(
          "\(length) bytes do not fit into the connection's \(account.bytesMax) bytes in flight now"
        ))
    }
    var writable: Int32 = 0
    guard let base = clinux_map_shared(descriptor.raw, count, &writable) else {
      account.release(count)
      throw StatusError(
        .resourceExhausted, text("cannot be mapped: \(String(cString: strerror(errno)))"))
    }
    self.id = id
    self.base = base
    self.count = count
    self.account = account
    isWritable = writable != 0
  }

  deinit {
    munmap(base, count)
    account.release(count)
    onFree?()
  }
}
