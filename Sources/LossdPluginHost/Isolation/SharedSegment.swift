import CLinux
import Glibc
import LossdTensor
import Synchronization

/// Memory that this process and one that runs a plugin share. Its size is fixed, so that neither
/// can make the other crash by shrinking it. Its pages are allocated as they are written: by the
/// kernel, which reports what it cannot have to who reads from a socket; by this process after
/// `allocate`.
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
  /// What stands for the process that has been shown it; its owner's business.
  public weak var home: AnyObject?

  /// RESOURCE_EXHAUSTED where there is no memory for it.
  public init(_ bytes: Int, isInput: Bool) throws(StatusError) {
    let capacity = SharedSegment.capacity(for: bytes)
    var base: UnsafeMutableRawPointer?
    let descriptor = clinux_shared_memory("lossd-tensors", capacity, isInput ? 1 : 0, &base)
    guard descriptor >= 0, let base else { throw SharedSegment.exhausted(capacity) }
    id = SharedSegment.count.add(1, ordering: .relaxed).newValue
    self.descriptor = descriptor
    self.base = base
    self.capacity = capacity
    self.isInput = isInput
  }

  /// Takes some 0.1 ms a MiB: a loop leaves big ones to another thread.
  deinit {
    munmap(base, capacity)
    _ = close(descriptor)
  }

  /// Frees the pages of a segment that nobody uses any more, `pieceBytes` at a time, so that other
  /// threads can change the process's mappings in between. Where the process of a plugin has an
  /// input mapped, its pages stay until that process lets go of them.
  public func freePages(pieceBytes: Int) {
    var offset = 0
    while offset < capacity {
      let count = min(pieceBytes, capacity - offset)
      // Pages of an input are sealed: they can only be let go of.
      if clinux_free_pages(base + offset, count) != 0 {
        madvise(base + offset, count, MADV_DONTNEED)
      }
      offset += count
    }
  }

  /// To be called before this process writes to a part of it for the first time. RESOURCE_EXHAUSTED
  /// where there are no pages for it.
  public func allocate(_ offset: Int, _ bytes: Int) throws(StatusError) {
    if bytes > 0 && clinux_allocate(descriptor, base, offset, bytes) != 0 {
      throw SharedSegment.exhausted(bytes)
    }
  }

  private static func exhausted(_ bytes: Int) -> StatusError {
    StatusError(
      .resourceExhausted, "no \(bytes) bytes of shared memory: \(String(cString: strerror(errno)))")
  }

  /// What `bytes` are rounded up to, so that one segment serves calls of about the same size.
  public static func capacity(for bytes: Int) -> Int {
    let step = bytes > 1 << 20 ? 1 << 20 : 1 << 16
    return max(bytes + step - 1, step) / step * step
  }
}
