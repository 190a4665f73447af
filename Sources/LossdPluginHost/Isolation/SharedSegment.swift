import CLinux
import Glibc
import LossdTensor
import Synchronization

/// Memory that this process and one that runs a plugin share, all of its pages allocated. Its size is fixed, so
/// that neither can make the other crash by shrinking it.
///
/// `@unchecked Sendable`: like `AlignedBuffer`, it is handed on, not used by two threads at a time.
public final class SharedSegment: @unchecked Sendable {
  private static let count = Atomic<UInt64>(0)

  /// Never used twice in this process.
  let id: UInt64
  public let descriptor: Int32
  public let base: UnsafeMutableRawPointer
  public let capacity: Int
  /// Whether others can read it alone.
  public let isInput: Bool

  /// RESOURCE_EXHAUSTED where there is no memory for it.
  public init(_ bytes: Int, isInput: Bool) throws(StatusError) {
    let capacity = SharedSegment.capacity(for: bytes)
    var base: UnsafeMutableRawPointer?
    let descriptor = clinux_shared_memory("lossd-tensors", capacity, isInput ? 1 : 0, &base)
    guard descriptor >= 0, let base else {
      throw StatusError(
        .resourceExhausted,
        "no \(capacity) bytes of shared memory: \(String(cString: strerror(errno)))")
    }
    id = SharedSegment.count.add(1, ordering: .relaxed).newValue
    self.descriptor = descriptor
    self.base = base
    self.capacity = capacity
    self.isInput = isInput
  }

  deinit {
    munmap(base, capacity)
    _ = close(descriptor)
  }

  /// What `bytes` are rounded up to, so that one segment serves calls of about the same size.
  public static func capacity(for bytes: Int) -> Int {
    let step = bytes > 1 << 20 ? 1 << 20 : 1 << 16
    return max(bytes + step - 1, step) / step * step
  }
}
