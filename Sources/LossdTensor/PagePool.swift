import Glibc
import Synchronization

/// Memory of some kilobytes whose pages go back to the system when it is given back. What malloc
/// frees between two pieces that are in use stays resident, and `malloc_trim` holds the lock of an
/// arena for up to seconds. Blocks of one size lie side by side in slabs, which stay mapped: an
/// empty page costs no memory. Any thread.
public final class PagePool: Sendable {
  /// Sizes are powers of two between these, bytes.
  public static let blockBytesMin = 4 << 10
  public static let blockBytesMax = 1 << 20
  private static let slabBytes = 4 << 20
  /// Of each size so much keeps its pages for the next, bytes: faults take longer than a small
  /// call.
  private static let keptBytes = 2 << 20

  private struct Blocks {
    /// Free, with their pages; without them.
    var kept: [UnsafeMutableRawPointer] = []
    var empty: [UnsafeMutableRawPointer] = []
  }

  /// `@unchecked Sendable`: addresses of memory that nobody uses, behind the lock.
  private struct State: @unchecked Sendable {
    var sizes: [Blocks]
  }

  private let state: Mutex<State>

  public init() {
    let count = PagePool.size(of: PagePool.blockBytesMax) + 1
    state = Mutex(State(sizes: Array(repeating: Blocks(), count: count)))
  }

  /// The process's own.
  public static let shared = PagePool()

  /// Of 4 KiB: 0.
  private static func size(of bytes: Int) -> Int {
    let above = max(bytes, blockBytesMin) - 1
    return Int.bitWidth - above.leadingZeroBitCount - (blockBytesMin.trailingZeroBitCount)
  }

  /// What a block of at least `bytes` has, bytes. `bytes` is at most `blockBytesMax`.
  public static func capacity(for bytes: Int) -> Int { blockBytesMin << size(of: bytes) }

  /// A block of `capacity(for: bytes)` bytes, at a multiple of 4 KiB; uninitialised. nil where the
  /// system has no memory for it.
  public func take(_ bytes: Int) -> UnsafeMutableRawPointer? {
    precondition(bytes <= PagePool.blockBytesMax)
    let size = PagePool.size(of: bytes)
    return state.withLock { state in
      if let block = state.sizes[size].kept.popLast() ?? state.sizes[size].empty.popLast() {
        return block
      }
      let block = PagePool.blockBytesMin << size
      let slab = mmap(
        nil, PagePool.slabBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
      guard let slab, slab != MAP_FAILED else { return nil }
      // A huge page would be there for the first bytes that are written to a block.
      madvise(slab, PagePool.slabBytes, MADV_NOHUGEPAGE)
      for offset in stride(from: PagePool.slabBytes - block, to: 0, by: -block) {
        state.sizes[size].empty.append(slab + offset)
      }
      return slab
    }
  }

  /// Takes back what `take(bytes)` gave; nobody may use it any more.
  public func give(_ block: UnsafeMutableRawPointer, _ bytes: Int) {
    let size = PagePool.size(of: bytes)
    let capacity = PagePool.blockBytesMin << size
    let isKept = state.withLock { state in
      guard (state.sizes[size].kept.count + 1) * capacity <= PagePool.keptBytes else {
        return false
      }
      state.sizes[size].kept.append(block)
      return true
    }
    if isKept { return }
    // Without the lock: that takes microseconds.
    madvise(block, capacity, MADV_DONTNEED)
    state.withLock { $0.sizes[size].empty.append(block) }
  }
}

/// A block of the shared pool, given back with the last reference.
///
/// `@unchecked Sendable`: like `AlignedBuffer`, it is handed on, not used by two threads at a time.
public final class PageBlock: @unchecked Sendable {
  public let base: UnsafeMutableRawPointer
  private let bytes: Int

  /// At least so many bytes, at most `PagePool.blockBytesMax`; uninitialised. nil where the system
  /// has no memory for them.
  public init?(reserving bytes: Int) {
    guard let base = PagePool.shared.take(bytes) else { return nil }
    self.base = base
    self.bytes = bytes
  }

  /// The same for a size that the program chooses itself: ends the program where there is no
  /// memory.
  public init(_ bytes: Int) {
    guard let base = PagePool.shared.take(bytes) else {
      preconditionFailure("cannot allocate \(bytes) bytes")
    }
    self.base = base
    self.bytes = bytes
  }

  deinit { PagePool.shared.give(base, bytes) }
}
